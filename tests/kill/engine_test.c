/* engine_test.c - shows that the stepper finds what it must find, on a toy of known faults.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The toy is a file with two numbers that must be equal, changed in three ways:
 *   naive   one store after the other: exactly the points between the two stores are wrong
 *   single  one 8-byte store changes both: no point is wrong
 *   undo    old values first into a slot, then a mark, then the change, then the mark cleared; the survivor undoes: no point
 * Every instruction is killed at, through landmarks, and the verdict of the distinct points must be that of all points:
 * the shortcut of the kill table rests on it. A loop, a system call, a thread and a hang are stepped as well. Between two system
 * calls that each change one number, the coarser way of the table must see exactly that. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stepper.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TIMEOUT_NS INT64_C(5000000000)

struct toy {
    _Atomic uint32_t pair[2]; /* must be equal */
    _Atomic uint32_t old[2];
    _Atomic uint32_t armed;
    _Atomic uint32_t loops;
};

static struct toy *toy;
static char toy_path[] = "/tmp/cove-engine-XXXXXX";
static int failures;

static void expect(int good, const char *what, long long got)
{
    printf("%s %s (%lld)\n", good ? "ok  " : "FAIL", what, got);
    failures += !good;
}

static void change_naive(void)
{
    atomic_store_explicit(&toy->pair[0], 7, memory_order_relaxed);
    atomic_store_explicit(&toy->loops, 1, memory_order_relaxed);
    atomic_store_explicit(&toy->pair[1], 7, memory_order_relaxed);
}

static void change_single(void)
{
    uint64_t both = UINT64_C(0x0000000700000007);
    __atomic_store_n((uint64_t *)(void *)toy->pair, both, __ATOMIC_RELEASE);
}

static void change_undo(void)
{
    toy->old[0] = toy->pair[0];
    toy->old[1] = toy->pair[1];
    atomic_store(&toy->armed, 1);
    atomic_store(&toy->pair[0], 7);
    atomic_store(&toy->pair[1], 7);
    atomic_store(&toy->armed, 0);
}

static void change_looping(void)
{
    for (uint32_t i = 0; i < 20; i++)
        toy->loops = i;
    (void)getppid();
    change_undo();
}

static void *thread_main(void *change)
{
    stepper_mark_begin();
    (*(void (**)(void))change)();
    stepper_mark_end();
    return NULL;
}

static int run_plain(void *change)
{
    return thread_main(change) == NULL ? 0 : 1;
}

static int run_threaded(void *change)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, change) != 0)
        return 1;
    return pthread_join(thread, NULL);
}

/* What both threads execute: each landmark in it is met by the other one, too. */
static _Atomic int beats, beat_no_more;

__attribute__((noinline)) static void beat(void)
{
    for (int i = 0; i < 4; i++)
        atomic_fetch_add(&beats, 1);
}

static void change_beating(void)
{
    usleep(1000); /* the other one is first in the code that follows */
    toy->old[0] = 5;
    beat();
    change_naive();
    beat();
}

static void *beat_main(void *unused)
{
    while (!atomic_load(&beat_no_more)) {
        beat();
        sched_yield();
    }
    return unused;
}

static int run_beside(void *change)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, beat_main, NULL) != 0)
        return 1;
    thread_main(change);
    atomic_store(&beat_no_more, 1);
    return pthread_join(thread, NULL);
}

static int run_hanging(void *change)
{
    (void)change;
    stepper_mark_begin();
    pause();
    stepper_mark_end();
    return 0;
}

static void survive(void)
{
    if (!atomic_load(&toy->armed))
        return;
    atomic_store(&toy->pair[0], toy->old[0]);
    atomic_store(&toy->pair[1], toy->old[1]);
    atomic_store(&toy->armed, 0);
}

static void reset(void)
{
    memset(toy, 0, sizeof *toy);
}

static int record(struct stepper_trace *trace, int (*run)(void *), void (**change)(void))
{
    struct stepper stepper = {0};
    struct stepper_watch watch = {.path = toy_path};
    reset();
    enum stepper_outcome outcome = stepper_start(&stepper, run, change, TIMEOUT_NS);
    if (outcome == STEPPER_REFUSED) {
        printf("SKIP: this system does not allow ptrace, so nothing can be stepped\n");
        exit(77);
    }
    if (outcome == STEPPER_AT_POINT)
        outcome = stepper_record(&stepper, trace, &watch);
    stepper_watch_free(&watch);
    printf("%.0f steps a second\n", trace->steps_per_second);
    int status = stepper_finish(&stepper);
    return outcome == STEPPER_AT_END && status == 0 && toy->pair[0] == 7 && toy->pair[1] == 7;
}

/* Kills at each point; counts the points where the survivor finds halves, also among the distinct ones alone. */
static void kill_everywhere(const struct stepper_trace *trace, int (*run)(void *), void (**change)(void),
                            size_t *halves, size_t *distinct_halves)
{
    struct stepper stepper = {0};
    *halves = *distinct_halves = 0;
    for (size_t k = 0; k <= trace->count; k++) {
        reset();
        if (stepper_start(&stepper, run, change, TIMEOUT_NS) != STEPPER_AT_POINT ||
            stepper_run_to(&stepper, trace, k) > STEPPER_AT_END)
            failures++;
        stepper_kill(&stepper);
        survive();
        int half = toy->pair[0] != toy->pair[1];
        *halves += (size_t)half;
        *distinct_halves += (size_t)(half && (trace->flags[k] & STEPPER_CHANGED));
    }
    expect(stepper.drifted == 0, "every point was reached at its recorded address", (long long)stepper.drifted);
}

static size_t count_flag(const struct stepper_trace *trace, unsigned flag)
{
    size_t count = 0;
    for (size_t k = 0; k <= trace->count; k++)
        count += (trace->flags[k] & flag) != 0;
    return count;
}

static void test_change(const char *name, int (*run)(void *), void (*change)(void), int broken)
{
    struct stepper_trace trace = {0};
    size_t halves, distinct_halves;
    printf("-- %s\n", name);
    int did = record(&trace, run, &change);
    expect(did && trace.count > 5, "the unkilled run did its work; instructions", (long long)trace.count);
    kill_everywhere(&trace, run, &change, &halves, &distinct_halves);
    expect(broken ? halves > 0 : halves == 0, "points where a survivor finds halves", (long long)halves);
    expect((halves > 0) == (distinct_halves > 0), "the distinct points say the same", (long long)distinct_halves);
    if (change == change_looping)
        expect(count_flag(&trace, STEPPER_SYSCALL) == 1, "system calls seen",
               (long long)count_flag(&trace, STEPPER_SYSCALL));
    stepper_trace_free(&trace);
}

/* Another thread meets the landmarks, too: it is not the one to be stepped. */
static void test_beside(void)
{
    void (*change)(void) = change_beating;
    struct stepper stepper = {0};
    struct stepper_trace trace = {0};
    size_t behind = 0, asleep = 0;
    printf("-- beside a thread in the same code\n");
    int did = record(&trace, run_beside, &change);
    expect(did, "the unkilled run did its work; instructions", (long long)trace.count);
    for (size_t k = 0; k <= trace.count; k++) {
        behind += (trace.flags[k] & STEPPER_CHANGED) != 0;
        if (behind == 0)
            continue;
        reset();
        if (stepper_start(&stepper, run_beside, &change, TIMEOUT_NS) != STEPPER_AT_POINT ||
            stepper_run_to(&stepper, &trace, k) > STEPPER_AT_END)
            failures++;
        stepper_kill(&stepper);
        asleep += toy->old[0] != 5;
    }
    expect(behind > 0 && asleep == 0, "points where the stepped thread had not come as far", (long long)asleep);
    stepper_trace_free(&trace);
}

/* Two calls, each of which changes one half. */
static int run_calling(void *change)
{
    (void)change;
    uint32_t seven = 7;
    int fd = open(toy_path, O_WRONLY | O_CLOEXEC);
    stepper_mark_begin();
    int good = pwrite(fd, &seven, sizeof seven, offsetof(struct toy, pair)) == sizeof seven &&
               pwrite(fd, &seven, sizeof seven, offsetof(struct toy, pair) + sizeof seven) == sizeof seven;
    stepper_mark_end();
    return !good;
}

static void test_calls(void)
{
    static const uint32_t wanted[5][2] = {{0, 0}, {0, 0}, {7, 0}, {7, 0}, {7, 7}};
    struct stepper stepper = {0};
    struct stepper_trace trace = {0};
    printf("-- from call to call\n");
    reset();
    enum stepper_outcome outcome = stepper_start(&stepper, run_calling, NULL, TIMEOUT_NS);
    if (outcome == STEPPER_AT_POINT)
        outcome = stepper_record_calls(&stepper, &trace);
    expect(outcome == STEPPER_AT_END && trace.count == 4, "stops before and after each of two calls",
           (long long)trace.count);
    expect(stepper_finish(&stepper) == 0 && toy->pair[1] == 7, "it then ends as if nobody had looked", toy->pair[1]);
    for (size_t k = 0; k <= 4; k++) {
        reset();
        int there = stepper_start(&stepper, run_calling, NULL, TIMEOUT_NS) == STEPPER_AT_POINT &&
                    stepper_run_to_call(&stepper, k) == STEPPER_AT_POINT;
        stepper_kill(&stepper);
        expect(there && toy->pair[0] == wanted[k][0] && toy->pair[1] == wanted[k][1],
               "killed there, the calls before it are made and no others; point", (long long)k);
    }
    stepper_trace_free(&trace);
}

static void test_hang_is_told(void)
{
    struct stepper stepper = {0};
    struct stepper_trace trace = {0};
    printf("-- a child that blocks\n");
    expect(stepper_start(&stepper, run_hanging, NULL, INT64_C(300000000)) == STEPPER_AT_POINT, "started", 0);
    enum stepper_outcome outcome = stepper_record(&stepper, &trace, NULL);
    expect(outcome == STEPPER_TIMEOUT, "told as a timeout after instructions", (long long)trace.count);
    stepper_kill(&stepper);
    stepper_trace_free(&trace);
}

int main(int argc, char **argv)
{
    (void)argc;
    stepper_fix_addresses(argv);
    stepper_pin(0);
    int fd = mkstemp(toy_path);
    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return 1;
    toy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (toy == MAP_FAILED)
        return 1;
    test_change("naive", run_plain, change_naive, 1);
    test_change("single store", run_plain, change_single, 0);
    test_change("undo", run_plain, change_undo, 0);
    test_change("undo, behind a loop and a system call", run_plain, change_looping, 0);
    test_change("undo, in a thread", run_threaded, change_undo, 0);
    test_change("naive, in a thread", run_threaded, change_naive, 1);
    test_beside();
    test_calls();
    test_hang_is_told();
    unlink(toy_path);
    printf("%s\n", failures == 0 ? "all good" : "FAILED");
    return failures != 0;
}
