/* row_signal.c - rows about telling another process: there and back, as it comes, and each time to a sleeper.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The limit is a bare futex in each direction, which sleeps whenever nothing is there. Who looks for a while before
 * he sleeps is faster than it, as long as the other side is quick. */
#include "channel.h"

#include <stdio.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define MESSAGE_BYTES 8

static void run(struct contestant *contestants, size_t count, bool asleep, const struct settings *settings,
                struct report *report)
{
    static char tags[FIGURES_MAX][32];
    struct contest contest = {.contestants = contestants, .count = count, .in_us = true};
    struct settings shorter = *settings;

    for (size_t i = 0; i < count; i++) {
        struct contestant *one = &contestants[i];
        snprintf(tags[i], sizeof tags[i], "signal-%zu", i);
        one->tag = tags[i];
        one->segment = settings->segment;
        one->message_bytes = MESSAGE_BYTES;
        one->warm_count = 20;
        if (one->role != ROLE_GAUGE)
            one->pattern = asleep ? &pattern_asleep : &pattern_round_trip;
    }
    if (asleep) {
        contest.keep_disturbed = true;
        contest.block_seconds = 0.002;
        contest.block_count_max = 6;
    }
    report->unit = "us";
    report->value_is = "p50";
    shorter.row_seconds *= 0.5;
    contest_run(&contest, &shorter, report);
}

#define LIMIT                                                     \
    {                                                             \
        .name = "futex", .role = ROLE_LIMIT, .type = &limit_futex \
    }
#define GAUGE                                                                                        \
    {                                                                                                \
        .name = "line", .role = ROLE_GAUGE, .type = &limit_memory, .pattern = &limit_line_round_trip \
    }
#define ENTRY(name_, role_, type_)                     \
    {                                                  \
        .name = name_, .role = role_, .type = &(type_) \
    }

static void run_event(bool asleep, const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        LIMIT,
        GAUGE,
        ENTRY("cove", ROLE_COVE, signal_cove_event),
        ENTRY("cove counter", ROLE_VARIANT, signal_cove_counter),
        ENTRY("cove semaphore", ROLE_VARIANT, signal_cove_semaphore),
        ENTRY("sem_t", ROLE_PEER, signal_sem),
    };

    run(contestants, COUNT_OF(contestants), asleep, settings, report);
}

void row_event(const struct settings *settings, struct report *report)
{
    run_event(false, settings, report);
}

void row_event_asleep(const struct settings *settings, struct report *report)
{
    run_event(true, settings, report);
}

static void run_condition(bool asleep, const struct settings *settings, struct report *report)
{
    struct contestant contestants[] = {
        LIMIT,
        GAUGE,
        ENTRY("cove", ROLE_COVE, signal_cove_condition),
        ENTRY("pthread cond", ROLE_PEER, signal_cond),
    };

    run(contestants, COUNT_OF(contestants), asleep, settings, report);
}

void row_condition(const struct settings *settings, struct report *report)
{
    run_condition(false, settings, report);
}

void row_condition_asleep(const struct settings *settings, struct report *report)
{
    run_condition(true, settings, report);
}
