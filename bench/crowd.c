/* crowd.c - contestants that take turns, each in all processes of a crowd at once, or alone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *   row's process   write which -> store command, wake all -> sleep until all are done -> add up
 *   each process    await command -> work through the phases -> write its part -> count itself done
 *   (each word by edge S of bench.h)
 *
 * A block has three phases. GATHERING: until each process has had the lock once, or some are kept from it for as long as
 * a block lasts; without it those who come first would have it to themselves, and what they do in a moment alone is
 * more than what all do together in a second. MEASURED: for BLOCK_NS. OVER: all stop. Whoever sees that it is time
 * moves the phase on (edge P: store release -> load acquire, then read start_ns, end_ns).
 *
 * A block's rate is all acquisitions while it was measured; its fairness the least of any process by the most of any.
 * After each block what the lock guards must be what all say that they did. With more processes than CPUs waiting for
 * a CPU is part of what is measured; with as many, a block in which somebody waited for one for a twentieth of it is
 * left out as long as others are left. */
#include "crowd.h"

#include "channel.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CPUS = 2, PROCESSES_MAX = 8, QUIT = UINT32_MAX, MIN_ROUNDS = 2, SELDOM = 3 };
/* Two processes pass a lock a million times a second. Eight on two CPUs are given some 3 ms each, in turn: a block must
 * be many such turns long, or fairness would be about the scheduler. */
#define BLOCK_NS_FEW 20000000u
#define BLOCK_NS_MANY_LEAST 50000000u
#define BLOCK_NS_MANY_PER_SECOND 30000000u /* for each second that the row takes: 300 ms in a full run */

struct part {
    _Alignas(128) uint64_t count, changes, handovers, wrong;
    uint64_t waited_ns; /* for a CPU */
};

struct page {
    _Alignas(128) _Atomic uint32_t command; /* number of the block to be run; the row's process writes */
    uint32_t which; /* entrant; QUIT */
    uint64_t block_ns, gathered_ns; /* how long it is measured; when gathering ends at the latest */
    _Alignas(128) _Atomic uint32_t done; /* processes that are through */
    _Alignas(128) _Atomic uint32_t begun; /* processes that have had the lock */
    _Atomic uint64_t start_ns; /* 0: gathering */
    uint64_t over_ns; /* whoever made it OVER writes */
    _Alignas(128) uint32_t phase;
    _Alignas(128) uint64_t last_round;
    struct part parts[PROCESSES_MAX];
    struct {
        _Alignas(128) uint64_t words[GUARDED_WORDS];
    } guarded[FIGURES_MAX];
};

static struct page *page;

static unsigned process_count; /* of the crowd */

/* ---- one process of the crowd ---- */

static bool phase_change(uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&page->phase, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED); /* edge P */
}

static void start_measuring(uint64_t now)
{
    uint64_t none = 0;

    if (atomic_compare_exchange_strong_explicit(&page->start_ns, &none, now, memory_order_relaxed,
                                                memory_order_relaxed)) /* published by the phase */
        phase_change(TURN_GATHERING, TURN_MEASURED);
}

static void begin_to_count(struct turn *turn, uint64_t count)
{
    turn->count_before = count;
    turn->handovers_before = turn->handovers;
    turn->waited_before = process_count > CPUS ? 0 : runnable_ns();
}

int turn_look(struct turn *turn, uint64_t count)
{
    uint64_t now = now_ns();
    bool first = turn->seen == TURN_NEW;

    /* relaxed: all that is counted here is how many */
    if (first && atomic_fetch_add_explicit(&page->begun, 1, memory_order_relaxed) + 1 == process_count)
        start_measuring(now);
    uint32_t phase = __atomic_load_n(&page->phase, __ATOMIC_ACQUIRE); /* edge P */
    if (phase == TURN_GATHERING && now > page->gathered_ns)
        start_measuring(now);
    if (phase != TURN_GATHERING && (first || turn->seen == TURN_GATHERING))
        begin_to_count(turn, count);
    /* Behind edge P. Who moved the phase on may have done so after we looked at the clock. */
    uint64_t end_ns = atomic_load_explicit(&page->start_ns, memory_order_relaxed) + page->block_ns;
    if (phase == TURN_MEASURED && now >= end_ns && phase_change(TURN_MEASURED, TURN_OVER)) {
        page->over_ns = now;
        phase = TURN_OVER;
    }
    turn->seen = phase;
    return phase == TURN_OVER;
}

static void enter_all(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->count; i++) {
        struct entrant *one = &crowd->entrants[i];

        one->site.handle = one->site.memory;
        if (!one->missing && one->way->enter)
            one->way->enter(&one->site);
    }
}

static void leave_all(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->count; i++)
        if (!crowd->entrants[i].missing && crowd->entrants[i].way->leave)
            crowd->entrants[i].way->leave(&crowd->entrants[i].site);
}

/* The last one wakes the row's process. */
static void say_done(const struct crowd *crowd)
{
    if (atomic_fetch_add_explicit(&page->done, 1, memory_order_acq_rel) + 1 == crowd->processes) /* edge S */
        futex_wake(&page->done);
}

static void take_part(struct crowd *crowd, unsigned number, struct turn *turn)
{
    struct entrant *one = &crowd->entrants[page->which];

    turn->guarded = page->guarded[page->which].words;
    turn->seen = TURN_NEW;
    turn->changes = turn->handovers = turn->wrong = 0;
    uint64_t count = one->way->work(one->site.handle, turn);
    page->parts[number] = (struct part){.count = count - turn->count_before,
                                        .changes = turn->changes,
                                        .handovers = turn->handovers - turn->handovers_before,
                                        .wrong = turn->wrong,
                                        .waited_ns = turn->waited_before ? runnable_ns() - turn->waited_before : 0};
    say_done(crowd);
}

static void be_one_of(struct crowd *crowd, unsigned number, int cpu)
{
    struct turn turn = {.phase = &page->phase,
                        .last_round = &page->last_round,
                        .random = UINT64_C(0x9e3779b97f4a7c15) * (number + 1),
                        .self = number + 1};
    uint32_t command = 0;

    pin_to(cpu);
    prctl(PR_SET_TIMERSLACK, 1UL);
    enter_all(crowd);
    say_done(crowd);
    while (command = await_change(&page->command, command), page->which != QUIT)
        take_part(crowd, number, &turn);
    leave_all(crowd);
    _exit(0);
}

/* ---- the row's process ---- */

static void make_all(struct crowd *crowd, const struct settings *settings, struct report *report)
{
    static char names[FIGURES_MAX][96];

    for (size_t i = 0; i < crowd->count; i++) {
        struct entrant *one = &crowd->entrants[i];
        const struct lock_way *way = one->way;

        snprintf(names[i], sizeof names[i], "%s-%zu", settings->segment, i);
        one->site = (struct lock_site){.memory = way->bytes ? shared_memory(way->bytes) : NULL,
                                       .name = names[i],
                                       .directory = settings->directory,
                                       .segment = settings->segment,
                                       .processes = crowd->processes};
        int result = way->missing ? 0 : way->make ? way->make(&one->site) : 0;
        one->missing = way->missing || result < 0;
        if (one->missing)
            report_missing(report, way->name, way->missing ? way->missing : strerror(-result));
    }
}

static void await_all(const struct crowd *crowd)
{
    uint32_t done;

    while ((done = atomic_load_explicit(&page->done, memory_order_acquire)) != crowd->processes) /* edge S */
        futex_wait(&page->done, done);
}

static void command_all(uint32_t which, uint64_t block_ns)
{
    page->which = which;
    page->block_ns = block_ns;
    page->gathered_ns = now_ns() + block_ns;
    page->phase = TURN_GATHERING;
    page->last_round = UINT64_MAX;
    /* relaxed: published by the command */
    atomic_store_explicit(&page->begun, 0, memory_order_relaxed);
    atomic_store_explicit(&page->start_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&page->done, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&page->command, 1, memory_order_release); /* edge S */
    syscall(SYS_futex, &page->command, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void check_sum(struct entrant *one, size_t index)
{
    /* The row's own handle: it attached after the processes were born. */
    uint64_t sum = one->way->sum ? one->way->sum(one->site.handle) : page->guarded[index].words[0];

    if (sum != one->total)
        fail_row("%s: %llu changes were made and %llu are there: it did not keep others out", one->way->name,
                 (unsigned long long)one->total, (unsigned long long)sum);
}

static uint64_t block_length(const struct crowd *crowd, const struct settings *settings)
{
    uint64_t many = (uint64_t)(settings->row_seconds * BLOCK_NS_MANY_PER_SECOND);

    return crowd->processes <= CPUS ? BLOCK_NS_FEW : many < BLOCK_NS_MANY_LEAST ? BLOCK_NS_MANY_LEAST : many;
}

static void run_block(struct crowd *crowd, size_t index, uint64_t block_ns)
{
    struct entrant *one = &crowd->entrants[index];
    uint64_t count = 0, least = UINT64_MAX, most = 0, handovers = 0, wrong = 0;
    bool disturbed = false, crowded = crowd->processes > CPUS;

    command_all((uint32_t)index, block_ns);
    await_all(crowd);
    for (unsigned i = 0; i < crowd->processes; i++) {
        const struct part *part = &page->parts[i];
        count += part->count;
        handovers += part->handovers;
        one->total += part->changes;
        wrong |= part->wrong;
        least = part->count < least ? part->count : least;
        most = part->count > most ? part->count : most;
        disturbed |= part->waited_ns > BLOCK_NS_FEW / 20 && !crowded;
    }
    if (wrong)
        fail_row("%s: a call failed, or two were inside at once", one->way->name);
    check_sum(one, index);
    uint64_t start_ns = atomic_load_explicit(&page->start_ns, memory_order_relaxed); /* all are done */
    double seconds = (double)(page->over_ns - start_ns) / 1e9, unit = crowd->in_thousands ? 1e3 : 1e6;
    double rate = (double)(crowd->together ? most : count) / seconds / unit;
    struct blocks *blocks = disturbed ? &one->disturbed : &one->blocks;
    series_add(&blocks->rates, rate);
    series_add(&blocks->fairness, most ? (double)least / (double)most : 0);
    series_add(&blocks->handovers, (double)handovers / seconds / unit);
}

static void take_turns(struct crowd *crowd, double seconds, uint64_t block_ns)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

    for (unsigned round = 0; round < MIN_ROUNDS || now_ns() < end; round++)
        for (size_t i = 0; i < crowd->count; i++)
            if (!crowd->entrants[i].missing && (round % SELDOM == 0 || !crowd->entrants[i].seldom))
                run_block(crowd, i, block_ns);
}

static void add_figure(const struct crowd *crowd, struct entrant *one, unsigned *never_alone, struct report *report)
{
    bool any = one->blocks.rates.count != 0;
    struct blocks *blocks = any ? &one->blocks : &one->disturbed;
    uint32_t disturbed = (uint32_t)one->disturbed.rates.count;

    if (!any)
        (*never_alone)++;
    struct figure *figure = report_add(report, one->way->name, one->role, &blocks->rates, 0.5);
    figure->disturbed = disturbed;
    if (crowd->together)
        return;
    figure_extra(figure, "fairness", series_quantile(&blocks->fairness, 0.5));
    if (series_quantile(&blocks->handovers, 1) > 0)
        figure_extra(figure, "handovers", series_quantile(&blocks->handovers, 0.5));
}

void crowd_run(struct crowd *crowd, const struct settings *settings, struct report *report)
{
    int cpu[CPUS];
    unsigned never_alone = 0;

    if (!two_cpus(cpu)) {
        report_note(report, "needs two CPUs");
        return;
    }
    page = shared_memory(sizeof *page);
    process_count = crowd->processes;
    report->unit = crowd->in_thousands ? "k/s" : "M/s";
    report->more_is_better = true;
    report->needs_all = true;
    make_all(crowd, settings, report);
    fail_with_children();
    for (unsigned i = 0; i < crowd->processes; i++)
        if (fork_or_die() == 0)
            be_one_of(crowd, i, cpu[i % CPUS]);
    enter_all(crowd);
    await_all(crowd);
    take_turns(crowd, settings->row_seconds * crowd->share, block_length(crowd, settings));
    command_all(QUIT, 0);
    report_note(report, "blocks of %.0f ms", (double)block_length(crowd, settings) / 1e6);
    if (reap_all() != 0)
        fail_row("a process of the crowd failed");
    leave_all(crowd);
    for (size_t i = 0; i < crowd->count; i++)
        if (!crowd->entrants[i].missing)
            add_figure(crowd, &crowd->entrants[i], &never_alone, report);
    if (never_alone)
        report_note(report, "%u of them had no CPU of their own for any block: the machine is busy", never_alone);
}

/* ---- alone ---- */

static double alone_lead(struct contestant *self, uint64_t count)
{
    const struct entrant *one = self->state;

    if (one->way->alone(one->site.handle, count) != 0)
        fail_row("%s: a call failed", one->way->name);
    return 0;
}

void crowd_alone(struct crowd *crowd, const struct settings *settings, struct report *report)
{
    static const struct pattern pattern = {.lead = alone_lead};
    static struct contestant contestants[FIGURES_MAX];
    struct contest contest = {.contestants = contestants, .alone = true, .block_seconds = 0.0005};
    struct settings shorter = *settings;

    crowd->processes = 1;
    make_all(crowd, settings, report);
    enter_all(crowd);
    for (size_t i = 0; i < crowd->count; i++) {
        struct entrant *one = &crowd->entrants[i];
        if (!one->missing)
            contestants[contest.count++] = (struct contestant){
                .name = one->way->name, .role = one->role, .pattern = &pattern, .state = one};
    }
    report->unit = "ns";
    shorter.row_seconds *= crowd->share;
    contest_run(&contest, &shorter, report);
    leave_all(crowd);
}
