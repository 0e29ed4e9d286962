/* test_deadlock_random.c - deadlocks at random, beside somebody who knows what is true; and where there can be none, a search
 * that never finds one.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * COVE_TEST_SECONDS: how long each of them lasts, in place of 2. */
/* ctest: threads timeout=120 */
#include "actors.h"

#include <cove/rwlock.h>

struct board {
    cove_mutex locks[6];
    cove_rwlock shelves[4];
    uint64_t value;
};

static cove_segment *segment;
static struct board *board;

static void begin(void)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
}

static void end(void)
{
    for (unsigned i = 0; i < 6; i++) {
        (void)EXPECT_GOOD(cove_mutex_lock(segment, &board->locks[i], unit_patience())); /* nobody has it any more */
        EXPECT(0, cove_mutex_unlock(segment, &board->locks[i]));
    }
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* ---- in any order, beside somebody who knows */

#define THREADS 6
#define LOCKS 4

/* What is true, as far as the threads say: stored after a lock was got and before it is given back. In a circle nothing of
 * it changes. */
struct truth {
    _Atomic int owner[LOCKS]; /* number of the thread + 1 */
    _Atomic int wants[THREADS]; /* number of the lock + 1 */
    _Atomic unsigned told, lies, slow;
    bool ordered;
    int64_t until_ns;
};
struct player {
    struct truth *truth;
    int number;
};

static bool in_a_circle(struct truth *truth, int me)
{
    int at = me;
    for (int i = 0; i <= THREADS; i++) {
        int wanted = atomic_load(&truth->wants[at]);
        if (wanted == 0)
            return false;
        int owner = atomic_load(&truth->owner[wanted - 1]);
        if (owner == 0)
            return false;
        at = owner - 1;
        if (at == me)
            return true;
    }
    return false;
}

static bool get(cove_segment *own, struct board *mine, struct player *me, int which)
{
    struct truth *truth = me->truth;
    atomic_store(&truth->wants[me->number], which + 1);
    int64_t begun = unit_now();
    int result = cove_mutex_lock(own, &mine->locks[which], COVE_FOREVER);
    if (result == -EDEADLK) {
        atomic_fetch_add(&truth->told, 1);
        if (!in_a_circle(truth, me->number))
            atomic_fetch_add(&truth->lies, 1);
    } else
        EXPECT_WAS(0, result);
    if (unit_now() - begun > unit_patience())
        atomic_fetch_add(&truth->slow, 1);
    atomic_store(&truth->wants[me->number], 0);
    if (result == 0)
        atomic_store(&truth->owner[which], me->number + 1);
    return result == 0;
}

static void give(cove_segment *own, struct board *mine, struct truth *truth, int which)
{
    atomic_store(&truth->owner[which], 0);
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[which]));
}

static void play_at_random(cove_segment *own, void *argument)
{
    struct player *me = argument;
    struct truth *truth = me->truth;
    struct board *mine = board_of(own);
    uint64_t seed = 1000 + (uint64_t)me->number;
    while (unit_now() < truth->until_ns) {
        int first = (int)(unit_random(&seed) % LOCKS), second = (int)(unit_random(&seed) % LOCKS);
        if (first == second)
            continue;
        if (truth->ordered && first > second) {
            int other = first;
            first = second;
            second = other;
        }
        if (!get(own, mine, me, first))
            continue;
        actors_pass((int64_t)(unit_random(&seed) % 20) * UNIT_MS);
        if (get(own, mine, me, second)) {
            actors_pass((int64_t)(unit_random(&seed) % 30) * UNIT_MS);
            give(own, mine, truth, second);
        }
        give(own, mine, truth, first);
    }
}

static struct truth *play(bool processes, bool ordered)
{
    begin();
    const char *seconds = getenv("COVE_TEST_SECONDS");
    struct truth *truth = testing_shared(sizeof *truth);
    truth->ordered = ordered;
    truth->until_ns = unit_now() + (seconds ? atoi(seconds) : 2) * UNIT_S;
    struct actor actors[THREADS];
    for (int i = 0; i < THREADS; i++) {
        struct player *player = testing_shared(sizeof *player);
        *player = (struct player){truth, i};
        actors[i] = actor_start(processes, segment, play_at_random, player);
    }
    actors_join(actors, THREADS);
    print_message("%u told, %u of them in no circle; %u waits were too long; %u waits\n", atomic_load(&truth->told),
                  atomic_load(&truth->lies), atomic_load(&truth->slow), board->locks[0].waits);
    assert_int_equal(atomic_load(&truth->lies), 0);
    assert_int_equal(atomic_load(&truth->slow), 0);
    assert_true(board->locks[0].longest_us > 1000);
    end();
    return truth;
}

static void test_deadlock_random_orders_tell_only_circles(void **state)
{
    (void)state;
    assert_true(atomic_load(&play(false, false)->told) > 0); /* they do meet */
}

static void test_deadlock_random_orders_of_processes_tell_only_circles(void **state)
{
    (void)state;
    assert_true(atomic_load(&play(true, false)->told) > 0);
}

static void test_deadlock_one_order_tells_nobody(void **state)
{
    (void)state;
    assert_int_equal(atomic_load(&play(false, true)->told), 0);
}

/* ---- searching all the time, where owners change all the time and no circle can be */

static _Atomic unsigned searches, found;

static int search_then_park(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    struct covei_lane *lane = covei_thread.lane;
    if (atomic_load(&lane->shm->waits_for) != 0) {
        atomic_fetch_add(&searches, 1);
        if (covei_deadlock(lane, 3600 * UNIT_S) != 0) /* whoever came last */
            atomic_fetch_add(&found, 1);
    }
    return covei_os_native.park_any(parks, count, timeout_ns);
}

#define THINGS 6 /* mutexes are even, rwlocks odd; taken in this order */

static int take_thing(cove_segment *own, struct board *mine, unsigned thing, bool write)
{
    if (thing % 2 == 0)
        return cove_mutex_lock(own, &mine->locks[thing], COVE_FOREVER);
    return write ? cove_rwlock_lock(own, &mine->shelves[thing / 2], COVE_FOREVER)
                 : cove_rwlock_lock_shared(own, &mine->shelves[thing / 2], COVE_FOREVER);
}

static void give_thing(cove_segment *own, struct board *mine, unsigned thing)
{
    EXPECT(0, thing % 2 == 0 ? cove_mutex_unlock(own, &mine->locks[thing])
                             : cove_rwlock_unlock(own, &mine->shelves[thing / 2]));
}

/* Stopped at any instruction, for as long as others need to go on. */
static void dawdle(int number)
{
    (void)number;
    for (int i = 0; i < 500; i++)
        covei_relax();
    sched_yield();
}

static timer_t dawdle_often(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event._sigev_un._tid = covei_os_native.thread_id();
    timer_t timer;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &(struct itimerspec){{0, 1000000}, {0, 1000000}}, NULL), 0);
    return timer;
}

static void take_in_order(cove_segment *own, void *argument)
{
    struct player *me = argument;
    timer_t timer = dawdle_often();
    struct board *mine = board_of(own);
    uint64_t seed = 2000 + (uint64_t)me->number;
    while (unit_now() < me->truth->until_ns) {
        uint64_t random = unit_random(&seed);
        unsigned taken = (unsigned)random % 64;
        for (unsigned thing = 0; thing < THINGS; thing++)
            if (taken >> thing & 1)
                EXPECT(0, take_thing(own, mine, thing, random >> (thing + 8) & 1));
        for (unsigned i = 0; i < (random >> 32) % 64; i++)
            covei_relax();
        if (random >> 61 == 0)
            sched_yield();
        for (unsigned thing = THINGS; thing-- > 0;)
            if (taken >> thing & 1)
                give_thing(own, mine, thing);
    }
    assert_int_equal(timer_delete(timer), 0);
}

static void test_deadlock_search_among_changing_owners_finds_none(void **state)
{
    (void)state;
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = search_then_park;
    covei_os = &calls;
    struct sigaction action = {.sa_handler = dawdle};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    begin();
    const char *seconds = getenv("COVE_TEST_SECONDS");
    struct truth *truth = testing_shared(sizeof *truth);
    truth->until_ns = unit_now() + (seconds ? atoi(seconds) : 2) * UNIT_S;
    struct actor actors[THREADS];
    struct player players[THREADS];
    for (int i = 0; i < THREADS; i++) {
        players[i] = (struct player){truth, i};
        actors[i] = actor_start(false, segment, take_in_order, &players[i]);
    }
    actors_join(actors, THREADS);
    print_message("%u searches, %u found something\n", atomic_load(&searches), atomic_load(&found));
    covei_os = &covei_os_native;
    assert_int_equal(atomic_load(&found), 0);
    assert_true(atomic_load(&searches) > 50);
    end();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_deadlock_random_orders_tell_only_circles, 120),
    TEST_TIMEOUT(test_deadlock_random_orders_of_processes_tell_only_circles, 120),
    TEST_TIMEOUT(test_deadlock_one_order_tells_nobody, 120),
    TEST_TIMEOUT(test_deadlock_search_among_changing_owners_finds_none, 120),
};

int main(void)
{
    return testing_run("deadlock_random", tests);
}
