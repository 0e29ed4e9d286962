/* ops_woken.c - the kill table's scenarios of waits that end because what was waited for has come.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A second thread of the victim's, which runs freely, has what the victim waits for, and gives it when the victim
 * sleeps; so the points lie on both sides of the sleep. The sleeper waits for the same, behind the victim: what was
 * given to a victim that died before it took it, it must get. Where only the second thread could give it, and died
 * with the victim before it did, the second one gives it. */
#include "hall.h"

#include <errno.h>
#include <unistd.h>

/* ---- the thread that gives ------------------------------------------------------------------------------------ */

struct giver {
    struct stage *stage;
    void (*get)(struct stage *); /* what the victim will wait for; NULL: nothing */
    void (*bring)(struct stage *);
    pthread_t thread;
    int tid; /* of the victim that is stepped */
    _Atomic int ready, done;
};

static struct giver giver; /* the victim's */

static void *giver_main(void *argument)
{
    (void)argument;
    if (giver.get != NULL)
        giver.get(giver.stage);
    atomic_store(&giver.ready, 1);
    await_stepped_asleep(giver.tid, &giver.done);
    giver.bring(giver.stage);
    while (!atomic_load(&giver.done)) /* its end is not to be in the victim's way */
        usleep(200);
    return NULL;
}

static void start_giver(struct stage *stage, void (*get)(struct stage *), void (*bring)(struct stage *))
{
    giver = (struct giver){.stage = stage, .get = get, .bring = bring, .tid = (int)getpid()};
    if (!must(stage, pthread_create(&giver.thread, NULL, giver_main, NULL) == 0, "a thread"))
        return;
    while (!atomic_load(&giver.ready))
        usleep(100);
}

static void join_giver(struct stage *stage)
{
    (void)stage;
    atomic_store(&giver.done, 1);
    pthread_join(giver.thread, NULL);
}

/* ---- locks ---------------------------------------------------------------------------------------------------- */

static void get_alice(struct stage *stage)
{
    take(stage, &stage->alice->lock);
}

static void give_alice(struct stage *stage)
{
    give(stage, &stage->alice->lock);
}

static void get_fair(struct stage *stage)
{
    take(stage, &stage->hall->fair);
}

static void give_fair(struct stage *stage)
{
    give(stage, &stage->hall->fair);
}

static void get_to_read(struct stage *stage)
{
    must(stage, cove_rwlock_lock_shared(stage->segment, &stage->hall->rwlock, PATIENCE_NS * 2) >= 0, "read lock");
}

static void get_to_write(struct stage *stage)
{
    must(stage, cove_rwlock_lock(stage->segment, &stage->hall->rwlock, PATIENCE_NS * 2) >= 0, "write lock");
}

static void give_rwlock(struct stage *stage)
{
    must(stage, cove_rwlock_unlock(stage->segment, &stage->hall->rwlock) == 0, "unlock");
}

static void get_permit(struct stage *stage)
{
    must(stage, cove_semaphore_acquire(stage->segment, &stage->hall->permits, PATIENCE_NS * 2) == 0, "acquire");
}

static void give_permit(struct stage *stage)
{
    must(stage, cove_semaphore_release(stage->segment, &stage->hall->permits) == 0, "release");
}

static void build_permit(struct stage *stage)
{
    must(stage, cove_semaphore_post(stage->segment, &stage->hall->permits, 1) == 0, "building: a permit");
}

/* The probe: it can be had, and given back. */
static void verify_permit(struct stage *stage)
{
    must(stage, cove_semaphore_value(stage->segment, &stage->hall->permits) == 1, "the permit is there");
    get_permit(stage);
    give_permit(stage);
}

/* Gets it behind the victim, and gives it back: for one row of each kind of lock. */
#define WAITS(noun, get, give)                      \
    static void prepare_##noun(struct stage *stage) \
    {                                               \
        start_giver(stage, get, give);              \
    }                                               \
    static void operate_##noun(struct stage *stage) \
    {                                               \
        get(stage);                                 \
        acknowledge(stage, 1);                      \
    }                                               \
    static void after_##noun(struct stage *stage)   \
    {                                               \
        give(stage);                                \
        join_giver(stage);                          \
    }                                               \
    static void sleep_##noun(struct stage *stage)   \
    {                                               \
        get(stage);                                 \
        give(stage);                                \
    }

WAITS(alice, get_alice, give_alice)
WAITS(fair, get_fair, give_fair)
WAITS(permit, get_permit, give_permit)
WAITS(written, get_to_write, give_rwlock)

/* The giver writes, the victim and the sleeper read; and the other way round. */
static void prepare_reader(struct stage *stage)
{
    start_giver(stage, get_to_write, give_rwlock);
}

static void operate_reader(struct stage *stage)
{
    get_to_read(stage);
    acknowledge(stage, 1);
}

static void sleep_reader(struct stage *stage)
{
    get_to_read(stage);
    give_rwlock(stage);
}

static void prepare_drain(struct stage *stage)
{
    start_giver(stage, get_to_read, give_rwlock);
}

/* ---- news ----------------------------------------------------------------------------------------------------- */

enum { AMOUNT = 5 };

static void set_event(struct stage *stage)
{
    must(stage, cove_event_set(stage->segment, &stage->hall->event) == 0, "set");
}

static void await_event(struct stage *stage)
{
    must(stage, cove_event_wait(stage->segment, &stage->hall->event, PATIENCE_NS * 2) == 0, "wait for the event");
}

static void add_to_counter(struct stage *stage)
{
    must(stage, cove_counter_add(stage->segment, &stage->hall->counter, AMOUNT, NULL) == 0, "add");
}

static void await_counter(struct stage *stage)
{
    must(stage, cove_counter_wait(stage->segment, &stage->hall->counter, AMOUNT, NULL, PATIENCE_NS * 2) == 0,
         "wait for the counter");
}

static void signal_ready(struct stage *stage)
{
    struct hall *hall = stage->hall;
    take(stage, &hall->lock);
    hall->ready = 1;
    must(stage, cove_condition_broadcast(stage->segment, &hall->condition) == 0, "broadcast");
    give(stage, &hall->lock);
}

static void await_ready(struct stage *stage)
{
    struct hall *hall = stage->hall;
    take(stage, &hall->lock);
    while (hall->ready == 0)
        if (!must(stage, cove_condition_wait(stage->segment, &hall->condition, &hall->lock, PATIENCE_NS * 2) >= 0,
                  "wait for the condition"))
            break;
    give(stage, &hall->lock);
}

static void post_one(struct stage *stage)
{
    must(stage, cove_semaphore_post(stage->segment, &stage->hall->permits, 1) == 0, "post");
}

static void await_post(struct stage *stage)
{
    must(stage, cove_semaphore_wait(stage->segment, &stage->hall->permits, PATIENCE_NS * 2) == 0, "wait for a permit");
}

/* What comes is there for all who wait, or the second one brings it once more. */
#define NEWS(noun, bring, await)                    \
    static void prepare_##noun(struct stage *stage) \
    {                                               \
        start_giver(stage, NULL, bring);            \
    }                                               \
    static void operate_##noun(struct stage *stage) \
    {                                               \
        await(stage);                               \
        acknowledge(stage, 1);                      \
    }

NEWS(event, set_event, await_event)
NEWS(counter, add_to_counter, await_counter)
NEWS(condition, signal_ready, await_ready)
NEWS(post, post_one, await_post)

/* One was posted or none by the giver, and one by the second one; the sleeper took one, the victim perhaps one. */
static void verify_posts(struct stage *stage)
{
    int64_t value = cove_semaphore_value(stage->segment, &stage->hall->permits);
    if (value < 0 || value > (stage->ledger->acknowledged ? 0 : 1))
        finding(stage, VERDICT_CORRUPT, "%lld permits are left over", (long long)value);
}

/* ---- a round -------------------------------------------------------------------------------------------------- */

static int arrive(struct stage *stage, int64_t timeout_ns)
{
    return cove_barrier_wait(stage->segment, &stage->hall->barrier, 2, timeout_ns);
}

static void arrive_last(struct stage *stage)
{
    must(stage, arrive(stage, PATIENCE_NS) == COVE_LEADER, "the last to come");
    must(stage, cove_barrier_leave(stage->segment, &stage->hall->barrier) == 0, "leave");
}

static void prepare_round(struct stage *stage)
{
    start_giver(stage, NULL, arrive_last);
}

static void operate_round(struct stage *stage)
{
    int got = arrive(stage, PATIENCE_NS);
    if (got != 0)
        finding(stage, VERDICT_CORRUPT, "a round that another completes gave %d", got);
    acknowledge(stage, 1);
}

static void after_round(struct stage *stage)
{
    must(stage, cove_barrier_leave(stage->segment, &stage->hall->barrier) == 0, "leave");
    join_giver(stage);
}

/* With whoever is there, or with nobody: no hang, no lie. */
static void sleep_round(struct stage *stage)
{
    int got;
    for (int round = 0; round < 8 && (got = arrive(stage, 2000000)) == COVE_EPEER; round++)
        must(stage, cove_barrier_reset(stage->segment, &stage->hall->barrier) == 0, "reset");
    must(stage, got >= 0 || got == -ETIMEDOUT, "a round");
    must(stage, cove_barrier_leave(stage->segment, &stage->hall->barrier) == 0, "leave");
}

static void verify_whole(struct stage *stage)
{
    must(stage, arrive(stage, 1000000) == -ETIMEDOUT, "a barrier that all have left");
    must(stage, cove_barrier_leave(stage->segment, &stage->hall->barrier) == 0, "leave");
}

/* ---- once ----------------------------------------------------------------------------------------------------- */

static _Atomic int may_end;

static int do_slowly(void *context)
{
    struct stage *stage = context;
    pair_change(stage, &stage->hall->made, 7);
    atomic_store(&giver.ready, 1);
    await_stepped_asleep(giver.tid, &may_end);
    return 0;
}

static int do_quickly(void *context)
{
    struct stage *stage = context;
    pair_change(stage, &stage->hall->made, 7);
    return 0;
}

/* The giver is in the middle of it when the operation begins, and done when the victim sleeps. */
static void get_once(struct stage *stage)
{
    must(stage, cove_once_call(stage->segment, &stage->hall->once, do_slowly, stage, PATIENCE_NS) == COVE_CREATED,
         "doing it slowly");
}

static void have_once(struct stage *stage)
{
    (void)stage; /* it was given with the call's end */
}

static void prepare_once(struct stage *stage)
{
    start_giver(stage, get_once, have_once);
}

static void operate_once(struct stage *stage)
{
    must(stage, cove_once_call(stage->segment, &stage->hall->once, do_quickly, stage, PATIENCE_NS) == 0,
         "coming to what another does");
    acknowledge(stage, 1);
}

static void sleep_once(struct stage *stage)
{
    int got = cove_once_call(stage->segment, &stage->hall->once, do_quickly, stage, PATIENCE_NS * 2);
    if (must(stage, got >= 0, "coming to what another does") && stage->ledger->acknowledged && got != 0)
        finding(stage, VERDICT_LOST, "it was done, and was done again");
}

static void verify_once(struct stage *stage)
{
    if (stage->hall->made.left != 7)
        finding(stage, VERDICT_CORRUPT, "what is made once is %lld", (long long)stage->hall->made.left);
}

#define LOCK(noun)                                                                                  \
    .traits = IN_HALL, .prepare = prepare_##noun, .operate = operate_##noun, .after = after_##noun, \
    .sleep = sleep_##noun
#define COMES(noun, bring, await)                                                                                 \
    .traits = IN_HALL, .prepare = prepare_##noun, .operate = operate_##noun, .after = join_giver, .sleep = await, \
    .second_part = SECOND_AFTER, .second = bring

const struct scenario ops_woken[] = {
    {.name = "mutex lock, woken", .least = 1600, .most = 20000, LOCK(alice)},
    {.name = "fair lock, woken", .least = 1500, .most = 14000, LOCK(fair)},
    {.name = "write lock behind a writer, woken", .least = 2100, .most = 25000, LOCK(written)},
    {.name = "write lock behind a reader, woken",
     .traits = IN_HALL,
     .least = 4400,
     .most = 43000,
     .prepare = prepare_drain,
     .operate = operate_written,
     .after = after_written,
     .sleep = sleep_written},
    {.name = "read lock behind a writer, woken",
     .traits = IN_HALL,
     .least = 2100,
     .most = 25000,
     .prepare = prepare_reader,
     .operate = operate_reader,
     .after = after_written,
     .sleep = sleep_reader},
    {.name = "semaphore acquire, woken",
     .least = 3700,
     .most = 36000,
     LOCK(permit),
     .build = build_permit,
     .verify = verify_permit},
    {.name = "semaphore wait, woken",
     .least = 1300,
     .most = 12000,
     COMES(post, post_one, await_post),
     .verify = verify_posts},
    {.name = "event wait, woken", .least = 1900, .most = 17000, COMES(event, set_event, await_event)},
    {.name = "counter wait, woken", .least = 1700, .most = 16000, COMES(counter, add_to_counter, await_counter)},
    {.name = "condition wait, woken", .least = 1600, .most = 14000, COMES(condition, signal_ready, await_ready)},
    {.name = "barrier wait, woken",
     .traits = IN_HALL,
     .least = 1600,
     .most = 15000,
     .prepare = prepare_round,
     .operate = operate_round,
     .after = after_round,
     .sleep = sleep_round,
     .verify = verify_whole},
    {.name = "once, another does it",
     .traits = IN_HALL,
     .least = 1700,
     .most = 21000,
     .prepare = prepare_once,
     .operate = operate_once,
     .after = join_giver,
     .sleep = sleep_once,
     .verify = verify_once},
    {0},
};
