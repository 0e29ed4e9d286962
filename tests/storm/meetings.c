/* meetings.c - storms of meeting points: goods under a mutex with conditions and an event, the barrier, the once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "hall.h"

#include <errno.h>
#include <sched.h>

/* ---- goods: each is put in once and taken out once, in its maker's order, and nobody sleeps while some lie there */

#define SHOP_PATIENCE_NS INT64_C(400000000)
#define LYING_NS \
    UINT64_C(300000000) /* goods that lie as long as this while somebody sleeps for them: a wake-up is lost */

enum { MADE, USED, SLEPT, SLEPT_FOR_EVENT, TIMED_OUT };

/* Half of the workers make, half use: if all chose, all could come to wait for the same. */
static bool is_maker(uint32_t seat)
{
    return seat % 2 == 0;
}

static void put(struct worker *worker, struct hall *hall, uint32_t seat)
{
    struct good *good = &hall->shop.goods[(hall->shop.first + hall->shop.count) % GOODS];
    must(cove_save(worker->segment, good, sizeof *good), "save a place");
    must(cove_save(worker->segment, &hall->shop.put_ns, 3 * sizeof(uint64_t)), "save the shop");
    must(cove_save(worker->segment, &hall->shop.made[seat], sizeof(uint64_t)), "save a number");
    *good = (struct good){seat, hall->shop.made[seat]++};
    if (one_in(&worker->random, 8))
        sched_yield();
    hall->shop.count++;
    hall->shop.put_ns = now_ns();
    must(one_in(&worker->random, 4) ? cove_condition_broadcast(worker->segment, &hall->shop.filled)
                                    : cove_condition_signal(worker->segment, &hall->shop.filled),
         "signal");
    must(cove_event_set(worker->segment, &hall->shop.event), "set the event");
}

static void get(struct worker *worker, struct hall *hall)
{
    struct good good = hall->shop.goods[hall->shop.first % GOODS];
    if (good.maker >= WORKERS || good.number != hall->shop.used[good.maker])
        fault("number %llu of maker %llu comes out, where number %llu is next", (unsigned long long)good.number,
              (unsigned long long)good.maker,
              (unsigned long long)(good.maker < WORKERS ? hall->shop.used[good.maker] : 0));
    must(cove_save(worker->segment, &hall->shop.first, 2 * sizeof(uint64_t)), "save the shop");
    must(cove_save(worker->segment, &hall->shop.used[good.maker], sizeof(uint64_t)), "save a number");
    hall->shop.used[good.maker]++;
    hall->shop.first++;
    if (one_in(&worker->random, 8))
        sched_yield();
    hall->shop.count--;
    must(cove_condition_signal(worker->segment, &hall->shop.emptied), "signal");
}

/* Time is up. Had it come? */
static void look_for_lost(const struct hall *hall, bool wants_goods)
{
    uint64_t lay_ns = now_ns() - hall->shop.put_ns;
    count_up(TIMED_OUT);
    if (wants_goods && hall->shop.count > 0 && lay_ns > LYING_NS && lay_ns < UINT64_MAX / 2)
        fault("slept for goods that lay there for %llu ms", (unsigned long long)(lay_ns / 1000000));
}

/* With the lock, inside a transaction or not. False: not to be had. */
static bool await_shop(struct worker *worker, struct hall *hall, bool wants_goods)
{
    cove_condition *condition = wants_goods ? &hall->shop.filled : &hall->shop.emptied;
    while (hall->shop.count == (wants_goods ? 0 : GOODS)) {
        int result = cove_condition_wait(worker->segment, condition, &hall->shop.lock, SHOP_PATIENCE_NS);
        count_up(SLEPT);
        if (result == -ETIMEDOUT) {
            look_for_lost(hall, wants_goods);
            return hall->shop.count != (wants_goods ? 0 : GOODS);
        }
        must(result, "wait on a condition");
        if (atomic_load(&ledger->stop))
            return false;
    }
    return true;
}

/* Instead of the condition: the version is looked at under the lock, so no set is missed. */
static void await_event(struct worker *worker, struct hall *hall)
{
    uint64_t version = 0;
    lock(worker, &hall->shop.lock);
    bool empty = hall->shop.count == 0;
    must(cove_event_look(worker->segment, &hall->shop.event, &version, NULL), "look");
    unlock(worker, &hall->shop.lock);
    if (!empty)
        return;
    count_up(SLEPT_FOR_EVENT);
    int result = cove_event_wait_beyond(worker->segment, &hall->shop.event, version, NULL, SHOP_PATIENCE_NS);
    if (result != -ETIMEDOUT) {
        must(result, "wait for the event");
        return;
    }
    lock(worker, &hall->shop.lock);
    look_for_lost(hall, true);
    unlock(worker, &hall->shop.lock);
}

/* The lock is taken inside the transaction, or before it. */
static void trade(struct worker *worker, struct hall *hall, uint32_t seat, bool makes)
{
    bool before = one_in(&worker->random, 2), waits_before = before && one_in(&worker->random, 2);
    if (before)
        lock(worker, &hall->shop.lock);
    bool good = !waits_before || await_shop(worker, hall, !makes);
    must(cove_begin(worker->segment), "begin");
    if (!before)
        lock(worker, &hall->shop.lock);
    good = good && (waits_before || await_shop(worker, hall, !makes));
    if (good && makes)
        put(worker, hall, seat);
    else if (good)
        get(worker, hall);
    intend(seat, !good ? 0 : makes ? 1 : -1);
    must(cove_commit(worker->segment), "commit");
    achieve(seat, !good ? 0 : makes ? 1 : -1);
    if (before)
        unlock(worker, &hall->shop.lock);
    if (good)
        count_up(makes ? MADE : USED);
}

static void goods_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    begin_doing(worker, DOING_MEET);
    if (!is_maker(seat) && one_in(&worker->random, 8))
        await_event(worker, hall);
    if (one_in(&worker->random, 3)) /* for nothing, and without the lock: others' signals must not be lost by it */
        must(cove_condition_signal(worker->segment,
                                   one_in(&worker->random, 2) ? &hall->shop.filled : &hall->shop.emptied),
             "signal for nothing");
    trade(worker, hall, seat, is_maker(seat));
    end_doing(worker, DOING_MEET);
}

static void goods_judge(struct worker *worker, struct hall *hall)
{
    uint64_t made = 0, used = 0;
    check_sum((int64_t)hall->shop.count, "goods in the shop");
    lock(worker, &hall->shop.lock);
    must(cove_begin(worker->segment), "begin");
    while (hall->shop.count > 0)
        get(worker, hall);
    must(cove_commit(worker->segment), "commit");
    unlock(worker, &hall->shop.lock);
    for (uint32_t i = 0; i < WORKERS; i++)
        made += hall->shop.made[i], used += hall->shop.used[i];
    if (made != used)
        fault("%llu goods were made, %llu were used", (unsigned long long)made, (unsigned long long)used);
}

bool goods_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {.name = "goods",
                                            .step = goods_step,
                                            .judge = goods_judge,
                                            .told = {"made", "used", "slept", "slept for the event", "timed out"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[SLEPT_FOR_EVENT]) > 0;
}

/* ---- the barrier: nobody goes on before all have come; a death is told, and the next round is whole again */

#define ROUND_PATIENCE_NS INT64_C(300000000)

enum { ROUNDS_SEEN, LED, TOLD, TOO_FEW, STARTED };

struct attendance {
    uint64_t arrived[WORKERS];
    bool waits[WORKERS]; /* it had come, and not gone on */
};

static struct attendance look_at_all(void)
{
    struct attendance now;
    for (uint32_t i = 0; i < WORKERS; i++) {
        uint64_t left = atomic_load(&ledger->hall.left[i]); /* first: it may go on between */
        now.arrived[i] = atomic_load(&ledger->hall.arrived[i]);
        now.waits[i] = left != now.arrived[i];
    }
    return now;
}

/* The round is complete: each of the others was waiting when we came, or has come since. */
static void check_round(uint32_t seat, const struct attendance *before)
{
    for (uint32_t i = 0; i < WORKERS; i++)
        if (i != seat && !before->waits[i] && atomic_load(&ledger->hall.arrived[i]) == before->arrived[i])
            fault("a round is complete, and worker %u has not come", i);
}

/* That the one before had come, and died, stays noted: the round that it came to may yet be complete. */
static void barrier_begin(struct worker *worker, struct hall *hall, uint32_t seat)
{
    (void)worker, (void)hall, (void)seat;
    count_up(STARTED);
}

static void barrier_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    begin_doing(worker, DOING_MEET);
    struct attendance before = look_at_all();
    uint64_t arrived = atomic_fetch_add(&ledger->hall.arrived[seat], 1) + 1;
    int result = cove_barrier_wait(worker->segment, &hall->barrier, WORKERS, ROUND_PATIENCE_NS);
    if (result >= 0)
        check_round(seat, &before);
    atomic_store(&ledger->hall.left[seat], arrived);
    if (result == COVE_EPEER)
        must(cove_barrier_reset(worker->segment, &hall->barrier), "reset");
    else if (result != -ETIMEDOUT)
        must(result, "a round");
    count_up(result >= 0 ? ROUNDS_SEEN : result == COVE_EPEER ? TOLD : TOO_FEW);
    if (result == COVE_LEADER)
        count_up(LED);
    if (one_in(&worker->random, 200)) /* and is a newcomer next time */
        must(cove_barrier_leave(worker->segment, &hall->barrier), "leave");
    end_doing(worker, DOING_MEET);
}

/* Each round has one leader and WORKERS who saw it, but for those who died before they had noted it. */
static void barrier_judge(struct worker *worker, struct hall *hall)
{
    int64_t seen = (int64_t)atomic_load(&ledger->hall.tally[ROUNDS_SEEN]);
    int64_t led = (int64_t)atomic_load(&ledger->hall.tally[LED]) * WORKERS;
    int64_t off = (int64_t)atomic_load(&ledger->hall.tally[STARTED]) * WORKERS;
    if (seen - led > off || led - seen > off)
        fault("%lld saw a round of %d complete, and %lld led one", (long long)seen, WORKERS, (long long)led / WORKERS);
    must(cove_barrier_wait(worker->segment, &hall->barrier, WORKERS, COVE_NOWAIT) == -EBUSY ? 0 : -1,
         "a barrier that all have left is whole");
    must(cove_barrier_leave(worker->segment, &hall->barrier), "leave");
}

bool barrier_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {
        .name = "barrier",
        .begin = barrier_begin,
        .step = barrier_step,
        .judge = barrier_judge,
        .told = {"saw a round", "led it", "told of a death", "timed out", "started"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[LED]) > 0;
}

/* ---- onces: done once until they are made anew, however many try, fail, undo it or are killed */

enum { DID, FOUND, FAILED, TAKEN_BACK, RENEWED };
enum { BLOCK_BYTES = 100 };

struct doing_once {
    struct worker *worker;
    struct hall *hall;
    uint64_t which;
};

static int do_once(void *context)
{
    struct doing_once *doing = context;
    struct worker *worker = doing->worker;
    uint64_t *count = &doing->hall->onces[doing->which].count;
    cove_ref *block = &doing->hall->onces[doing->which].block;
    if (*count != 0 || *block != 0)
        fault("once %llu is to be done, and was done %llu times", (unsigned long long)doing->which,
              (unsigned long long)*count);
    must(cove_save(worker->segment, count, sizeof *count), "save the count");
    *count = 1;
    if (one_in(&worker->random, 4))
        sched_yield();
    must(cove_alloc_into(worker->segment, block, BLOCK_BYTES), "alloc_into");
    return one_in(&worker->random, 8) ? -EIO : 0;
}

static void check_once(const struct hall *hall, uint64_t which)
{
    if (hall->onces[which].count != 1 || hall->onces[which].block == 0)
        fault("once %llu is done, and its count is %llu", (unsigned long long)which,
              (unsigned long long)hall->onces[which].count);
}

static void note_once(int result)
{
    if (result != -EIO)
        (void)got_it(result, "a once");
    count_up(result == -EIO ? FAILED : result == 0 ? FOUND : DID);
}

static void call_once(struct worker *worker, struct hall *hall)
{
    struct doing_once doing = {worker, hall, below(&worker->random, ONCES)};
    bool inside = one_in(&worker->random, 3), undo = one_in(&worker->random, 4);
    must(cove_rwlock_lock_shared(worker->segment, &hall->renewal, COVE_FOREVER), "lock to read");
    if (inside)
        must(cove_begin(worker->segment), "begin");
    int result = cove_once_call(worker->segment, &hall->onces[doing.which].once, do_once, &doing, COVE_FOREVER);
    note_once(result);
    if (result >= 0)
        check_once(hall, doing.which);
    if (inside && undo)
        count_up(TAKEN_BACK);
    if (inside)
        must(undo ? cove_abort(worker->segment) : cove_commit(worker->segment), "end it");
    must(cove_rwlock_unlock(worker->segment, &hall->renewal), "unlock");
}

/* Nobody calls any meanwhile. */
static void renew(struct worker *worker, struct hall *hall)
{
    must(cove_begin(worker->segment), "begin");
    must(cove_rwlock_lock(worker->segment, &hall->renewal, COVE_FOREVER), "lock to write");
    for (uint64_t i = 0; i < ONCES; i++) {
        if (hall->onces[i].once.done == 0)
            continue;
        check_once(hall, i);
        must(cove_free_from(worker->segment, &hall->onces[i].block), "free_from");
        must(cove_save(worker->segment, &hall->onces[i], sizeof hall->onces[i]), "save a once");
        hall->onces[i].once = (cove_once){0};
        hall->onces[i].count = 0;
    }
    must(cove_commit(worker->segment), "commit");
    count_up(RENEWED);
}

static void once_step(struct worker *worker, struct hall *hall, uint32_t seat)
{
    (void)seat;
    begin_doing(worker, DOING_MEET);
    if (one_in(&worker->random, 40))
        renew(worker, hall);
    else
        call_once(worker, hall);
    end_doing(worker, DOING_MEET);
}

static void once_judge(struct worker *worker, struct hall *hall)
{
    for (uint64_t i = 0; i < ONCES; i++)
        if (hall->onces[i].once.done != hall->onces[i].count || hall->onces[i].count > 1 ||
            (hall->onces[i].block != 0) != hall->onces[i].count)
            fault("once %llu is %sdone, its count is %llu", (unsigned long long)i,
                  hall->onces[i].once.done ? "" : "not ", (unsigned long long)hall->onces[i].count);
    renew(worker, hall);
}

bool once_storm(const struct plan *plan, uint64_t *killed)
{
    static const struct hall_storm storm = {.name = "once",
                                            .step = once_step,
                                            .judge = once_judge,
                                            .told = {"did it", "found it done", "failed", "took it back", "renewed"}};
    return hall_storm_run(&storm, plan, killed) && atomic_load(&ledger->hall.tally[RENEWED]) > 0;
}
