/* ledger.c - what the processes of a trial tell each other and the harness, in memory outside every segment.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The ledger is an anonymous shared mapping, made before any fork. Each role has a phase that it alone writes, and a
 * baton that the harness alone writes; both are futex words and only grow within a trial. A victim that is killed
 * between two stores to the ledger has not acknowledged the second, so `acknowledged` is stored last. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stage.h"

#include "stepper.h"

#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINGER_NS = 3000000 };

struct ledger *ledger_make(void)
{
    void *memory = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("kill_table: ledger");
        exit(2);
    }
    return memory;
}

void ledger_reset(struct ledger *ledger)
{
    uint64_t whole = ledger->whole;
    memset(ledger, 0, sizeof *ledger);
    ledger->whole = whole;
}

static void word_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void word_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

void finding(struct stage *stage, enum verdict verdict, const char *format, ...)
{
    static const char *const role_name[ROLE_COUNT] = {"builder", "victim", "sleeper",   "second",
                                                      "middle",  "greedy", "recoverer", "probe"};
    struct ledger *ledger = stage->ledger;
    uint32_t at = atomic_fetch_add(&ledger->finding_count, 1);
    if (at >= LEDGER_FINDINGS)
        return;
    struct finding *one = &ledger->finding[at];
    one->verdict = verdict;
    int used = snprintf(one->text, sizeof one->text, "%s: ", role_name[stage->role]);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(one->text + used, sizeof one->text - (size_t)used, format, arguments);
    va_end(arguments);
}

int must(struct stage *stage, int good, const char *what)
{
    if (!good)
        finding(stage, VERDICT_CORRUPT, "%s failed: %s", what, cove_last_error());
    return good;
}

void must_have_made(struct stage *stage, int got, const char *what)
{
    stage->ledger->result[ROLE_VICTIM] = got;
    must(stage, got == COVE_CREATED || (atomic_load(&stage->ledger->stands) && got == 0), what);
}

void acknowledge(struct stage *stage, uint32_t count)
{
    atomic_store_explicit(&stage->ledger->acknowledged, count, memory_order_release);
}

void linger(struct stage *stage)
{
    if (atomic_load(&stage->ledger->stands) && stage->role != ROLE_VICTIM)
        nanosleep(&(struct timespec){.tv_nsec = LINGER_NS}, NULL);
}

void phase_tell(struct stage *stage, enum phase phase)
{
    _Atomic uint32_t *word = &stage->ledger->phase[stage->role];
    atomic_store_explicit(word, (uint32_t)phase, memory_order_release);
    word_wake(word);
}

/* No deadline: the harness kills whom it does not send on. */
void baton_wait(struct stage *stage, enum phase phase)
{
    _Atomic uint32_t *word = &stage->ledger->baton[stage->role];
    for (;;) {
        uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
        if (seen >= (uint32_t)phase)
            return;
        word_wait(word, seen, INT64_C(1000000000));
        if (getppid() == 1)
            _exit(3); /* the harness is gone */
    }
}

void baton_pass(struct ledger *ledger, enum role role, enum phase phase)
{
    atomic_store_explicit(&ledger->baton[role], (uint32_t)phase, memory_order_release);
    word_wake(&ledger->baton[role]);
}

int phase_wait(struct ledger *ledger, enum role role, enum phase phase, int64_t deadline_ns)
{
    _Atomic uint32_t *word = &ledger->phase[role];
    for (;;) {
        uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
        if (seen >= (uint32_t)phase)
            return 1;
        int64_t left_ns = deadline_ns - stepper_now_ns();
        if (left_ns <= 0)
            return 0;
        word_wait(word, seen, left_ns < 20000000 ? left_ns : 20000000);
    }
}
