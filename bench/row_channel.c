/* row_channel.c - rows about bytes from one process to another.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * In each the first contestant is the limit; where there are two, the better one counts. The gauge is one line's way
 * there and back: it tells in which state the machine was. */
#include "channel.h"

#include <stdio.h>

enum { MESSAGE_BYTES = 64, BATCH = 32, BLOCK_BYTES = 1 << 20 };
#define RING_BYTES (UINT64_C(1) << 18) /* both directions stay in a core's second-level cache */

/* Two laps of the ring: a record is a header of 8 bytes and the message. */
#define WARM_COUNT (2 * RING_BYTES / (MESSAGE_BYTES + 8))

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Fill in what is the same for all contestants of a row, and run it. */
static void run_channels(struct contest *contest, size_t message_bytes, uint64_t warm_count,
                         const struct settings *settings, struct report *report)
{
    static char tags[FIGURES_MAX][32];

    for (size_t i = 0; i < contest->count; i++) {
        struct contestant *one = &contest->contestants[i];
        snprintf(tags[i], sizeof tags[i], "channel-%zu", i);
        one->tag = tags[i];
        one->segment = settings->segment;
        one->message_bytes = message_bytes;
        one->warm_count = warm_count;
        if (!one->capacity_bytes)
            one->capacity_bytes = RING_BYTES;
    }
    contest_run(contest, settings, report);
}

static void set_goal(struct report *report, enum goal_kind kind, double goal, bool limit_is_floor)
{
    report->goal_kind = kind;
    report->goal = goal;
    report->limit_is_floor = limit_is_floor;
    report->unit = "ns";
    report->value_is = "p50";
}

/* The limit is the textbook's ping-pong, whose reader looks without a pause, as the published figures of others are
 * taken. One that pauses between looks takes the line from its writer less often and stays below it; it is printed
 * beside it, as the floor. */
#define LIMITS                                                                                                       \
    LIMIT("64 B ping-pong", limit_message_eager),                                                                    \
    {                                                                                                                \
        .name = "ping-pong, pausing", .role = ROLE_VARIANT, .type = &limit_memory, .pattern = &limit_message_pausing \
    }
#define LIMIT(name_, pattern_)                                                           \
    {                                                                                    \
        .name = name_, .role = ROLE_LIMIT, .type = &limit_memory, .pattern = &(pattern_) \
    }
#define GAUGE                                                                                        \
    {                                                                                                \
        .name = "line", .role = ROLE_GAUGE, .type = &limit_memory, .pattern = &limit_line_round_trip \
    }
#define ENTRY(name_, role_, type_, pattern_, wait_)                                                       \
    {                                                                                                     \
        .name = name_, .role = role_, .type = &(type_), .pattern = &(pattern_), .wait = wait_, .batch = 1 \
    }

void row_roundtrip_spin(const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        LIMITS,
        GAUGE,
        ENTRY("cove", ROLE_COVE, channel_cove, pattern_round_trip, WAIT_SPIN),
        ENTRY("cove zero-copy", ROLE_VARIANT, channel_cove_zero_copy, pattern_round_trip, WAIT_SPIN),
        ENTRY("pipe", ROLE_PEER, channel_pipe, pattern_round_trip, WAIT_SPIN),
        ENTRY("unix socket", ROLE_PEER, channel_unix, pattern_round_trip, WAIT_SPIN),
        ENTRY("POSIX mq", ROLE_PEER, channel_mq, pattern_round_trip, WAIT_SPIN),
    };
    struct contest contest = {.contestants = contestants, .count = COUNT_OF(contestants)};

    set_goal(report, GOAL_RATIO_AT_MOST, 1.15, false);
    run_channels(&contest, MESSAGE_BYTES, WARM_COUNT, settings, report);
}

void row_roundtrip_adaptive(const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        LIMITS,
        GAUGE,
        ENTRY("cove", ROLE_COVE, channel_cove, pattern_round_trip, WAIT_BLOCK),
        ENTRY("pipe", ROLE_PEER, channel_pipe, pattern_round_trip, WAIT_BLOCK),
        ENTRY("unix socket", ROLE_PEER, channel_unix, pattern_round_trip, WAIT_BLOCK),
        ENTRY("POSIX mq", ROLE_PEER, channel_mq, pattern_round_trip, WAIT_BLOCK),
    };
    struct contest contest = {.contestants = contestants, .count = COUNT_OF(contestants)};

    set_goal(report, GOAL_RATIO_AT_MOST, 1.5, false);
    run_channels(&contest, MESSAGE_BYTES, WARM_COUNT, settings, report);
}

/* Messages overlap, so that one costs less than the limit's round trip. */
void row_message_single(const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        LIMITS,
        GAUGE,
        ENTRY("cove", ROLE_COVE, channel_cove, pattern_one_way, WAIT_SPIN),
        ENTRY("cove zero-copy", ROLE_VARIANT, channel_cove_zero_copy, pattern_one_way, WAIT_SPIN),
        ENTRY("cove adaptive", ROLE_VARIANT, channel_cove, pattern_one_way, WAIT_BLOCK),
        ENTRY("pipe", ROLE_PEER, channel_pipe, pattern_one_way, WAIT_BLOCK),
        ENTRY("unix socket", ROLE_PEER, channel_unix, pattern_one_way, WAIT_BLOCK),
        ENTRY("POSIX mq", ROLE_PEER, channel_mq, pattern_one_way, WAIT_BLOCK),
    };
    struct contest contest = {.contestants = contestants, .count = COUNT_OF(contestants)};

    set_goal(report, GOAL_RATIO_AT_MOST, 0.45, false);
    run_channels(&contest, MESSAGE_BYTES, WARM_COUNT, settings, report);
}

void row_message_batch(const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        LIMITS,
        GAUGE,
        ENTRY("cove", ROLE_COVE, channel_cove, pattern_batches, WAIT_SPIN),
        ENTRY("cove peek", ROLE_VARIANT, channel_cove_zero_copy, pattern_batches, WAIT_SPIN),
        ENTRY("cove adaptive", ROLE_VARIANT, channel_cove, pattern_batches, WAIT_BLOCK),
        ENTRY("pipe", ROLE_PEER, channel_pipe, pattern_batches, WAIT_BLOCK),
        ENTRY("unix socket", ROLE_PEER, channel_unix, pattern_batches, WAIT_BLOCK),
    };
    struct contest contest = {.contestants = contestants, .count = COUNT_OF(contestants)};

    for (size_t i = 0; i < contest.count; i++)
        if (contestants[i].role != ROLE_LIMIT && contestants[i].role != ROLE_GAUGE)
            contestants[i].batch = BATCH;
    set_goal(report, GOAL_RATIO_AT_MOST, 0.25, false);
    run_channels(&contest, MESSAGE_BYTES, WARM_COUNT, settings, report);
    report_note(report, "%d messages a batch", BATCH);
}

void row_bulk(const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        {.name = "raw handover", .role = ROLE_LIMIT, .type = &limit_buffers, .pattern = &limit_handover},
        GAUGE,
        ENTRY("cove", ROLE_COVE, channel_cove, pattern_blocks, WAIT_SPIN),
        ENTRY("cove adaptive", ROLE_VARIANT, channel_cove, pattern_blocks, WAIT_BLOCK),
        ENTRY("pipe", ROLE_PEER, channel_pipe, pattern_blocks, WAIT_BLOCK),
        ENTRY("unix socket", ROLE_PEER, channel_unix, pattern_blocks, WAIT_BLOCK),
    };
    struct contest contest = {
        .contestants = contestants, .count = COUNT_OF(contestants), .as_rate = true, .block_seconds = 0.004};

    set_goal(report, GOAL_RATIO_AT_LEAST, 0.9, false);
    report->unit = "GB/s";
    report->more_is_better = true;
    for (size_t i = 0; i < contest.count; i++)
        contestants[i].capacity_bytes = 8 * BLOCK_BYTES; /* blocks in flight, and out of the cores' own caches */
    run_channels(&contest, BLOCK_BYTES, 8, settings, report);
    report_note(report, "a ring of 8 MiB");
}

/* Both rows of sleepers: an operation takes some 0.4 ms, most of it idle by order. */
static void run_asleep(bool one_cpu, const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        {.name = "futex", .role = ROLE_LIMIT, .type = &limit_futex, .pattern = &pattern_asleep},
        ENTRY("cove", ROLE_COVE, channel_cove, pattern_asleep, WAIT_BLOCK),
        ENTRY("cove no spin", ROLE_VARIANT, channel_cove, pattern_asleep, WAIT_SLEEP),
        ENTRY("pipe", ROLE_PEER, channel_pipe, pattern_asleep, WAIT_BLOCK),
        ENTRY("POSIX mq", ROLE_PEER, channel_mq, pattern_asleep, WAIT_BLOCK),
    };
    struct contest contest = {.contestants = contestants,
                              .count = COUNT_OF(contestants),
                              .one_cpu = one_cpu,
                              .in_us = true,
                              .keep_disturbed = true,
                              .block_seconds = 0.002,
                              .block_count_max = 6};

    set_goal(report, GOAL_RATIO_AT_MOST, 1.05, true);
    report->unit = "us";
    run_channels(&contest, MESSAGE_BYTES, 20, settings, report);
}

void row_asleep_two(const struct settings *settings, struct report *report)
{
    run_asleep(false, settings, report);
}

void row_asleep_one(const struct settings *settings, struct report *report)
{
    run_asleep(true, settings, report);
}
