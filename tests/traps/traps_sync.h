/* traps_sync.h - what the tests of traps of synchronisation share: who sleeps, what is never to come, the old locks.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * "He waits for ever" cannot be waited for. What is asserted instead is what the kernel knows at that moment: that a
 * process sleeps, and that a call which should have woken it has returned and it sleeps still. A wake-up makes a
 * process runnable before the waker's call returns, so that is no question of time. What would block for ever if it
 * were tried is tried by the form that does not wait. */
#ifndef TRAPS_SYNC_H
#define TRAPS_SYNC_H

#include "traps.h"

#include <cove.h>
#include <semaphore.h>

/* The state of a process as /proc/PID/stat has it: 'R', 'S', 'Z' ...; 0 where there is none. */
static inline char trap_state(pid_t pid)
{
    char path[64], text[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    (void)close(fd);
    text[length < 0 ? 0 : length] = '\0';
    const char *behind_name = strrchr(text, ')'); /* which may hold anything */
    return behind_name && behind_name[1] == ' ' ? behind_name[2] : 0;
}

static inline bool trap_sleeps(pid_t pid)
{
    return trap_state(pid) == 'S';
}

/* Until the process sleeps. It has said by a testing_reach that the next thing that it may sleep in is what is meant. */
#define TRAP_AWAIT_SLEEP(pid) UNTIL(trap_sleeps(pid), 5000)

/* A file of sem_open's; musl puts no "sem." before the name. */
static inline const char *trap_sem_path(const char *sem_name)
{
    static char path[400];
    (void)snprintf(path, sizeof path, "/dev/shm/sem.%s", sem_name + 1);
    if (access(path, F_OK) != 0)
        (void)snprintf(path, sizeof path, "/dev/shm%s", sem_name);
    return path;
}

static inline int trap_sem_value(sem_t *semaphore)
{
    int value = -1;
    assert_int_equal(sem_getvalue(semaphore, &value), 0);
    return value;
}

/* A semaphore in memory that forked children share, as the manual says it: pshared 1. */
static inline sem_t *trap_sem_make(unsigned value)
{
    sem_t *semaphore = testing_shared(sizeof *semaphore);
    assert_int_equal(sem_init(semaphore, 1, value), 0);
    return semaphore;
}

/* A mutex in memory that forked children share. */
static inline void trap_mutex_init(pthread_mutex_t *mutex, int robust)
{
    pthread_mutexattr_t attributes;
    assert_int_equal(pthread_mutexattr_init(&attributes), 0);
    assert_int_equal(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
    assert_int_equal(pthread_mutexattr_setrobust(&attributes, robust), 0);
    assert_int_equal(pthread_mutex_init(mutex, &attributes), 0);
    assert_int_equal(pthread_mutexattr_destroy(&attributes), 0);
}

#endif
