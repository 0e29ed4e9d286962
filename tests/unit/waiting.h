/* waiting.h - what the tests of waits share: who waits, and sleeps that nothing but a wake-up ends.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef WAITING_H
#define WAITING_H

#include "unit.h"

#include "sync/sync.h"

/* How many lanes say that they wait for the thing. They may not be asleep yet. */
static inline uint32_t waiting_for(cove_segment *segment, const void *thing)
{
    return covei_waiters(segment, covei_offset(segment, thing));
}

static inline int waiting_park(void *word, uint32_t expected, int64_t timeout_ns)
{
    (void)timeout_ns;
    return covei_os_native.park(word, expected, 1000 * UNIT_S);
}

static inline int waiting_park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    (void)timeout_ns;
    return covei_os_native.park_any(parks, count, 1000 * UNIT_S);
}

static inline int waiting_cpu_count(void)
{
    return 1; /* then nobody spins for long */
}

/* From now on sleeps of this process, and of those that it forks, have no slices: a wake-up that is lost is a test
 * that never ends. For waits without a timeout, and where nobody is killed. */
static inline void waiting_without_slices(void)
{
    static struct covei_os os;
    os = covei_os_native;
    os.cpu_count = waiting_cpu_count;
    os.park = waiting_park;
    os.park_any = waiting_park_any;
    covei_os = &os;
}

#define WAITING_FAST 8

static int64_t waiting_longest_slice_ns;
static int waiting_slices;

static inline int64_t waiting_fast_now(void)
{
    return covei_os_native.now() * WAITING_FAST;
}

static inline int waiting_note_slice(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    waiting_slices++;
    if (timeout_ns > waiting_longest_slice_ns)
        waiting_longest_slice_ns = timeout_ns;
    return covei_os_native.park_any(parks, count, timeout_ns / WAITING_FAST);
}

static inline int waiting_note_one_slice(void *word, uint32_t expected, int64_t timeout_ns)
{
    waiting_slices++;
    if (timeout_ns > waiting_longest_slice_ns)
        waiting_longest_slice_ns = timeout_ns;
    return covei_os_native.park(word, expected, timeout_ns / WAITING_FAST);
}

/* From now on waiting_longest_slice_ns says how long at most this process would have slept without looking, and
 * waiting_slices how often it slept; and its time goes fast, so that nobody has to wait for that. */
static inline void waiting_measure_slices(void)
{
    static struct covei_os os;
    os = covei_os_native;
    os.now = waiting_fast_now;
    os.park = waiting_note_one_slice;
    os.park_any = waiting_note_slice;
    covei_os = &os;
}

static inline int waiting_wakes_nobody(void *word, int32_t count)
{
    (void)word;
    (void)count;
    return 0;
}

/* From now on this process wakes nobody: as if it were killed before each wake. */
static inline void waiting_without_wakes(void)
{
    static struct covei_os os;
    os = *covei_os;
    os.wake = waiting_wakes_nobody;
    covei_os = &os;
}

/* Somebody begins to wait, again and again, and somebody else brings the news at any moment of that. */
struct waiting_race {
    void (*wait)(struct waiting_race *race, uint64_t round); /* rounds begin at 1 */
    void (*bring)(struct waiting_race *race, uint64_t round);
    cove_segment *segment;
    void *thing;
    _Atomic uint64_t begun, ended;
};

#define WAITING_RACES 6000u

static inline void *waiting_race_brings(void *argument)
{
    struct waiting_race *race = argument;
    uint64_t seed = 17;
    for (uint64_t round = 1; round <= WAITING_RACES; round++) {
        while (atomic_load(&race->begun) < round)
            covei_relax();
        for (uint64_t pauses = unit_random(&seed) % 64; pauses > 0; pauses--)
            atomic_signal_fence(memory_order_seq_cst);
        if (round % 8 == 0) /* sometimes asleep for certain */
            UNTIL(waiting_for(race->segment, race->thing) > 0 || atomic_load(&race->ended) >= round, 5000);
        race->bring(race, round);
        while (atomic_load(&race->ended) < round)
            covei_relax();
    }
    return NULL;
}

static inline void waiting_race(struct waiting_race *race)
{
    waiting_without_slices();
    pthread_t thread = unit_thread(waiting_race_brings, race);
    for (uint64_t round = 1; round <= WAITING_RACES; round++) {
        atomic_store(&race->begun, round);
        race->wait(race, round);
        atomic_store(&race->ended, round);
    }
    unit_thread_join(thread);
}

/* A result of a call that may run in signal handlers: errors come without a sentence, and leave the last one alone. */
#define EXPECT_LIGHT(expected, call)                                                                 \
    do {                                                                                             \
        char before_[COVEI_ERROR_BYTES], after_[COVEI_ERROR_BYTES];                                  \
        covei_error_save(before_);                                                                   \
        int result_ = (call);                                                                        \
        covei_error_save(after_);                                                                    \
        if (result_ != (expected))                                                                   \
            fail_msg("%s: %d (%s), not %d", #call, result_, cove_errname(result_), (int)(expected)); \
        assert_string_equal(before_, after_);                                                        \
    } while (0)

#endif
