/* contest.c - contestants take turns in blocks of about a millisecond, in one process or between two.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *   leader     await ready -> write which, count -> store command -> run its side -> await done
 *   follower   await command -> run its side -> write preempted -> store done -> check what takes long -> store ready
 *   (each word by edge S of bench.h)
 *
 * A block in which either process was preempted says more about its neighbours than about the contestant, and is left
 * out, as long as others are left. The limit runs twice in each round, first and last: how far its two medians lie
 * apart tells how far two ratios must lie apart to mean anything. */
#include "channel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUIT = UINT32_MAX, MIN_ROUNDS = 12, PROBES_MAX = 50 };
#define BLOCK_SECONDS 0.0015

struct contest_page *contest_page;

static struct series limit_again; /* the limit's blocks at the end of each round */

static uint64_t round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

/* ---- the follower ---- */

static void enter_all(struct contest *contest, int side)
{
    for (size_t i = 0; i < contest->count; i++) {
        struct contestant *one = &contest->contestants[i];
        size_t buffer = one->message_bytes * (one->message_bytes <= 4096 ? OUT_SLOTS : 1);

        if (one->missing)
            continue;
        one->side = side;
        if (buffer) {
            one->out = aligned_alloc(4096, round_up(buffer, 4096));
            one->in = aligned_alloc(4096, round_up(buffer, 4096));
            if (!one->out || !one->in)
                fail_row("%s: no memory for buffers", one->name);
            block_prepare(one->out, buffer);
            memset(one->in, 0, buffer);
        }
        if (one->type && one->type->enter)
            one->type->enter(one);
    }
}

static void leave_all(struct contest *contest)
{
    for (size_t i = 0; i < contest->count; i++) {
        struct contestant *one = &contest->contestants[i];

        if (!one->missing && one->type && one->type->leave)
            one->type->leave(one);
        free(one->out);
        free(one->in);
    }
}

static void follow(struct contest *contest, int cpu)
{
    uint32_t command = 0;

    pin_to(cpu);
    prctl(PR_SET_TIMERSLACK, 1UL);
    enter_all(contest, 1);
    signal_store(&contest_page->done, 0);
    while (command = await_change(&contest_page->command, command), contest_page->which != QUIT) {
        struct contestant *one = &contest->contestants[contest_page->which];
        long before = preemptions();
        one->pattern->follow(one, contest_page->count);
        contest_page->preempted = preemptions() != before;
        signal_store(&contest_page->done, command);
        if (one->pattern->check)
            one->pattern->check(one);
        signal_store(&contest_page->ready, command);
    }
    leave_all(contest);
    _exit(0);
}

static pid_t start_follower(struct contest *contest, int cpu)
{
    fail_with_children();
    pid_t pid = fork_or_die();
    if (pid == 0)
        follow(contest, cpu);
    return pid;
}

/* ---- the leader ---- */

/* Nanoseconds that a block of `count` operations took; `*disturbed` where either side was preempted. */
static double run_block(struct contest *contest, size_t which, uint64_t count, bool *disturbed)
{
    struct contestant *one = &contest->contestants[which];
    bool with_follower = one->pattern->follow != NULL;
    uint32_t block = contest_page->blocks + 1;
    long before = preemptions();

    if (with_follower) {
        contest_page->blocks = block;
        while (await_change(&contest_page->ready, block) != block - 1)
            ;
        contest_page->which = (uint32_t)which;
        contest_page->count = count;
        signal_store(&contest_page->command, block);
    }
    uint64_t start = now_ns();
    double own = one->pattern->lead(one, count);
    uint64_t end = now_ns();
    *disturbed = preemptions() != before;
    if (with_follower) {
        while (await_change(&contest_page->done, block - 1) != block)
            ;
        if (one->pattern->one_way)
            end = now_ns();
        *disturbed |= contest_page->preempted != 0;
    }
    return own > 0 ? own : (double)(end - start);
}

/* Warm up, and find how many operations make a block. */
static void calibrate(struct contest *contest)
{
    double target = (contest->block_seconds > 0 ? contest->block_seconds : BLOCK_SECONDS) * 1e9;

    for (size_t i = 0; i < contest->count; i++) {
        struct contestant *one = &contest->contestants[i];
        uint64_t step = one->batch ? one->batch : 1, probe = 2 * step;
        bool disturbed = false;
        int again = PROBES_MAX;

        if (one->missing)
            continue;
        if (one->warm_count)
            run_block(contest, i, round_up(one->warm_count, step), &disturbed);
        for (;;) {
            uint64_t start = now_ns();
            run_block(contest, i, probe, &disturbed);
            double took = (double)(now_ns() - start);
            if (disturbed && !contest->keep_disturbed && again-- > 0)
                continue; /* or a few operations would seem to be as long as a block, and each block be that short */
            if (took >= target / 4 || probe >= UINT64_C(1) << 32) {
                one->block_count = (uint64_t)((double)probe * target / took);
                break;
            }
            probe *= 2;
        }
        if (contest->block_count_max && one->block_count > contest->block_count_max)
            one->block_count = contest->block_count_max;
        one->block_count = round_up(one->block_count ? one->block_count : 1, step);
    }
}

static double figure_of(const struct contest *contest, const struct contestant *one, double took_ns)
{
    if (one->role == ROLE_GAUGE)
        return took_ns;
    if (contest->as_rate)
        return (double)one->message_bytes / took_ns;
    return contest->in_us ? took_ns / 1e3 : took_ns;
}

static void take_turn(struct contest *contest, size_t which, struct series *blocks)
{
    struct contestant *one = &contest->contestants[which];
    bool disturbed;
    double took_ns = run_block(contest, which, one->block_count, &disturbed) / (double)one->block_count;

    if (disturbed && !contest->keep_disturbed)
        blocks = &one->disturbed_blocks;
    series_add(blocks, figure_of(contest, one, took_ns));
}

static void take_turns(struct contest *contest, double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

    for (unsigned round = 0; round < MIN_ROUNDS || now_ns() < end; round++) {
        for (size_t i = 0; i < contest->count; i++)
            if (!contest->contestants[i].missing)
                take_turn(contest, i, &contest->contestants[i].blocks);
        if (contest->contestants[0].role == ROLE_LIMIT)
            take_turn(contest, 0, &limit_again);
    }
}

static void make_all(struct contest *contest, struct report *report)
{
    for (size_t i = 0; i < contest->count; i++) {
        struct contestant *one = &contest->contestants[i];
        int result = one->type && one->type->make ? one->type->make(one) : 0;

        one->missing = result < 0;
        if (one->missing)
            report_missing(report, one->name, strerror(-result));
    }
}

/* Where others left us no undisturbed block, a figure that says so is better than none. */
static void use_what_there_is(struct contestant *one, struct report *report)
{
    if (one->blocks.count)
        return;
    report_note(report, "%s: disturbed in every block, the machine is busy", one->name);
    for (size_t i = 0; i < one->disturbed_blocks.count; i++)
        series_add(&one->blocks, one->disturbed_blocks.values[i]);
}

static void add_figures(struct contest *contest, struct report *report)
{
    for (size_t i = 0; i < contest->count; i++) {
        struct contestant *one = &contest->contestants[i];

        if (one->missing)
            continue;
        if (one->role == ROLE_GAUGE) {
            report->gauge_ns = series_quantile(&one->blocks, 0.5);
            report->gauge_mixed = series_quantile(&one->blocks, 0.9) > 1.6 * series_quantile(&one->blocks, 0.1);
            continue;
        }
        if (i == 0 && one->role == ROLE_LIMIT && limit_again.count) {
            double first = series_quantile(&one->blocks, 0.5), last = series_quantile(&limit_again, 0.5);
            report->limit_spread = first > 0 ? (last > first ? last - first : first - last) / first : 0;
            for (size_t k = 0; k < limit_again.count; k++)
                series_add(&one->blocks, limit_again.values[k]);
        }
        use_what_there_is(one, report);
        struct figure *figure = report_add(report, one->name, one->role, &one->blocks, 0.5);
        figure->disturbed = (uint32_t)one->disturbed_blocks.count;
    }
}

void contest_run(struct contest *contest, const struct settings *settings, struct report *report)
{
    int cpu[2];
    bool two = two_cpus(cpu);
    pid_t follower = 0;

    if (!two && !contest->one_cpu && !contest->alone) {
        report_note(report, "needs two CPUs");
        return;
    }
    contest_page = shared_memory(sizeof *contest_page);
    make_all(contest, report);
    if (!contest->alone) {
        atomic_store_explicit(&contest_page->done, QUIT, memory_order_relaxed); /* until the follower has entered */
        follower = start_follower(contest, contest->one_cpu ? cpu[0] : cpu[1]);
    }
    pin_to(cpu[0]);
    prctl(PR_SET_TIMERSLACK, 1UL);
    enter_all(contest, 0);
    if (follower)
        await_change(&contest_page->done, QUIT);
    calibrate(contest);
    take_turns(contest, settings->row_seconds);
    if (follower) {
        contest_page->which = QUIT;
        signal_store(&contest_page->command, contest_page->blocks + 1);
        int status = 0;
        if (waitpid(follower, &status, 0) == follower && status != 0)
            fail_row("the other process ended with status %#x", (unsigned)status);
    }
    add_figures(contest, report);
    leave_all(contest);
}
