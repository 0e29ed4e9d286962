/* testing_process.c - several processes in one test, and how they wait for each other.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A spawned process is a plain fork of the test's process: it keeps the test's handler for SIGABRT, which records a
 * failed assertion in the shared page, so a failure is never lost with an exit status that nobody looked at.
 * Waiting is looking at a condition again and again: first yielding, so that a condition which is nearly there costs
 * microseconds, then in pauses of a millisecond. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing_inner.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define YIELDS_BEFORE_PAUSES 200u
#define NS_PER_S 1000000000.0

/* LeakSanitizer asks this, if it is there, before it looks. Off in spawned processes: they may die holding memory. */
int __lsan_is_turned_off(void);
static int leak_check_off;
int __lsan_is_turned_off(void)
{
    return leak_check_off || (testing_context.control != NULL &&
                              atomic_load_explicit(&testing_context.control->leaves_open, memory_order_relaxed) != 0);
}

int64_t testing_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double testing_scale(void)
{
    const char *text = getenv("COVE_TEST_SCALE");
    double scale = text != NULL ? strtod(text, NULL) : 1.0;
    return scale > 0.0 && scale < 10000.0 ? scale : 1.0; /* what is no such number counts as not given */
}

int64_t testing_scaled_ns(double seconds)
{
    return (int64_t)(seconds * testing_scale() * NS_PER_S);
}

void testing_status_text(int status, char *text, size_t text_size)
{
    if (WIFSIGNALED(status))
        snprintf(text, text_size, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, text_size, "exited with status %d", WEXITSTATUS(status));
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

pid_t testing_spawn_named(const char *name, void (*function)(void *argument), void *argument)
{
    fflush(NULL); /* or the child would print our unwritten output once more */
    pid_t pid = fork();
    if (pid < 0) {
        print_error("testing_spawn(%s): fork: %s\n", name, strerror(errno));
        fail();
    }
    if (pid == 0) {
        leak_check_off = 1;
        testing_arm_alarm();
        function(argument);
        exit(0);
    }
    return pid;
}

int testing_wait(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno == EINTR)
            continue;
        print_error("testing_wait: process %d: %s\n", (int)pid, strerror(errno));
        fail();
    }
    return status;
}

void testing_kill(pid_t pid)
{
    if (kill(pid, SIGKILL) != 0) {
        print_error("testing_kill: process %d: %s\n", (int)pid, strerror(errno));
        fail();
    }
    testing_wait(pid);
}

void testing_join_at(pid_t pid, const char *file, int line)
{
    int status = testing_wait(pid);
    if (status == 0)
        return;
    char text[128];
    testing_status_text(status, text, sizeof text);
    print_error("process %d %s\n", (int)pid, text);
    _fail(file, line);
}

void *testing_shared(size_t size_bytes)
{
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        print_error("testing_shared: %zu bytes: %s\n", size_bytes, strerror(errno));
        fail();
    }
    return memory;
}

/* ---- waiting for conditions -------------------------------------------------------------------------------------- */

struct testing_patience testing_patience_of(unsigned timeout_ms)
{
    return (struct testing_patience){testing_now_ns() + testing_scaled_ns(timeout_ms / 1000.0), 0};
}

bool testing_pause(struct testing_patience *patience)
{
    if (patience->looks++ < YIELDS_BEFORE_PAUSES) {
        sched_yield();
        return true;
    }
    if (testing_now_ns() >= patience->until_ns)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return true;
}

void testing_gave_up(const char *what, const char *file, int line)
{
    print_error("waited in vain for: %s\n", what);
    _fail(file, line);
    abort(); /* not reached in a test: its failures abort */
}

bool testing_until(bool (*condition)(void *argument), void *argument, unsigned timeout_ms)
{
    struct testing_patience patience = testing_patience_of(timeout_ms);
    while (!condition(argument)) {
        if (!testing_pause(&patience))
            return condition(argument);
    }
    return true;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static _Atomic unsigned *step_at(unsigned step)
{
    if (step >= TESTING_STEPS) {
        print_error("step %u: there are steps 0 to %u\n", step, TESTING_STEPS - 1);
        fail();
        abort(); /* not reached in a test: its failures abort */
    }
    return &testing_context.control->steps[step];
}

void testing_reach(unsigned step)
{
    /* release: what was done before the step -> testing_reached's acquire, in whoever awaits it. */
    atomic_fetch_add_explicit(step_at(step), 1u, memory_order_release);
}

unsigned testing_reached(unsigned step)
{
    return atomic_load_explicit(step_at(step), memory_order_acquire); /* partner: testing_reach */
}

void testing_await_at(unsigned step, unsigned count, const char *file, int line)
{
    /* A twentieth of the limit is kept back, so that this failure, which names the step, comes before the runner's. */
    int64_t spare_ns = (testing_context.deadline_ns - testing_now_ns()) / 20;
    struct testing_patience patience = {testing_context.deadline_ns - spare_ns, 0};
    while (testing_reached(step) < count) {
        if (testing_pause(&patience))
            continue;
        print_error("step %u was reached %u times, not %u\n", step, testing_reached(step), count);
        _fail(file, line);
    }
}
