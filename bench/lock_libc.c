/* lock_libc.c - ways to keep others out that a C library and a kernel have, and the limits: bare words.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *   futex word  0 free, 1 taken, 2 taken and somebody may sleep: the least lock that does not spin for ever
 *   own flag    a reader says in a line of its own that it reads, and looks whether somebody writes: the least that
 *               lets readers scale. Nobody writes here: it could not be kept out without more.
 *
 * Edge W: exchange or store release by who gives it back -> compare-and-exchange acquire by who takes it. */
#include "bench.h"
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

/* ---- bare words ---- */

static inline int word_lock(_Atomic uint32_t *word)
{
    uint32_t expected = 0;

    if (atomic_compare_exchange_strong_explicit(word, &expected, 1, memory_order_acquire, memory_order_relaxed))
        return 0;
    while (atomic_exchange_explicit(word, 2, memory_order_acquire) != 0) /* edge W */
        futex_wait(word, 2);
    return 0;
}

static inline int word_unlock(_Atomic uint32_t *word)
{
    if (atomic_exchange_explicit(word, 0, memory_order_release) == 2) /* edge W */
        futex_wake(word);
    return 0;
}

LOCK_LOOPS(word, _Atomic uint32_t, word_lock(handle), word_unlock(handle))
const struct lock_way way_word = {
    .name = "futex word", .bytes = sizeof(uint32_t), .alone = word_alone, .work = word_work};

/* A flag for each process, in a line of its own; the writer's word is read by all and written by none. */
struct flags {
    _Alignas(128) _Atomic uint32_t writer, count;
    struct {
        _Alignas(128) _Atomic uint32_t reading;
    } process[64];
};

struct own_flag {
    _Atomic uint32_t *reading, *writer;
};

static void own_flag_enter(struct lock_site *site)
{
    static struct own_flag own;
    struct flags *flags = site->memory;
    /* relaxed: it only has to be another one for each */
    uint32_t number = atomic_fetch_add_explicit(&flags->count, 1, memory_order_relaxed);

    own = (struct own_flag){&flags->process[number].reading, &flags->writer};
    site->handle = &own;
}

/* The compiler is held, the processor is not: who writes would fence all readers (membarrier) before it looks. */
static inline int own_flag_lock(struct own_flag *own)
{
    atomic_store_explicit(own->reading, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    return atomic_load_explicit(own->writer, memory_order_acquire) != 0;
}

static inline int own_flag_unlock(struct own_flag *own)
{
    atomic_store_explicit(own->reading, 0, memory_order_release);
    return 0;
}

READ_LOOPS(own_flag, struct own_flag, own_flag_lock(handle), own_flag_unlock(handle))
const struct lock_way way_own_flag = {.name = "own flag",
                                      .bytes = sizeof(struct flags),
                                      .enter = own_flag_enter,
                                      .alone = own_flag_alone,
                                      .work = own_flag_work};

/* ---- POSIX threads ---- */

static int make_mutex(pthread_mutex_t *mutex, int robust)
{
    pthread_mutexattr_t attributes;
    int result = pthread_mutexattr_init(&attributes);

    if (!result)
        result = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!result)
        result = pthread_mutexattr_setrobust(&attributes, robust);
    if (!result)
        result = pthread_mutex_init(mutex, &attributes);
    return -result;
}

static int plain_make(struct lock_site *site)
{
    return make_mutex(site->memory, PTHREAD_MUTEX_STALLED);
}

static int robust_make(struct lock_site *site)
{
    return make_mutex(site->memory, PTHREAD_MUTEX_ROBUST);
}

LOCK_LOOPS(pthread, pthread_mutex_t, pthread_mutex_lock(handle), pthread_mutex_unlock(handle))
const struct lock_way way_mutex_plain = {.name = "pthread plain",
                                         .bytes = sizeof(pthread_mutex_t),
                                         .make = plain_make,
                                         .alone = pthread_alone,
                                         .work = pthread_work};
const struct lock_way way_mutex_robust = {.name = "pthread robust",
                                          .bytes = sizeof(pthread_mutex_t),
                                          .make = robust_make,
                                          .alone = pthread_alone,
                                          .work = pthread_work};

static int rwlock_make(struct lock_site *site)
{
    pthread_rwlockattr_t attributes;
    int result = pthread_rwlockattr_init(&attributes);

    if (!result)
        result = pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!result)
        result = pthread_rwlock_init(site->memory, &attributes);
    return -result;
}

#define RDLOCK pthread_rwlock_rdlock(handle)
#define WRLOCK pthread_rwlock_wrlock(handle)
#define RWUNLOCK pthread_rwlock_unlock(handle)
LOCK_LOOPS(write, pthread_rwlock_t, WRLOCK, RWUNLOCK)
READ_LOOPS(read, pthread_rwlock_t, RDLOCK, RWUNLOCK)
MIXED_LOOP(mixed, pthread_rwlock_t, WRLOCK, RWUNLOCK, RDLOCK, RWUNLOCK)
#define RWLOCK(prefix) \
    .name = "pthread rwlock", .bytes = sizeof(pthread_rwlock_t), .make = rwlock_make, .work = prefix##_work
const struct lock_way way_rwlock_write = {RWLOCK(write), .alone = write_alone};
const struct lock_way way_rwlock_read = {RWLOCK(read), .alone = read_alone};
const struct lock_way way_rwlock_mixed = {RWLOCK(mixed)};

/* ---- semaphores of one permit ---- */

static int semaphore_make(struct lock_site *site)
{
    return sem_init(site->memory, 1, 1) < 0 ? -errno : 0;
}

LOCK_LOOPS(sem, sem_t, sem_wait(handle), sem_post(handle))
const struct lock_way way_semaphore = {
    .name = "sem_t", .bytes = sizeof(sem_t), .make = semaphore_make, .alone = sem_alone, .work = sem_work};

static const char *posix_name(char name[128], const struct lock_site *site)
{
    snprintf(name, 128, "/%s", site->name);
    return name;
}

static int semaphore_named_make(struct lock_site *site)
{
    char name[128];
    sem_t *semaphore = sem_open(posix_name(name, site), O_CREAT | O_EXCL, 0600, 1);

    return semaphore == SEM_FAILED || sem_close(semaphore) < 0 ? -errno : 0;
}

static void semaphore_named_enter(struct lock_site *site)
{
    char name[128];

    site->handle = sem_open(posix_name(name, site), 0);
    if (site->handle == SEM_FAILED)
        fail_row("sem_open %s: %s", name, strerror(errno));
}

static void semaphore_named_leave(struct lock_site *site)
{
    sem_close(site->handle);
}

const struct lock_way way_semaphore_named = {.name = "sem_open",
                                             .make = semaphore_named_make,
                                             .enter = semaphore_named_enter,
                                             .alone = sem_alone,
                                             .work = sem_work,
                                             .leave = semaphore_named_leave};

/* With SEM_UNDO, as it has to be where holders may die. The key is that of a file in the row's directory, so that
 * main.c finds the semaphore there whatever happens. */
static int system_v_make(struct lock_site *site)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", site->directory, site->name);
    int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    close(fd);
    int id = semget(ftok(path, KEY_OF_FILE), 1, IPC_CREAT | IPC_EXCL | 0600);
    if (id < 0 || semop(id, &(struct sembuf){.sem_op = 1}, 1) < 0)
        return -errno;
    *(int *)site->memory = id;
    return 0;
}

#define SEMOP(op) semop(*handle, &(struct sembuf){.sem_op = op, .sem_flg = SEM_UNDO}, 1)
LOCK_LOOPS(system_v, const int, SEMOP(-1), SEMOP(1))
const struct lock_way way_system_v = {.name = "System V semop",
                                      .bytes = sizeof(int),
                                      .make = system_v_make,
                                      .alone = system_v_alone,
                                      .work = system_v_work};

/* ---- flock ---- */

struct description {
    int fd; /* opened by this process: a lock belongs to the description */
};

static int flock_make(struct lock_site *site)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", site->directory, site->name);
    int fd = open(path, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 || close(fd) < 0 ? -errno : 0;
}

static void flock_enter(struct lock_site *site)
{
    static struct description description;
    char path[256];

    snprintf(path, sizeof path, "%s/%s", site->directory, site->name);
    description.fd = open(path, O_RDWR | O_CLOEXEC);
    if (description.fd < 0)
        fail_row("%s: %s", path, strerror(errno));
    site->handle = &description;
}

static void flock_leave(struct lock_site *site)
{
    close(((struct description *)site->handle)->fd);
}

LOCK_LOOPS(flock, struct description, flock(handle->fd, LOCK_EX), flock(handle->fd, LOCK_UN))
READ_LOOPS(flock_read, struct description, flock(handle->fd, LOCK_SH), flock(handle->fd, LOCK_UN))
#define FLOCK(prefix)                                                                                          \
    .name = "flock", .make = flock_make, .enter = flock_enter, .alone = prefix##_alone, .work = prefix##_work, \
    .leave = flock_leave
const struct lock_way way_flock = {FLOCK(flock)};
const struct lock_way way_flock_read = {FLOCK(flock_read)};
