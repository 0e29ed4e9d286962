/* process.h - what the tests of processes' faults share: things to fight over, and other processes in other states.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef PROCESS_H
#define PROCESS_H

#include "unit.h"

#include <signal.h>
#include <sys/syscall.h>

/* Two accounts whose sum stays, each under its lock; and what belongs to nobody else. */
struct bank {
    cove_mutex lock[3];
    int64_t cents[2];
    cove_ref ref; /* guarded by lock[0] */
};

#define BANK_CENTS INT64_C(1000)

static inline struct bank *bank_open(cove_segment *segment)
{
    return unit_object(segment, "bank", sizeof(struct bank));
}

/* Nobody else is there yet. */
static inline struct bank *bank_make(cove_segment *segment)
{
    struct bank *bank = bank_open(segment);
    bank->cents[0] = bank->cents[1] = BANK_CENTS;
    return bank;
}

/* One step of a transfer that is not committed: the locks are held, half of it is done. */
static inline void bank_begin(cove_segment *segment, struct bank *bank)
{
    EXPECT(0, cove_begin(segment));
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
    EXPECT(0, cove_save(segment, bank->cents, sizeof bank->cents));
    bank->cents[0] -= 7;
}

static inline void bank_end(cove_segment *segment, struct bank *bank)
{
    bank->cents[1] += 7;
    EXPECT(0, cove_commit(segment));
}

static inline void bank_transfer(cove_segment *segment, struct bank *bank)
{
    bank_begin(segment, bank);
    bank_end(segment, bank);
}

/* Under both locks: the sum is what it always was. */
static inline void bank_audit(cove_segment *segment, struct bank *bank, int expected)
{
    EXPECT(expected, cove_mutex_lock(segment, &bank->lock[0], unit_patience()));
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[1], unit_patience()));
    assert_int_equal(bank->cents[0] + bank->cents[1], 2 * BANK_CENTS);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[1]));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
}

/* Nothing of anybody else is left in it: one member, alive, and as much memory free as before. */
static inline void assert_alone(cove_segment *segment, uint64_t free_bytes)
{
    (void)EXPECT_GOOD(cove_recover(segment));
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.members_alive, 1);
    assert_int_equal(info.members_dead, 0);
    assert_int_equal(info.heap_free_bytes, free_bytes);
    unit_sound(segment);
}

/* Stopped by SIGSTOP, and known to be. */
static inline void stop_process(pid_t pid)
{
    int status = 0;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

/* "(pid 123", as the sentences name a process. */
static inline const char *pid_phrase(pid_t pid)
{
    static char text[32];
    (void)snprintf(text, sizeof text, "(pid %d", (int)pid);
    return text;
}

/* A child by the system call alone: no handler of pthread_atfork runs. */
static inline pid_t raw_fork(void)
{
#ifdef SYS_fork
    return (pid_t)syscall(SYS_fork);
#else
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

#endif
