/* barrier.c - a place where a number of threads wait for each other, round after round.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     63      48 47       32 31         2       1        0
 *     | epoch   | arrived   | round      | WAITERS | BROKEN |    the low half is the futex
 *
 * A party has a mark in its lane (marks.c) that holds the epoch to which it belongs. Arriving is one CAS that counts
 * it; the last to arrive makes the round one more and the count 0 in its step.
 *
 * B1  BROKEN: a party of this epoch died. Nobody arrives any more; who waits goes. cove_barrier_reset begins the next
 *     epoch, in which nobody has arrived.
 * B2  A party whose mark is of an epoch gone by has not been told yet that it was broken: its next wait tells, and
 *     gives its mark the epoch that is, or the next one where it is BROKEN still.
 * B3  The death of a party breaks the epoch that is, also where its mark is of one before: it has not been told yet, and
 *     is counted on. Where it is BROKEN and the party was told of that, the epoch is counted up, so that all are told of
 *     this death too. Recovery that is done twice breaks nothing twice, as a reset recovers all first.
 * The round counts completions alone: who waited for a round knows by it, and by nothing else, that all had come.
 * Edges: what was done before arriving (CAS release, each continues the last) -> round seen (acquire).
 * Crash: dead before its CAS: not come, and the mark tells. After it: come, and the mark tells. Without a mark: no
 * party.
 * Killed between completing a round and the wake: its sign of life wakes the others, who watch all parties. */
#include "sync/sync.h"

#include <cove/barrier.h>
#include <errno.h>
#include <inttypes.h>

#define BROKEN UINT64_C(1)
#define WAITERS UINT64_C(2)
#define ROUND_ONE UINT64_C(4)
#define ROUND_MASK UINT64_C(0xfffffffc)
#define ARRIVED_ONE (UINT64_C(1) << 32)
#define EPOCH_ONE (UINT64_C(1) << 48)

static uint32_t arrived_of(uint64_t word)
{
    return (uint32_t)(word >> 32) & 0xffff;
}

static uint32_t epoch_of(uint64_t word)
{
    return (uint32_t)(word >> 48);
}

static _Atomic uint64_t *word_of(cove_barrier *barrier)
{
    return (_Atomic uint64_t *)(void *)&barrier->word;
}

static void wake_all(_Atomic uint64_t *word, uint64_t old)
{
    if (old & WAITERS)
        (void)covei_os->wake(covei_lock_futex(word), INT32_MAX);
}

/* ---- a party dies */

void covei_barrier_mark_gone(struct cove_segment *segment, uint64_t offset, uint32_t epoch, bool died)
{
    cove_barrier *barrier = covei_address(segment, offset);
    _Atomic uint64_t *word = word_of(barrier);
    uint64_t old = atomic_load_explicit(word, memory_order_acquire), next;
    if (!died)
        return;
    do {
        if (!(old & BROKEN))
            next = (old | BROKEN) & ~WAITERS;
        else if (old & BROKEN && epoch == ((epoch_of(old) + 1) & 0xffff))
            next = old + EPOCH_ONE; /* B3 */
        else
            break;
    } while (!atomic_compare_exchange_weak_explicit(word, &old, next, memory_order_acq_rel, memory_order_acquire));
    /* Also where the dead one had completed a round and woken nobody. */
    (void)covei_os->wake(covei_lock_futex(word), INT32_MAX);
}

/* ---- parties */

struct party {
    struct covei_lane *lane;
    cove_barrier *barrier;
    uint64_t offset;
    uint32_t parties;
    uint32_t place; /* of the mark */
    struct covei_watch others;
};

/* Relaxed throughout: this thread's own. */
static uint32_t find_place(const struct covei_lane *lane, uint64_t offset)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++) {
        uint64_t held = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed);
        if (COVEI_HELD_KIND(held) == COVEI_HELD_PARTY && COVEI_HELD_OFFSET(held) == offset)
            return place;
    }
    return COVEI_LANE_LOCKS;
}

static uint32_t my_epoch(const struct party *party)
{
    return COVEI_HELD_EPOCH(atomic_load_explicit(&party->lane->shm->held[party->place], memory_order_relaxed));
}

static uint64_t mark_with(const struct party *party, uint32_t epoch)
{
    return COVEI_HELD(COVEI_HELD_PARTY, party->offset) | (uint64_t)(epoch & 0xffff) << 48;
}

static void set_epoch(const struct party *party, uint32_t epoch)
{
    atomic_store_explicit(&party->lane->shm->held[party->place], mark_with(party, epoch), memory_order_release);
}

/* Is another lane a party of an epoch other than that? */
static bool has_party_not_of(const struct party *party, uint32_t epoch)
{
    const struct cove_segment *segment = party->lane->segment;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        for (uint32_t place = 0; i != party->lane->id - 1 && place < COVEI_LANE_LOCKS; place++) {
            uint64_t held = atomic_load_explicit(&segment->lanes[i].held[place], memory_order_acquire);
            if (COVEI_HELD_KIND(held) == COVEI_HELD_PARTY && COVEI_HELD_OFFSET(held) == party->offset &&
                COVEI_HELD_EPOCH(held) != (epoch & 0xffff))
                return true;
        }
    return false;
}

static uint64_t next_epoch(uint64_t word)
{
    return (word & (ROUND_MASK | WAITERS)) | (uint64_t)((epoch_of(word) + 1) & 0xffff) << 48;
}

/* B2. */
static int tell_broken(const struct party *party, uint64_t word)
{
    set_epoch(party, word & BROKEN ? epoch_of(word) + 1 : epoch_of(word));
    return covei_error(COVE_EPEER,
                       "%s: a party of the barrier died; all others call cove_barrier_reset and begin the round again",
                       party->lane->segment->name);
}

/* Somebody has arrived, and nobody is a party: in a copy that cove_sync made, whose lanes are older than its barriers. */
static bool has_ghosts(const struct party *party, uint64_t word)
{
    return arrived_of(word) != 0 && covei_marks_count(party->lane->segment, COVEI_HELD(COVEI_HELD_PARTY, party->offset),
                                                      party->lane->id - 1, NULL) == 0;
}

/* Become a party: 0, -ENOLCK. What parties that are all gone left behind is cleared away by the first to come, or by
 * several at once, whose marks are all of the epoch to come. */
static int join(struct party *party)
{
    _Atomic uint64_t *word = word_of(party->barrier);
    (void)covei_marks_bury(party->lane, COVEI_HELD(COVEI_HELD_PARTY, party->offset));
    uint64_t seen = atomic_load_explicit(word, memory_order_acquire);
    party->place = covei_mark_set(party->lane, mark_with(party, epoch_of(seen) + (seen & BROKEN ? 1 : 0)));
    if (party->place == COVEI_LANE_LOCKS)
        return -ENOLCK;
    for (;;) {
        atomic_thread_fence(memory_order_seq_cst); /* the mark, then the looks at the word and at others' marks */
        uint64_t now = atomic_load_explicit(word, memory_order_acquire);
        uint32_t epoch = epoch_of(now) + (now & BROKEN ? 1 : 0);
        if (my_epoch(party) != (epoch & 0xffff)) {
            set_epoch(party, epoch);
            continue;
        }
        if (now & BROKEN ? has_party_not_of(party, epoch) : !has_ghosts(party, now)) {
            wake_all(word, now); /* who sleeps already watches us too, when he sleeps again */
            return 0;
        }
        /* Broken, our mark is of that epoch already; with ghosts it becomes so in the next round. */
        if (atomic_compare_exchange_strong_explicit(word, &now, next_epoch(now), memory_order_acq_rel,
                                                    memory_order_acquire) &&
            now & BROKEN)
            return 0;
    }
}

/* ---- a round */

/* Count this party in. 1: it was the last, and the round is complete; 0: to be waited for, in `round`; or an error.
 * */
static int arrive(const struct party *party, bool may_wait, uint64_t *round)
{
    _Atomic uint64_t *word = word_of(party->barrier);
    uint64_t old = atomic_load_explicit(word, memory_order_acquire), next;
    do {
        if (old & BROKEN || epoch_of(old) != my_epoch(party))
            return tell_broken(party, old);
        *round = old & ROUND_MASK;
        if (arrived_of(old) + 1 >= party->parties)
            next = (((old & ROUND_MASK) + ROUND_ONE) & ROUND_MASK) | (uint64_t)epoch_of(old) << 48;
        else if (may_wait)
            next = old + ARRIVED_ONE;
        else if (covei_marks_bury(party->lane, COVEI_HELD(COVEI_HELD_PARTY, party->offset)))
            return arrive(party, may_wait, round);
        else
            return covei_error(-EBUSY, "%s: %" PRIu32 " of %" PRIu32 " parties have come", party->lane->segment->name,
                               arrived_of(old), party->parties);
        /* release: what was done before is seen by all after the round; acquire: and theirs. */
    } while (!atomic_compare_exchange_weak_explicit(word, &old, next, memory_order_acq_rel, memory_order_acquire));
    if (arrived_of(next) != 0)
        return 0;
    wake_all(word, old);
    return 1;
}

/* Not come after all. False: the round was completed or broken meanwhile. */
static bool withdraw(const struct party *party, uint64_t round)
{
    _Atomic uint64_t *word = word_of(party->barrier);
    uint64_t old = atomic_load_explicit(word, memory_order_acquire);
    do {
        if ((old & ROUND_MASK) != round || old & BROKEN || epoch_of(old) != my_epoch(party))
            return false;
        if (arrived_of(old) == 0)
            return true; /* somebody wrote over it */
    } while (!atomic_compare_exchange_weak_explicit(word, &old, old - ARRIVED_ONE, memory_order_acq_rel,
                                                    memory_order_acquire));
    return true;
}

static int too_few(const struct party *party, uint64_t word)
{
    return covei_error(-ETIMEDOUT, "%s: only %" PRIu32 " of %" PRIu32 " parties came in time; are the others stopped?",
                       party->lane->segment->name, arrived_of(word), party->parties);
}

/* By the signs of life of those whom this thread watched. */
static bool saw_a_death(const struct party *party)
{
    for (uint32_t i = 0; i < party->others.count; i++)
        if (covei_lane_died(&party->lane->segment->lanes[party->others.lanes[i]]))
            return true;
    return false;
}

static int wait_for_round(struct party *party, uint64_t round, const struct covei_wait *wait)
{
    struct covei_lane *lane = party->lane;
    struct cove_segment *segment = lane->segment;
    _Atomic uint64_t *word = word_of(party->barrier);
    uint64_t mark = COVEI_HELD(COVEI_HELD_PARTY, party->offset);
    bool slept = false;
    for (;;) {
        if (slept && saw_a_death(party))
            (void)covei_marks_bury(lane, mark); /* the system woke us alone, and he may have owed all a wake-up */
        uint64_t now = atomic_load_explicit(word, memory_order_acquire);
        if ((now & ROUND_MASK) != round)
            return 0;
        if (now & BROKEN || epoch_of(now) != my_epoch(party))
            return tell_broken(party, now);
        if (slept && covei_marks_bury(lane, mark)) /* asks the kernel about each: not before it is worth it */
            continue;
        int over = covei_wait_over(wait, segment);
        if (over < 0 && !withdraw(party, round))
            continue;
        if (over < 0)
            return over == -ETIMEDOUT ? too_few(party, now) : over;
        if (!(now & WAITERS)) {
            /* relaxed: the bit orders nothing; a failed CAS means that the word changed, so look again. */
            (void)atomic_compare_exchange_strong_explicit(word, &now, now | WAITERS, memory_order_relaxed,
                                                          memory_order_relaxed);
            continue;
        }
        party->others = (struct covei_watch){.count = 0};
        (void)covei_marks_count(segment, mark, lane->id - 1, &party->others);
        lane->waited++;
        covei_wait_sleep(segment, wait, (_Atomic uint32_t *)(void *)covei_lock_futex(word), (uint32_t)now,
                         &party->others, COVE_FOREVER);
        slept = true;
    }
}

static bool spin_round(const struct party *party, uint64_t round)
{
    /* With more parties than processors some cannot come before we sleep. */
    for (int i = covei_os->cpu_count() >= (int)party->parties ? 100 : 1; i > 0; i--) {
        if ((atomic_load_explicit(word_of(party->barrier), memory_order_acquire) & ROUND_MASK) != round)
            return true;
        covei_relax();
    }
    return false;
}

static int wait_as_party(struct party *party, int64_t timeout_ns)
{
    struct covei_lane *lane = party->lane;
    uint64_t round = 0;
    int result = arrive(party, timeout_ns > 0, &round);
    if (result != 0)
        return result < 0 ? result : COVE_LEADER;
    if (spin_round(party, round))
        return 0;
    struct covei_wait wait;
    covei_wait_start(&wait, lane, timeout_ns);
    covei_wait_note(lane, COVEI_HELD(COVEI_WAITS_PARTY, party->offset));
    result = wait_for_round(party, round, &wait);
    covei_wait_done(lane);
    return result;
}

/* All give the same number; the first to come fixes it. */
static int agree(const struct cove_segment *segment, cove_barrier *barrier, uint32_t parties)
{
    _Atomic uint32_t *field = (_Atomic uint32_t *)(void *)&barrier->parties;
    uint32_t fixed = 0;
    if (parties == 0 || parties > COVE_BARRIER_MAX)
        return covei_error(-EINVAL, "%s: a barrier has 1 to %d parties, not %" PRIu32, segment->name, COVE_BARRIER_MAX,
                           parties);
    if (!atomic_compare_exchange_strong_explicit(field, &fixed, parties, memory_order_relaxed, memory_order_relaxed) &&
        fixed != parties)
        return covei_error(-EINVAL, "%s: the barrier is one of %" PRIu32 " parties, not %" PRIu32, segment->name, fixed,
                           parties);
    return 0;
}

int cove_barrier_wait(cove_segment *segment, cove_barrier *barrier, uint32_t parties, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, barrier, sizeof *barrier, "barrier");
    if (result < 0)
        return result;
    call.waits = &barrier->waits;
    struct party party = {
        .lane = call.lane, .barrier = barrier, .offset = covei_offset(call.segment, barrier), .parties = parties};
    party.place = find_place(party.lane, party.offset);
    result = agree(call.segment, barrier, parties);
    if (result == 0 && party.place == COVEI_LANE_LOCKS)
        result = join(&party);
    if (result == 0)
        result = wait_as_party(&party, timeout_ns);
    return covei_call_end(&call, result);
}

/* ---- whole again, and out */

int cove_barrier_reset(cove_segment *segment, cove_barrier *barrier)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, barrier, sizeof *barrier, "barrier");
    if (result < 0)
        return result;
    struct party party = {.lane = call.lane, .barrier = barrier, .offset = covei_offset(call.segment, barrier)};
    _Atomic uint64_t *word = word_of(barrier);
    (void)covei_marks_bury(party.lane, COVEI_HELD(COVEI_HELD_PARTY, party.offset));
    uint64_t old = atomic_load_explicit(word, memory_order_acquire);
    while (old & BROKEN)
        if (atomic_compare_exchange_weak_explicit(word, &old, next_epoch(old) & ~WAITERS, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            wake_all(word, old);
            old = next_epoch(old);
        }
    party.place = find_place(party.lane, party.offset);
    if (party.place < COVEI_LANE_LOCKS) /* who resets it knows */
        set_epoch(&party, epoch_of(old));
    return covei_call_end(&call, 0);
}

int cove_barrier_leave(cove_segment *segment, cove_barrier *barrier)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, barrier, sizeof *barrier, "barrier");
    if (result < 0)
        return result;
    uint32_t place = find_place(call.lane, covei_offset(call.segment, barrier));
    if (place < COVEI_LANE_LOCKS)
        covei_held_release(call.lane, place);
    else
        result = covei_error(-EPERM, "%s: this thread is no party of that barrier", call.segment->name);
    return covei_call_end(&call, result);
}
