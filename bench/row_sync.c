/* row_sync.c - rows about locks, counters, barriers and a bank: alone, and with two and eight processes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The limit of those that keep others out is a bare futex word, which knows nobody's death and no timeout. What is
 * said of Cove beside its peers is about the figure "cove" of the same row, taken in turn with theirs. */
#include "crowd.h"

#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void run(struct entrant *entrants, size_t count, unsigned processes, const struct settings *settings,
                struct report *report)
{
    /* A row of many processes needs longer blocks, and so more time, for as many of them. */
    struct crowd crowd = {.entrants = entrants,
                          .count = count,
                          .processes = processes,
                          .share = processes == 1   ? 0.5
                                   : processes == 2 ? 0.7
                                                    : 1};

    report->value_is = "p50";
    if (processes == 1)
        crowd_alone(&crowd, settings, report);
    else
        crowd_run(&crowd, settings, report);
}

/* Cove's figure by a peer's of this run. */
static void aim_at_peer(struct report *report, const char *what, const char *peer, double wanted)
{
    double theirs = report_value(report, peer, NULL);

    report_aim(report, what, true, wanted, theirs > 0 ? report_value(report, "cove", NULL) / theirs : 0);
}

/* ---- mutex ---- */

static void run_mutex(unsigned processes, const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_word, .role = ROLE_LIMIT},
        {.way = &way_cove_mutex, .role = ROLE_COVE},
        {.way = &way_cove_fair, .role = ROLE_VARIANT},
        {.way = &way_mutex_plain, .role = ROLE_PEER},
        {.way = &way_mutex_robust, .role = ROLE_PEER},
        {.way = &way_rwlock_write, .role = ROLE_PEER, .seldom = true},
        {.way = &way_semaphore, .role = ROLE_PEER},
        {.way = &way_semaphore_named, .role = ROLE_PEER, .seldom = true},
        {.way = &way_boost_mutex, .role = ROLE_PEER},
        {.way = &way_boost_named_mutex, .role = ROLE_PEER, .seldom = true},
        {.way = &way_boost_semaphore, .role = ROLE_PEER},
        {.way = &way_boost_named_semaphore, .role = ROLE_PEER, .seldom = true},
        {.way = &way_boost_upgradable, .role = ROLE_PEER, .seldom = true},
        {.way = &way_boost_named_upgradable, .role = ROLE_PEER, .seldom = true},
        {.way = &way_system_v, .role = ROLE_PEER, .seldom = true},
        {.way = &way_qt, .role = ROLE_PEER, .seldom = true},
        {.way = &way_flock, .role = ROLE_PEER, .seldom = true},
    };

    run(entrants, COUNT_OF(entrants), processes, settings, report);
}

void row_mutex(const struct settings *settings, struct report *report)
{
    report->goal_kind = GOAL_RATIO_AT_MOST;
    report->goal = 1.25;
    report->limit_is_floor = true;
    run_mutex(1, settings, report);
}

static void run_mutex_contended(unsigned processes, const struct settings *settings, struct report *report)
{
    run_mutex(processes, settings, report);
    aim_at_peer(report, "x pthread robust", "pthread robust", 1);
    report_aim(report, "fairness", true, 0.8, report_value(report, "cove", "fairness"));
}

void row_mutex_2(const struct settings *settings, struct report *report)
{
    run_mutex_contended(2, settings, report);
}

void row_mutex_8(const struct settings *settings, struct report *report)
{
    run_mutex_contended(8, settings, report);
}

/* ---- rwlock ---- */

static void run_read(unsigned processes, const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_own_flag, .role = ROLE_LIMIT},
        {.way = &way_cove_read, .role = ROLE_COVE},
        {.way = &way_rwlock_read, .role = ROLE_PEER},
        {.way = &way_boost_read, .role = ROLE_PEER},
        {.way = &way_boost_named_read, .role = ROLE_PEER, .seldom = true},
        {.way = &way_flock_read, .role = ROLE_PEER, .seldom = true},
    };

    run(entrants, COUNT_OF(entrants), processes, settings, report);
}

void row_rwlock(const struct settings *settings, struct report *report)
{
    run_read(1, settings, report);
}

void row_rwlock_8(const struct settings *settings, struct report *report)
{
    run_read(8, settings, report);
    aim_at_peer(report, "x pthread rwlock", "pthread rwlock", 4);
}

void row_rwlock_write(const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_word, .role = ROLE_LIMIT},
        {.way = &way_cove_write, .role = ROLE_COVE},
        {.way = &way_rwlock_write, .role = ROLE_PEER},
        {.way = &way_boost_upgradable, .role = ROLE_PEER},
    };

    run(entrants, COUNT_OF(entrants), 1, settings, report);
}

void row_rwlock_mixed(const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_cove_mixed, .role = ROLE_COVE},
        {.way = &way_rwlock_mixed, .role = ROLE_PEER},
        {.way = &way_boost_mixed, .role = ROLE_PEER},
    };

    run(entrants, COUNT_OF(entrants), 8, settings, report);
    report_note(report, "one in 16 writes");
}

/* ---- semaphore ---- */

static void run_semaphore(unsigned processes, const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_word, .role = ROLE_LIMIT},
        {.way = &way_cove_owned, .role = ROLE_COVE},
        {.way = &way_cove_plain, .role = ROLE_VARIANT},
        {.way = &way_semaphore, .role = ROLE_PEER},
        {.way = &way_semaphore_named, .role = ROLE_PEER},
        {.way = &way_boost_semaphore, .role = ROLE_PEER},
        {.way = &way_boost_named_semaphore, .role = ROLE_PEER, .seldom = true},
        {.way = &way_system_v, .role = ROLE_PEER, .seldom = true},
        {.way = &way_qt, .role = ROLE_PEER, .seldom = true},
    };

    run(entrants, COUNT_OF(entrants), processes, settings, report);
    report_note(report, "one permit; owned ones come back when their holder dies, as those of System V and Qt");
}

void row_semaphore(const struct settings *settings, struct report *report)
{
    run_semaphore(1, settings, report);
}

void row_semaphore_2(const struct settings *settings, struct report *report)
{
    run_semaphore(2, settings, report);
}

void row_semaphore_8(const struct settings *settings, struct report *report)
{
    run_semaphore(8, settings, report);
}

/* ---- counter, barrier, bank ---- */

static void run_counter(unsigned processes, const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_atomic_add, .role = ROLE_LIMIT},
        {.way = &way_cove_add, .role = ROLE_COVE},
        {.way = &way_cove_add_spread, .role = ROLE_VARIANT},
    };

    run(entrants, COUNT_OF(entrants), processes, settings, report);
}

void row_counter(const struct settings *settings, struct report *report)
{
    run_counter(1, settings, report);
}

void row_counter_2(const struct settings *settings, struct report *report)
{
    run_counter(2, settings, report);
}

void row_counter_8(const struct settings *settings, struct report *report)
{
    run_counter(8, settings, report);
}

static void run_barrier(unsigned processes, const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_barrier, .role = ROLE_LIMIT},
        {.way = &way_cove_barrier, .role = ROLE_COVE},
    };
    struct crowd crowd = {.entrants = entrants,
                          .count = COUNT_OF(entrants),
                          .processes = processes,
                          .together = true,
                          .in_thousands = true,
                          .share = 0.4};

    report->value_is = "p50";
    crowd_run(&crowd, settings, report);
    report_note(report, "rounds; pthread's for a limit, though it does not see deaths");
}

void row_barrier_2(const struct settings *settings, struct report *report)
{
    run_barrier(2, settings, report);
}

void row_barrier_8(const struct settings *settings, struct report *report)
{
    run_barrier(8, settings, report);
}

static void run_bank(unsigned processes, const struct settings *settings, struct report *report)
{
    struct entrant entrants[] = {
        {.way = &way_cove_bank, .role = ROLE_COVE},
        {.way = &way_bank_robust, .role = ROLE_PEER},
    };

    run(entrants, COUNT_OF(entrants), processes, settings, report);
    report_note(report, "two locks, two saves, commit; pthread's alone puts nothing back after a death");
}

void row_bank(const struct settings *settings, struct report *report)
{
    run_bank(1, settings, report);
}

void row_bank_8(const struct settings *settings, struct report *report)
{
    run_bank(8, settings, report);
}
