/* test_trap_condition.c - traps of conditions, barriers, rwlocks and "initialise it first": a participant that is
 * killed takes the others with it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "traps_sync.h"

/* From 2.25 on glibc counts who waits; its conditions were written anew in 2.41. There, and with other libcs, nothing is
 * asserted of the old way. */
#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

/* ---- row: conditions that a killed waiter breaks */

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ready; /* each waiter takes one */
};

/* Is it known that a killed waiter breaks this libc's conditions (glibc's bug 21422)? */
static bool libc_counts_waiters(void)
{
#if defined(__GLIBC__)
    const char *version = gnu_get_libc_version();
    int major = atoi(version), minor = strchr(version, '.') ? atoi(strchr(version, '.') + 1) : 0;
    return major == 2 && minor >= 25 && minor < 41;
#else
    return false;
#endif
}

static struct meeting *meeting_make(void)
{
    struct meeting *meeting = testing_shared(sizeof *meeting);
    trap_mutex_init(&meeting->lock, PTHREAD_MUTEX_ROBUST);
    pthread_condattr_t attributes;
    clockid_t clock = -1;
    assert_int_equal(pthread_condattr_init(&attributes), 0);
    assert_int_equal(pthread_condattr_getclock(&attributes, &clock), 0);
    assert_int_equal(clock, CLOCK_REALTIME); /* a trap of its own: timeouts go by the clock that people set */
    assert_int_equal(pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
    assert_int_equal(pthread_cond_init(&meeting->changed, &attributes), 0);
    assert_int_equal(pthread_condattr_destroy(&attributes), 0);
    return meeting;
}

static void wait_until_ready(void *argument)
{
    struct meeting *meeting = argument;
    assert_int_equal(pthread_mutex_lock(&meeting->lock), 0);
    testing_reach(0);
    while (meeting->ready == 0)
        assert_int_equal(pthread_cond_wait(&meeting->changed, &meeting->lock), 0);
    meeting->ready--;
    assert_int_equal(pthread_mutex_unlock(&meeting->lock), 0);
}

static void make_ready(void *argument)
{
    struct meeting *meeting = argument;
    assert_int_equal(pthread_mutex_lock(&meeting->lock), 0);
    meeting->ready++;
    assert_int_equal(pthread_mutex_unlock(&meeting->lock), 0);
    testing_reach(1);
    assert_int_equal(pthread_cond_signal(&meeting->changed), 0);
}

/* It is asleep in its wait. */
static pid_t spawn_waiter(void (*function)(void *argument), void *argument)
{
    unsigned before = testing_reached(0);
    pid_t waiter = testing_spawn(function, argument);
    testing_await_count(0, before + 1);
    TRAP_AWAIT_SLEEP(waiter);
    return waiter;
}

/* Trap: one of two who wait is killed. The next signal goes to the dead one, and whoever signals after that never comes
 * back from it: the condition waits for the dead one to leave. */
static void test_condition_killed_waiter_breaks_it(void **state)
{
    (void)state;
    struct meeting *meeting = meeting_make();
    if (!libc_counts_waiters())
        return;
    pid_t victim = spawn_waiter(wait_until_ready, meeting), other = spawn_waiter(wait_until_ready, meeting);
    testing_kill(victim);
    make_ready(meeting);
    testing_join(other); /* both belonged to one generation of waiters: that went well */
    other = spawn_waiter(wait_until_ready, meeting);
    make_ready(meeting);
    assert_true(trap_sleeps(other)); /* it is ready, the signal was given, and he sleeps */
    assert_int_equal(meeting->ready, 1);
    unsigned before = testing_reached(1);
    pid_t signaller = testing_spawn(make_ready, meeting);
    testing_await_count(1, before + 1);
    TRAP_AWAIT_SLEEP(signaller); /* in pthread_cond_signal, which is not meant to wait for anything */
    testing_kill(signaller);
    testing_kill(other);
}

struct place {
    cove_mutex lock;
    cove_condition changed;
    int ready;
};

static void wait_in_place(void *argument)
{
    cove_segment *segment = unit_open("robot");
    struct place *place = unit_object(segment, "place", sizeof *place);
    EXPECT_GOOD(cove_mutex_lock(segment, &place->lock, COVE_FOREVER));
    testing_reach(0);
    while (place->ready == 0)
        EXPECT_GOOD(cove_condition_wait(segment, &place->changed, &place->lock, COVE_FOREVER));
    place->ready--;
    EXPECT(0, cove_mutex_unlock(segment, &place->lock));
    unit_close(segment);
    *(_Atomic int *)argument += 1;
}

static void signal_in_place(cove_segment *segment, struct place *place, int more)
{
    EXPECT_GOOD(cove_mutex_lock(segment, &place->lock, COVE_FOREVER));
    place->ready += more;
    EXPECT(0, more == 1 ? cove_condition_signal(segment, &place->changed)
                        : cove_condition_broadcast(segment, &place->changed));
    EXPECT(0, cove_mutex_unlock(segment, &place->lock));
}

/* Cove: the same, and more of them: each signal wakes somebody who lives. */
static void test_condition_killed_waiter_harms_nobody(void **state)
{
    (void)state;
    _Atomic int *came = testing_shared(sizeof *came);
    cove_segment *segment = unit_open("robot");
    struct place *place = unit_object(segment, "place", sizeof *place);
    for (int round = 1; round <= 4; round++) {
        pid_t victim = spawn_waiter(wait_in_place, (void *)(uintptr_t)came);
        pid_t other = spawn_waiter(wait_in_place, (void *)(uintptr_t)came);
        testing_kill(victim);
        signal_in_place(segment, place, 1);
        testing_join(other);
        assert_int_equal(*came, round);
    }
    pid_t victim = spawn_waiter(wait_in_place, (void *)(uintptr_t)came);
    pid_t others[2] = {spawn_waiter(wait_in_place, (void *)(uintptr_t)came),
                       spawn_waiter(wait_in_place, (void *)(uintptr_t)came)};
    testing_kill(victim);
    signal_in_place(segment, place, 2);
    testing_join(others[0]);
    testing_join(others[1]);
    assert_int_equal(place->ready, 0);
    unit_close(segment);
    unit_remove("robot");
}

/* ---- a barrier, one of whose parties is killed */

#define PARTIES 3u

static void be_on_the_way(void *argument)
{
    (void)argument;
    unit_wait_for_death();
}

static void pass_barrier(void *argument)
{
    testing_reach(0);
    (void)pthread_barrier_wait(argument);
    testing_reach(1);
}

static void pass_twice(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("robot");
    cove_barrier *barrier = unit_object(segment, "gate", sizeof *barrier);
    EXPECT_GOOD(cove_barrier_wait(segment, barrier, PARTIES, COVE_FOREVER));
    testing_reach(2);
    testing_reach(0);
    EXPECT_SAYS(COVE_EPEER, cove_barrier_wait(segment, barrier, PARTIES, COVE_FOREVER), "died");
    EXPECT(0, cove_barrier_reset(segment, barrier));
    EXPECT_GOOD(cove_barrier_wait(segment, barrier, PARTIES, COVE_FOREVER)); /* with one who comes in its place */
    unit_close(segment);
}

static void pass_and_stay(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("robot");
    cove_barrier *barrier = unit_object(segment, "gate", sizeof *barrier);
    EXPECT_GOOD(cove_barrier_wait(segment, barrier, PARTIES, COVE_FOREVER));
    testing_reach(2);
    unit_wait_for_death();
}

static void take_the_place(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("robot");
    cove_barrier *barrier = unit_object(segment, "gate", sizeof *barrier);
    int result = cove_barrier_wait(segment, barrier, PARTIES, COVE_FOREVER);
    while (result == COVE_EPEER) {
        EXPECT(0, cove_barrier_reset(segment, barrier));
        result = cove_barrier_wait(segment, barrier, PARTIES, COVE_FOREVER);
    }
    EXPECT_GOOD(result);
    unit_close(segment);
}

/* Trap: three are to come, one is killed on its way, and two wait for ever. */
static void test_barrier_killed_party_hangs_the_others(void **state)
{
    (void)state;
    pthread_barrier_t *barrier = testing_shared(sizeof *barrier);
    pthread_barrierattr_t attributes;
    assert_int_equal(pthread_barrierattr_init(&attributes), 0);
    assert_int_equal(pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
    assert_int_equal(pthread_barrier_init(barrier, &attributes, PARTIES), 0);
    pid_t late = testing_spawn(be_on_the_way, NULL);
    pid_t waiters[2] = {spawn_waiter(pass_barrier, barrier), spawn_waiter(pass_barrier, barrier)};
    testing_kill(late);
    assert_true(trap_sleeps(waiters[0]) &&
                trap_sleeps(waiters[1])); /* nobody tells them, and none is missing to them */
    assert_int_equal(testing_reached(1), 0);
    testing_kill(waiters[0]);
    testing_kill(waiters[1]);
}

/* Cove: they are told, and can go on with another. */
static void test_barrier_killed_party_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("robot");
    pid_t stays[2] = {testing_spawn(pass_twice, NULL), testing_spawn(pass_twice, NULL)};
    pid_t dies = testing_spawn(pass_and_stay, NULL);
    testing_await_count(2, PARTIES); /* all three were there once */
    testing_await_count(0, 2);
    TRAP_AWAIT_SLEEP(stays[0]);
    TRAP_AWAIT_SLEEP(stays[1]);
    testing_kill(dies);
    pid_t instead = testing_spawn(take_the_place, NULL);
    testing_join(stays[0]);
    testing_join(stays[1]);
    testing_join(instead);
    unit_close(segment);
    unit_remove("robot");
}

/* ---- rwlocks: a reader that is killed, a writer that starves */

static void read_and_be_killed(void *argument)
{
    assert_int_equal(pthread_rwlock_rdlock(argument), 0);
    (void)raise(SIGKILL);
}

static void read_until_told(void *argument)
{
    assert_int_equal(pthread_rwlock_rdlock(argument), 0);
    testing_reach(2);
    testing_await(3);
    assert_int_equal(pthread_rwlock_unlock(argument), 0);
}

static void write_when_free(void *argument)
{
    testing_reach(0);
    assert_int_equal(pthread_rwlock_wrlock(argument), 0);
    assert_int_equal(pthread_rwlock_unlock(argument), 0);
}

static pthread_rwlock_t *rwlock_make(void)
{
    pthread_rwlock_t *lock = testing_shared(sizeof *lock);
    pthread_rwlockattr_t attributes;
    assert_int_equal(pthread_rwlockattr_init(&attributes), 0);
    assert_int_equal(pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), 0);
    assert_int_equal(pthread_rwlock_init(lock, &attributes), 0);
    return lock;
}

/* Trap: readers pass a writer who waits, for as long as they keep coming; and one of them who is killed locks all
 * writers out for good. There is no robust form of it. */
static void test_rwlock_readers_lock_writers_out(void **state)
{
    (void)state;
    pthread_rwlock_t *lock = rwlock_make();
    pid_t reader = testing_spawn(read_until_told, lock);
    testing_await(2);
    pid_t writer = spawn_waiter(write_when_free, lock);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_rwlock_tryrdlock(lock), 0); /* each of them comes before him */
    assert_true(trap_sleeps(writer));
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_rwlock_unlock(lock), 0);
    testing_reach(3);
    testing_join(reader);
    testing_join(writer);

    EXPECT_DEATH(SIGKILL, read_and_be_killed, lock);
    assert_int_equal(pthread_rwlock_trywrlock(lock), EBUSY);
}

static void read_in_segment(void *argument)
{
    cove_rwlock *lock = NULL;
    EXPECT_GOOD(cove_rwlock_open(&lock, "robot/map", NULL));
    EXPECT(0, cove_rwlock_lock_shared(NULL, lock, COVE_FOREVER));
    if (argument)
        (void)raise(SIGKILL);
    testing_reach(2);
    testing_await(3);
    EXPECT(0, cove_rwlock_unlock(NULL, lock));
    EXPECT(0, cove_rwlock_close(lock));
}

static void write_in_segment(void *argument)
{
    (void)argument;
    cove_rwlock *lock = NULL;
    EXPECT_GOOD(cove_rwlock_open(&lock, "robot/map", NULL));
    testing_reach(0);
    EXPECT(0, cove_rwlock_lock(NULL, lock, COVE_FOREVER));
    EXPECT(0, cove_rwlock_unlock(NULL, lock));
    EXPECT(0, cove_rwlock_close(lock));
}

/* Cove: who comes after a writer waits behind him, and the dead read nothing. */
static void test_rwlock_writers_come_to_their_turn(void **state)
{
    (void)state;
    cove_rwlock *lock = NULL;
    EXPECT(COVE_CREATED, cove_rwlock_open(&lock, "robot/map", NULL));
    pid_t reader = testing_spawn(read_in_segment, NULL);
    testing_await(2);
    EXPECT(0, cove_rwlock_lock_shared(NULL, lock, COVE_NOWAIT)); /* together, while nobody wants to write */
    EXPECT(0, cove_rwlock_unlock(NULL, lock));
    pid_t writer = spawn_waiter(write_in_segment, NULL);
    EXPECT(-EBUSY, cove_rwlock_lock_shared(NULL, lock, COVE_NOWAIT));
    testing_reach(3);
    testing_join(reader);
    testing_join(writer);

    EXPECT_DEATH(SIGKILL, read_in_segment, lock);
    EXPECT(0, cove_rwlock_lock(NULL, lock, COVE_NOWAIT)); /* it had changed nothing: there is nothing to tell */
    EXPECT(0, cove_rwlock_unlock(NULL, lock));
    EXPECT(0, cove_rwlock_close(lock));
    unit_remove("robot");
}

/* ---- once: "whoever comes first sets it up" */

struct table {
    _Atomic int begun;
    int entries[2];
};

static void begin_and_be_killed(void *argument)
{
    struct table *table = argument;
    if (atomic_exchange_explicit(&table->begun, 1, memory_order_seq_cst) == 0) {
        table->entries[0] = 1;
        (void)raise(SIGKILL);
        table->entries[1] = 1;
    }
}

struct once_table {
    cove_once once;
    int entries[2];
};

static int set_up(void *context)
{
    struct once_table *table = context;
    EXPECT(0, cove_save(cove_segment_of(table), table->entries, sizeof table->entries));
    table->entries[0]++;
    if (testing_reached(0) == 0)
        (void)raise(SIGKILL);
    table->entries[1]++;
    return 0;
}

static void be_first_and_be_killed(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("robot");
    struct once_table *table = unit_object(segment, "table", sizeof *table);
    EXPECT(0, cove_once_call(segment, &table->once, set_up, table, COVE_FOREVER));
}

/* Trap: the first is killed in the middle, and all others take it for done. */
static void test_once_killed_in_the_middle_counts_as_done(void **state)
{
    (void)state;
    struct table *table = testing_shared(sizeof *table);
    EXPECT_DEATH(SIGKILL, begin_and_be_killed, table);
    EXPECT_LIFE(begin_and_be_killed, table); /* "somebody did it already" */
    assert_int_equal(table->entries[0], 1);
    assert_int_equal(table->entries[1], 0);

    EXPECT_DEATH(SIGKILL, be_first_and_be_killed, NULL);
    testing_reach(0);
    cove_segment *segment = unit_open("robot");
    struct once_table *shared = unit_object(segment, "table", sizeof *shared);
    EXPECT(COVE_RECOVERED, cove_once_call(segment, &shared->once, set_up, shared, COVE_FOREVER));
    EXPECT(0, cove_once_call(segment, &shared->once, set_up, shared, COVE_FOREVER));
    assert_int_equal(shared->entries[0], 1); /* not 2: what the dead one did was undone */
    assert_int_equal(shared->entries[1], 1);
    unit_close(segment);
    unit_remove("robot");
}

static const struct testing_case tests[] = {
    TEST(test_condition_killed_waiter_breaks_it),        TEST(test_condition_killed_waiter_harms_nobody),
    TEST(test_barrier_killed_party_hangs_the_others),    TEST(test_barrier_killed_party_is_told),
    TEST(test_rwlock_readers_lock_writers_out),          TEST(test_rwlock_writers_come_to_their_turn),
    TEST(test_once_killed_in_the_middle_counts_as_done),
};

int main(void)
{
    return testing_run("trap_condition", tests);
}
