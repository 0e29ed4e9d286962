/* kill.c - how long after kill() a waiter goes on: one round after the other.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * In each round a waiter and a victim are born. The victim takes what the waiter wants, changes something half, and
 * stays. When the kernel says that the waiter sleeps, and a while later that differs from round to round (so that
 * kills do not keep step with the waiter's slices), the victim is killed. The time runs from just before kill() to the
 * waiter's next instruction behind its wait.
 *
 *   waiter   prepare -> ready .............. go -> wait ............... woken_ns, check, end
 *   victim   ............ prepare -> holding .......... (killed)
 *   judge    ............................... go, until it sleeps, delay, kill ........... its end, read woken_ns
 *
 * Each word of the page goes from 0 to 1 once, by edge S of bench.h. */
#include "kill.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONGEST_DELAY_NS 10000000u /* a waiter's longest slice */

struct kill_page *kill_page;

static void set(_Atomic uint32_t *word)
{
    signal_store(word, 1);
}

static void be_waiter(const struct hold *hold)
{
    if (hold->prepare)
        hold->prepare();
    set(&kill_page->ready);
    await_change(&kill_page->go, 0);
    hold->wait();
    _exit(0);
}

static void be_victim(const struct hold *hold, size_t resident_bytes)
{
    if (resident_bytes && mmap(NULL, resident_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                               -1, 0) == MAP_FAILED)
        fail_row("no %zu bytes of memory: %s", resident_bytes, strerror(errno));
    hold->take();
    set(&kill_page->holding);
    for (;;)
        pause();
}

static void expect_good_end(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            fail_row("waitpid: %s", strerror(errno));
    if (status != 0)
        _exit(1); /* it has said why */
}

static void run_round(struct hold *hold, size_t resident_bytes)
{
    memset(kill_page, 0, sizeof *kill_page);
    if (hold->make)
        hold->make();
    pid_t waiter = fork_or_die();
    if (waiter == 0)
        be_waiter(hold);
    await_change(&kill_page->ready, 0);
    pid_t victim = fork_or_die();
    if (victim == 0)
        be_victim(hold, resident_bytes);
    if (hold->born)
        hold->born();
    await_change(&kill_page->holding, 0);
    set(&kill_page->go);
    do
        idle_ns(1000000);
    while (!is_asleep(waiter));
    idle_ns((uint64_t)random() % LONGEST_DELAY_NS);
    uint64_t killed = now_ns();
    kill(victim, SIGKILL);
    expect_good_end(waiter);
    series_add(&hold->times, (double)(kill_page->woken_ns - killed) / 1e6);
    while (waitpid(victim, NULL, 0) < 0 && errno == EINTR)
        ;
}

void kill_run(struct hold *holds, size_t count, unsigned kills, size_t resident_bytes, const struct settings *settings,
              struct report *report)
{
    kill_segment_name = settings->segment;
    kill_page = shared_memory(sizeof *kill_page);
    fail_with_children();
    for (unsigned i = 0; i < kills; i++)
        for (size_t k = 0; k < count; k++)
            run_round(&holds[k], resident_bytes);
    report->unit = "ms";
    report->value_is = "p99";
    report->tails = true;
    report->goal_kind = GOAL_VALUE_AT_MOST;
    for (size_t k = 0; k < count; k++)
        report_add(report, holds[k].name, holds[k].role, &holds[k].times, 0.99);
    report_note(report, "p99 of %u kills", kills);
}
