/* signal.c - ways to tell another process that something is there: a number beside a thing that it can wait for.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * As channel types: a message of 8 bytes is stored, then signalled; the other side waits and reads it. So a wake-up
 * that is lost stops the row, and one that comes too early is seen. */
#include "channel.h"
#include "cove_site.h"

#include <cove.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

/* ---- Cove ---- */

struct cove_way {
    _Alignas(SITE_LINE) union {
        cove_event event;
        cove_semaphore semaphore;
        cove_counter counter;
        struct {
            cove_mutex lock;
            cove_condition changed;
            uint64_t count;
        } guarded;
    };
    _Alignas(64) uint64_t message;
};

static struct lock_site site_of(const struct contestant *self)
{
    return (struct lock_site){.name = self->tag, .segment = self->segment};
}

static void cove_enter(struct contestant *self)
{
    struct lock_site site = site_of(self);

    site_enter(&site);
    self->state = site.handle;
}

static void cove_leave(struct contestant *self)
{
    struct lock_site site = site_of(self);

    site_close(&site);
}

static int cove_make(struct contestant *self)
{
    cove_enter(self);
    cove_leave(self);
    return 0;
}

static struct cove_way *outgoing(const struct contestant *self)
{
    return (struct cove_way *)self->state + self->side;
}

static struct cove_way *incoming(const struct contestant *self)
{
    return (struct cove_way *)self->state + (1 - self->side);
}

static void event_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct cove_way *way = outgoing(self);

    memcpy(&way->message, data, size_bytes);
    site_check(cove_event_set(site_segment, &way->event), "cove_event_set");
}

/* Each message makes the version one more. */
static void event_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct cove_way *way = incoming(self);

    site_check(cove_event_wait_beyond(site_segment, &way->event, self->received, NULL, COVE_FOREVER),
               "cove_event_wait_beyond");
    memcpy(data, &way->message, size_bytes);
}

static void semaphore_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct cove_way *way = outgoing(self);

    memcpy(&way->message, data, size_bytes);
    site_check(cove_semaphore_post(site_segment, &way->semaphore, 1), "cove_semaphore_post");
}

static void semaphore_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct cove_way *way = incoming(self);

    site_check(cove_semaphore_wait(site_segment, &way->semaphore, COVE_FOREVER), "cove_semaphore_wait");
    memcpy(data, &way->message, size_bytes);
}

static void counter_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct cove_way *way = outgoing(self);

    memcpy(&way->message, data, size_bytes);
    site_check(cove_counter_add(site_segment, &way->counter, 1, NULL), "cove_counter_add");
}

static void counter_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct cove_way *way = incoming(self);

    site_check(cove_counter_wait(site_segment, &way->counter, (int64_t)self->received + 1, NULL, COVE_FOREVER),
               "cove_counter_wait");
    memcpy(data, &way->message, size_bytes);
}

static void condition_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct cove_way *way = outgoing(self);

    site_check(cove_mutex_lock(site_segment, &way->guarded.lock, COVE_FOREVER), "cove_mutex_lock");
    memcpy(&way->message, data, size_bytes);
    way->guarded.count++;
    site_check(cove_condition_signal(site_segment, &way->guarded.changed), "cove_condition_signal");
    site_check(cove_mutex_unlock(site_segment, &way->guarded.lock), "cove_mutex_unlock");
}

static void condition_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct cove_way *way = incoming(self);

    site_check(cove_mutex_lock(site_segment, &way->guarded.lock, COVE_FOREVER), "cove_mutex_lock");
    while (way->guarded.count == self->received)
        site_check(cove_condition_wait(site_segment, &way->guarded.changed, &way->guarded.lock, COVE_FOREVER),
                   "cove_condition_wait");
    memcpy(data, &way->message, size_bytes);
    site_check(cove_mutex_unlock(site_segment, &way->guarded.lock), "cove_mutex_unlock");
}

#define COVE_WAY .make = cove_make, .enter = cove_enter, .leave = cove_leave
const struct channel_type signal_cove_event = {COVE_WAY, .send = event_send, .receive = event_receive};
const struct channel_type signal_cove_semaphore = {COVE_WAY, .send = semaphore_send, .receive = semaphore_receive};
const struct channel_type signal_cove_counter = {COVE_WAY, .send = counter_send, .receive = counter_receive};
const struct channel_type signal_cove_condition = {COVE_WAY, .send = condition_send, .receive = condition_receive};

/* ---- POSIX threads ---- */

struct posix_way {
    _Alignas(128) sem_t semaphore;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t count;
    _Alignas(64) uint64_t message;
};

static int posix_make(struct contestant *self)
{
    struct posix_way *ways = shared_memory(2 * sizeof *ways);
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;

    if (pthread_mutexattr_init(&mutex) || pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) ||
        pthread_condattr_init(&condition) || pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED))
        return -ENOSYS;
    for (int i = 0; i < 2; i++)
        if (sem_init(&ways[i].semaphore, 1, 0) < 0 || pthread_mutex_init(&ways[i].lock, &mutex) ||
            pthread_cond_init(&ways[i].changed, &condition))
            return -ENOSYS;
    self->state = ways;
    return 0;
}

static void sem_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct posix_way *way = (struct posix_way *)self->state + self->side;

    memcpy(&way->message, data, size_bytes);
    sem_post(&way->semaphore);
}

static void sem_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct posix_way *way = (struct posix_way *)self->state + (1 - self->side);

    while (sem_wait(&way->semaphore) < 0)
        if (errno != EINTR)
            fail_row("sem_wait: %s", strerror(errno));
    memcpy(data, &way->message, size_bytes);
}

static void cond_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct posix_way *way = (struct posix_way *)self->state + self->side;

    pthread_mutex_lock(&way->lock);
    memcpy(&way->message, data, size_bytes);
    way->count++;
    pthread_cond_signal(&way->changed);
    pthread_mutex_unlock(&way->lock);
}

static void cond_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct posix_way *way = (struct posix_way *)self->state + (1 - self->side);

    pthread_mutex_lock(&way->lock);
    while (way->count == self->received)
        pthread_cond_wait(&way->changed, &way->lock);
    memcpy(data, &way->message, size_bytes);
    pthread_mutex_unlock(&way->lock);
}

const struct channel_type signal_sem = {.make = posix_make, .send = sem_send, .receive = sem_receive};
const struct channel_type signal_cond = {.make = posix_make, .send = cond_send, .receive = cond_receive};
