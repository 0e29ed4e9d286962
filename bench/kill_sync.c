/* kill_sync.c - rows about death: of who holds a fair mutex, reads, writes, owns a permit, is a party of a barrier.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The peers of these (pthread's rwlock and barrier, sem_t) would wait for ever. */
#include "kill.h"

#include <errno.h>
#include <string.h>

enum { WORDS = 8 };

const char *kill_segment_name;
cove_segment *kill_segment;

void kill_check(int64_t result, const char *what)
{
    if (result < 0)
        fail_row("%s: %s: %s", what, cove_errname((int)result), cove_last_error());
}

void kill_open(void)
{
    kill_check(cove_open(&kill_segment, kill_segment_name, NULL), "cove_open");
}

void kill_close(void)
{
    kill_check(cove_close(kill_segment), "cove_close");
}

static void woken(int result, int expected, const char *what)
{
    kill_page->woken_ns = now_ns();
    if (result != expected)
        fail_row("%s: %s where its holder was killed: %s", what, cove_errname(result), cove_last_error());
}

/* ---- fair mutex ---- */

static cove_mutex *mutex;

static void fair_prepare(void)
{
    struct cove_sync_options options = {.fair = 1};

    kill_open();
    kill_check(cove_mutex_open_in(&mutex, kill_segment, "fair", &options), "cove_mutex_open_in");
}

static void fair_take(void)
{
    fair_prepare();
    kill_check(cove_mutex_lock(kill_segment, mutex, COVE_FOREVER), "cove_mutex_lock");
}

static void fair_wait(void)
{
    woken(cove_mutex_lock(kill_segment, mutex, COVE_FOREVER), COVE_RECOVERED, "a fair mutex");
    kill_check(cove_mutex_unlock(kill_segment, mutex), "cove_mutex_unlock");
    kill_close();
}

/* ---- rwlock: a writer waits for a reader, a reader for a writer ---- */

static struct record {
    cove_rwlock lock;
    uint64_t words[WORDS]; /* all the same, but inside a transaction */
} * record;

static void rwlock_prepare(void)
{
    static const struct cove_type type = {.name = "record", .version = 1, .size_bytes = sizeof(struct record)};
    void *object;

    kill_open();
    kill_check(cove_object_open(&object, kill_segment, "record", &type, 0), "cove_object_open");
    record = object;
}

static void reader_take(void)
{
    rwlock_prepare();
    kill_check(cove_rwlock_lock_shared(kill_segment, &record->lock, COVE_FOREVER), "cove_rwlock_lock_shared");
}

/* Half of a change, never finished. */
static void writer_take(void)
{
    rwlock_prepare();
    kill_check(cove_begin(kill_segment), "cove_begin");
    kill_check(cove_rwlock_lock(kill_segment, &record->lock, COVE_FOREVER), "cove_rwlock_lock");
    kill_check(cove_save(kill_segment, record->words, sizeof record->words), "cove_save");
    for (size_t i = 0; i < WORDS / 2; i++)
        record->words[i]++;
}

static void rwlock_end(void)
{
    for (size_t i = 1; i < WORDS; i++)
        if (record->words[i] != record->words[0])
            fail_row("half of a killed writer's change is left");
    kill_check(cove_rwlock_unlock(kill_segment, &record->lock), "cove_rwlock_unlock");
    kill_close();
}

static void write_wait(void)
{
    woken(cove_rwlock_lock(kill_segment, &record->lock, COVE_FOREVER), 0, "an rwlock, to write");
    rwlock_end();
}

static void read_wait(void)
{
    woken(cove_rwlock_lock_shared(kill_segment, &record->lock, COVE_FOREVER), COVE_RECOVERED, "an rwlock, to read");
    rwlock_end();
}

/* ---- semaphore ---- */

static cove_semaphore *semaphore;

static void permit_prepare(void)
{
    struct cove_sync_options options = {.permits = 1};

    kill_open();
    kill_check(cove_semaphore_open_in(&semaphore, kill_segment, "permit", &options), "cove_semaphore_open_in");
}

static void permit_take(void)
{
    permit_prepare();
    kill_check(cove_semaphore_acquire(kill_segment, semaphore, COVE_FOREVER), "cove_semaphore_acquire");
}

static void permit_wait(void)
{
    woken(cove_semaphore_acquire(kill_segment, semaphore, COVE_FOREVER), 0, "a semaphore");
    kill_check(cove_semaphore_release(kill_segment, semaphore), "cove_semaphore_release");
    kill_close();
}

/* ---- barrier ---- */

#define A_MOMENT_NS 1000000

static cove_barrier *barrier;

static void barrier_prepare(void)
{
    kill_open();
    kill_check(cove_barrier_open_in(&barrier, kill_segment, "barrier", NULL), "cove_barrier_open_in");
}

/* Who has come once is a party. */
static void barrier_take(void)
{
    barrier_prepare();
    int result = cove_barrier_wait(kill_segment, barrier, 2, A_MOMENT_NS);
    if (result != -ETIMEDOUT)
        fail_row("a barrier of two was passed by one: %s", cove_errname(result));
}

static void barrier_wait(void)
{
    woken(cove_barrier_wait(kill_segment, barrier, 2, COVE_FOREVER), COVE_EPEER, "a barrier");
    kill_check(cove_barrier_reset(kill_segment, barrier), "cove_barrier_reset");
    kill_check(cove_barrier_leave(kill_segment, barrier), "cove_barrier_leave");
    kill_close();
}

/* ---- rows ---- */

static void run(void (*take)(void), void (*prepare)(void), void (*wait)(void), const struct settings *settings,
                struct report *report)
{
    struct hold hold = {.name = "cove", .role = ROLE_COVE, .take = take, .prepare = prepare, .wait = wait};

    report->goal = 10;
    kill_run(&hold, 1, settings->small_kills, 0, settings, report);
}

void row_kill_fair(const struct settings *settings, struct report *report)
{
    run(fair_take, fair_prepare, fair_wait, settings, report);
}

void row_kill_reader(const struct settings *settings, struct report *report)
{
    run(reader_take, rwlock_prepare, write_wait, settings, report);
}

void row_kill_writer(const struct settings *settings, struct report *report)
{
    run(writer_take, rwlock_prepare, read_wait, settings, report);
}

void row_kill_permit(const struct settings *settings, struct report *report)
{
    run(permit_take, permit_prepare, permit_wait, settings, report);
}

void row_kill_barrier(const struct settings *settings, struct report *report)
{
    run(barrier_take, barrier_prepare, barrier_wait, settings, report);
}
