/* row_idle.c - what a process costs that is asleep in a wait: share of a core, and how often it wakes up to look.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One process sleeps in each wait, all at the same time, while one more holds what they wait for. The worst of them
 * is the row's figure. */
#include "bench.h"

#include <cove.h>
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_NS UINT64_C(1000000000) /* slices have grown to their longest by then */
#define A_MOMENT_NS 1000000

static cove_segment *segment;
static sem_t *semaphore;

static void check(int64_t result, const char *what)
{
    if (result < 0)
        fail_row("%s: %s: %s", what, cove_errname((int)result), cove_last_error());
}

#define OPEN(kind)                                                                                \
    static cove_##kind *open_##kind(const char *name, struct cove_sync_options options)           \
    {                                                                                             \
        cove_##kind *opened = NULL;                                                               \
        check(cove_##kind##_open_in(&opened, segment, name, &options), "cove_" #kind "_open_in"); \
        return opened;                                                                            \
    }
OPEN(mutex)
OPEN(rwlock)
OPEN(semaphore)
OPEN(event)
OPEN(condition)
OPEN(barrier)
OPEN(once)
OPEN(counter)

/* ---- what is held, by one process, and waited for, by one each ---- */

static cove_mutex *a_mutex(void)
{
    return open_mutex("mutex", (struct cove_sync_options){0});
}

static cove_mutex *fair_mutex(void)
{
    return open_mutex("fair", (struct cove_sync_options){.fair = 1});
}

static cove_rwlock *rwlock(const char *name)
{
    return open_rwlock(name, (struct cove_sync_options){0});
}

static cove_semaphore *permit(void)
{
    return open_semaphore("permit", (struct cove_sync_options){.permits = 1});
}

static cove_barrier *a_barrier(void)
{
    return open_barrier("barrier", (struct cove_sync_options){0});
}

static cove_stream *stream_end(enum cove_end end)
{
    cove_stream *stream = NULL;

    check(cove_stream_open_in(&stream, segment, "stream", end, NULL), "cove_stream_open_in");
    return stream;
}

static int stay(void *context)
{
    (void)context;
    while (pause() < 0)
        ;
    return 0;
}

static void hold_once(int64_t timeout_ns)
{
    check(cove_once_call(segment, open_once("once", (struct cove_sync_options){0}), stay, NULL, timeout_ns),
          "cove_once_call");
}

/* Ends in what is being done once, and stays there. */
static void hold_all(_Atomic uint32_t *holding)
{
    check(cove_mutex_lock(segment, a_mutex(), COVE_FOREVER), "cove_mutex_lock");
    check(cove_mutex_lock(segment, fair_mutex(), COVE_FOREVER), "cove_mutex_lock");
    check(cove_rwlock_lock(segment, rwlock("written"), COVE_FOREVER), "cove_rwlock_lock");
    check(cove_rwlock_lock_shared(segment, rwlock("read"), COVE_FOREVER), "cove_rwlock_lock_shared");
    check(cove_semaphore_acquire(segment, permit(), COVE_FOREVER), "cove_semaphore_acquire");
    if (cove_barrier_wait(segment, a_barrier(), 2, A_MOMENT_NS) != -ETIMEDOUT) /* it is a party from now on */
        fail_row("a barrier of two was passed by one");
    stream_end(COVE_WRITER);
    signal_store(holding, 1);
    hold_once(COVE_FOREVER);
}

static int wait_mutex(void)
{
    return cove_mutex_lock(segment, a_mutex(), COVE_FOREVER);
}

static int wait_fair(void)
{
    return cove_mutex_lock(segment, fair_mutex(), COVE_FOREVER);
}

static int wait_read(void)
{
    return cove_rwlock_lock_shared(segment, rwlock("written"), COVE_FOREVER);
}

static int wait_write(void)
{
    return cove_rwlock_lock(segment, rwlock("read"), COVE_FOREVER);
}

static int wait_owned(void)
{
    return cove_semaphore_acquire(segment, permit(), COVE_FOREVER);
}

static int wait_plain(void)
{
    return cove_semaphore_wait(segment, open_semaphore("none", (struct cove_sync_options){0}), COVE_FOREVER);
}

static int wait_event(void)
{
    return cove_event_wait(segment, open_event("event", (struct cove_sync_options){0}), COVE_FOREVER);
}

static int wait_condition(void)
{
    cove_mutex *lock = open_mutex("of-the-condition", (struct cove_sync_options){0});

    check(cove_mutex_lock(segment, lock, COVE_FOREVER), "cove_mutex_lock");
    return cove_condition_wait(segment, open_condition("condition", (struct cove_sync_options){0}), lock, COVE_FOREVER);
}

static int wait_barrier(void)
{
    return cove_barrier_wait(segment, a_barrier(), 2, COVE_FOREVER);
}

static int wait_once(void)
{
    hold_once(COVE_FOREVER);
    return 0;
}

static int wait_counter(void)
{
    return cove_counter_wait(segment, open_counter("counter", (struct cove_sync_options){0}), 1, NULL, COVE_FOREVER);
}

static int wait_stream(void)
{
    char byte;
    return (int)cove_stream_read(stream_end(COVE_READER), &byte, 1, COVE_FOREVER);
}

static int wait_sem(void)
{
    return sem_wait(semaphore);
}

static struct sleeper {
    const char *name;
    int (*wait)(void);
    pid_t pid;
    uint64_t cpu_ns, switches; /* when it was looked at first; then: since then */
} sleepers[] = {
    {.name = "cove mutex", .wait = wait_mutex},
    {.name = "cove fair mutex", .wait = wait_fair},
    {.name = "cove rwlock read", .wait = wait_read},
    {.name = "cove rwlock write", .wait = wait_write},
    {.name = "cove acquire", .wait = wait_owned},
    {.name = "cove wait", .wait = wait_plain},
    {.name = "cove event", .wait = wait_event},
    {.name = "cove condition", .wait = wait_condition},
    {.name = "cove barrier", .wait = wait_barrier},
    {.name = "cove once", .wait = wait_once},
    {.name = "cove counter", .wait = wait_counter},
    {.name = "cove stream read", .wait = wait_stream},
    {.name = "sem_t", .wait = wait_sem},
};

enum { SLEEPERS = sizeof sleepers / sizeof *sleepers };

/* ---- the row ---- */

static void open_segment(const struct settings *settings)
{
    check(cove_open(&segment, settings->segment, NULL), "cove_open");
}

static pid_t begin_holder(const struct settings *settings)
{
    _Atomic uint32_t *holding = shared_memory(sizeof *holding);
    pid_t pid = fork_or_die();

    if (pid == 0) {
        open_segment(settings);
        hold_all(holding);
        _exit(1);
    }
    await_change(holding, 0);
    return pid;
}

static void begin_sleepers(const struct settings *settings)
{
    for (int i = 0; i < SLEEPERS; i++) {
        sleepers[i].pid = fork_or_die();
        if (sleepers[i].pid != 0)
            continue;
        open_segment(settings);
        int result = sleepers[i].wait();
        fail_row("%s: its wait ended: %s: %s", sleepers[i].name, cove_errname(result), cove_last_error());
    }
    for (int i = 0; i < SLEEPERS; i++)
        while (!is_asleep(sleepers[i].pid))
            idle_ns(A_MOMENT_NS);
}

static uint64_t cpu_ns_of(pid_t pid)
{
    struct timespec t;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) < 0)
        fail_row("a sleeper is gone");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t switches_of(pid_t pid)
{
    char path[40], line[128];
    unsigned long long sum = 0, one;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        fail_row("a sleeper is gone");
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "voluntary_ctxt_switches: %llu", &one) == 1 ||
            sscanf(line, "nonvoluntary_ctxt_switches: %llu", &one) == 1)
            sum += one;
    fclose(file);
    return sum;
}

/* Since the last call; at first: since it began. */
static void look_at_all(void)
{
    for (int i = 0; i < SLEEPERS; i++) {
        struct sleeper *one = &sleepers[i];
        one->cpu_ns = cpu_ns_of(one->pid) - one->cpu_ns;
        one->switches = switches_of(one->pid) - one->switches;
    }
}

static void add_sleeper(const struct sleeper *one, bool is_worst, double seconds, struct report *report)
{
    enum role role = one->wait == wait_sem ? ROLE_PEER : is_worst ? ROLE_COVE : ROLE_VARIANT;
    struct series share = {0};

    series_add(&share, (double)one->cpu_ns / 1e9 / seconds * 100);
    figure_extra(report_add(report, one->name, role, &share, 0.5), "switches/s", (double)one->switches / seconds);
    series_clear(&share);
}

void row_idle(const struct settings *settings, struct report *report)
{
    uint64_t duration_ns = settings->quick ? UINT64_C(5000000000) : UINT64_C(8000000000);
    int worst = 0;

    semaphore = shared_memory(sizeof *semaphore);
    sem_init(semaphore, 1, 0);
    fail_with_children();
    begin_holder(settings);
    begin_sleepers(settings);
    idle_ns(SETTLE_NS);
    look_at_all();
    uint64_t start = now_ns();
    idle_ns(duration_ns);
    look_at_all();
    double seconds = (double)(now_ns() - start) / 1e9;
    for (int i = 0; i < SLEEPERS; i++)
        if (sleepers[i].wait != wait_sem && sleepers[i].cpu_ns > sleepers[worst].cpu_ns)
            worst = i;
    for (int i = 0; i < SLEEPERS; i++)
        add_sleeper(&sleepers[i], i == worst, seconds, report);
    report->unit = "%";
    report->value_is = "share of a core";
    report->goal_kind = GOAL_VALUE_AT_MOST;
    report->goal = 0.02;
    report_note(report, "share of a core, of the worst; all asleep at once for %.0f s", seconds);
    /* They end with this process. */
}
