/* counts.c - storms of what is counted: plain permits of a semaphore, counters.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "hall.h"

#include <errno.h>

#define A_WHILE_NS INT64_C(30000000)

/* ---- plain permits: what was posted and not taken is there, give or take what killed workers were at */

enum { TAKEN, POSTED, WAITED_IN_VAIN };
enum { MANY = 40 }; /* permits; from there on none are posted */

static void take_token(struct worker *worker, struct hall *hall, uint32_t seat)
{
    int64_t patience = one_in(&worker->random, 4) ? COVE_NOWAIT : (int64_t)below(&worker->random, A_WHILE_NS) + 1;
    intend(seat, -1);
    int result = cove_semaphore_wait(worker->segment, &hall->plain, patience);
    achieve(seat, result == 0 ? -1 : 0);
    count_up(got_it(result, "wait") ? TAKEN : WAITED_IN_VAIN);
}

static void post_tokens(struct worker *worker, struct hall *hall, uint32_t seat)
{
    uint32_t count = (uint32_t)below(&worker->random, 3) + 1;
    if (must(cove_semaphore_value(worker->segment, &hall->plain), "value") > MANY)
        return;
    intend(seat, count);
    must(cove_semaphore_post(worker->segment, &hall->plain, count), "post");
    achieve(seat, count);
    count_up(POSTED);
}

static void plain_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    begin_doing(worker, DOING_MEET);
    if (one_in(&worker->random, 3))
        post_tokens(worker, hall, seat);
    else
        take_token(worker, hall, seat);
    end_doing(worker, DOING_MEET);
}

static void plain_judge(struct worker *worker, struct hall *hall)
{
    int64_t value = must(cove_semaphore_value(worker->segment, &hall->plain), "value");
    check_sum(value - TOKENS, "permits");
    for (int64_t i = 0; i < value; i++)
        must(cove_semaphore_wait(worker->segment, &hall->plain, COVE_NOWAIT), "a permit in the end");
    if (cove_semaphore_wait(worker->segment, &hall->plain, COVE_NOWAIT) != -EBUSY)
        fault("there is a permit too many in the end");
}

bool plain_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {
        .name = "plain", .step = plain_step, .judge = plain_judge, .told = {"taken", "posted", "waited for in vain"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[TAKEN]) > 0;
}

/* ---- counters: what was added is there, likewise */

enum { ADDED, CAME, IN_VAIN };

static cove_counter *spread;

static void counter_begin(struct worker *worker, struct hall *hall, uint32_t seat)
{
    (void)hall, (void)seat;
    must(cove_counter_open_in(&spread, worker->segment, SPREAD_NAME,
                              &(struct cove_sync_options){.flags = COVE_EXISTING}),
         "open the spread counter");
}

static void add(struct worker *worker, cove_counter *counter, uint32_t seat)
{
    int64_t amount = (int64_t)below(&worker->random, 15) - 5, now;
    intend(seat, amount);
    must(cove_counter_add(worker->segment, counter, amount, one_in(&worker->random, 2) ? &now : NULL), "add");
    achieve(seat, amount);
    count_up(ADDED);
}

static void await(struct worker *worker, cove_counter *counter)
{
    int64_t value = 0, now = 0, patience = (int64_t)below(&worker->random, A_WHILE_NS);
    bool change = one_in(&worker->random, 2);
    must(cove_counter_get(worker->segment, counter, &value), "get");
    int result = change ? cove_counter_wait_change(worker->segment, counter, value, &now, patience)
                        : cove_counter_wait(worker->segment, counter, value + 20, &now, patience);
    if (result == 0 && (change ? now == value : now < value + 20))
        fault("waited from %lld until it is %s, and was told of %lld", (long long)value,
              change ? "another" : "more by 20", (long long)now);
    count_up(got_it(result, "wait for a counter") ? CAME : IN_VAIN);
}

static void counter_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    cove_counter *counter = one_in(&worker->random, 2) ? &hall->counter : spread;
    begin_doing(worker, DOING_MEET);
    if (one_in(&worker->random, 10))
        await(worker, counter);
    else
        add(worker, counter, seat);
    end_doing(worker, DOING_MEET);
}

static void counter_judge(struct worker *worker, struct hall *hall)
{
    int64_t plain = 0, over_lines = 0;
    counter_begin(worker, hall, 0);
    must(cove_counter_get(worker->segment, &hall->counter, &plain), "get");
    must(cove_counter_get(worker->segment, spread, &over_lines), "get");
    check_sum(plain + over_lines, "both counters");
}

bool counter_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {.name = "counter",
                                            .begin = counter_begin,
                                            .step = counter_step,
                                            .judge = counter_judge,
                                            .told = {"added", "waited for", "waited for in vain"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[CAME]) > 0;
}
