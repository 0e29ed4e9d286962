/* ledger.c - time, chance, and how workers say what they do and what went wrong.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct ledger *ledger;

const char *doing_name(enum doing doing)
{
    static const char *const names[DOING_COUNT] = {"nothing", "open",   "close",   "transfer", "audit",  "push",
                                                   "pop",     "spare",  "memory",  "growth",   "thing",  "write",
                                                   "read",    "thread", "recover", "judge",    "unlink", "gc",
                                                   "replace", "cat",    "sync",    "look",     "hold",   "meet"};
    return doing < DOING_COUNT ? names[doing] : "?";
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void nap_ns(uint64_t ns)
{
    struct timespec nap = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&nap, NULL);
}

uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t below(uint64_t *state, uint64_t limit)
{
    return next_random(state) % limit;
}

bool one_in(uint64_t *state, uint64_t n)
{
    return below(state, n) == 0;
}

/* Of what this thread does now, for the sentence of a fault: did it wait, or run in circles? */
static _Thread_local uint64_t begun_ns, begun_cpu_ns;
static _Thread_local enum doing begun;

static uint64_t cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

void begin_doing(struct worker *worker, enum doing doing)
{
    begun = doing;
    begun_ns = now_ns();
    begun_cpu_ns = cpu_ns();
    atomic_store(&worker->seat->since_ns, now_ns());
    atomic_store(&worker->seat->doing, doing);
}

void end_doing(struct worker *worker, enum doing doing)
{
    atomic_fetch_add(&worker->seat->done[doing], 1);
    atomic_store(&worker->seat->wants, 0);
    atomic_store(&worker->seat->since_ns, now_ns());
    atomic_store(&worker->seat->doing, DOING_NOTHING);
}

void fault(const char *format, ...)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&ledger->faulty, &none, 1)) {
        va_list arguments;
        va_start(arguments, format);
        int length = snprintf(ledger->fault, sizeof ledger->fault,
                              "pid %d, %llu ms into %s (%llu of them running): ", (int)getpid(),
                              (unsigned long long)((now_ns() - begun_ns) / 1000000u), doing_name(begun),
                              (unsigned long long)((cpu_ns() - begun_cpu_ns) / 1000000u));
        (void)vsnprintf(ledger->fault + length, sizeof ledger->fault - (size_t)length, format, arguments);
        va_end(arguments);
        atomic_store(&ledger->faulty, 2);
    }
    _exit(3);
}

int64_t must(int64_t result, const char *what)
{
    if (result < 0)
        fault("%s: %s: %s", what, cove_errname((int)result), cove_last_error());
    return result;
}
