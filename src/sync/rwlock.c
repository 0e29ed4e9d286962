/* rwlock.c - many read, or one writes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A writer holds the lock word (segment/lock.c). A reader has a mark in its own lane's held[] (marks.c): it writes
 * nothing that other readers write, so readers do not slow each other down.
 *
 *     reader   mark; fence; the word names nobody: it reads. Else the mark goes again, and it takes the word as a
 *              writer would, which queues it with them; marks while it has the word, and gives the word back.
 *     writer   takes the word; fence; waits until no lane but its own has a mark (it drains). Whoever comes meanwhile
 *              finds the word taken, so only those who read already are waited for: writers do not starve.
 *
 * I1  A reader that goes on has a mark, and found the word naming nobody after that, or had the word itself. A writer
 *     that goes on has the word, and found no mark after that. By the fences one of the two sees the other.
 * Edge R: reads under the mark, mark emptied (release) -> drain's look (acquire), writes.
 * Edge U of lock.c: writes, word given back -> word seen free (acquire), reads.
 *
 * Sleeping. `drain`: bit 0, a writer waits for marks to go; the rest counts. Who empties a mark and sees the bit
 * counts and wakes. A reader's look at it may pass its own store (no fence there): the writer's first looks, before
 * it sleeps, last longer than a processor keeps a store to itself, and it sleeps in slices.
 * Crash: a dead reader's mark goes with recovery, which wakes the writer; the writer watches the readers' signs of
 * life.
 * A dead writer is undone and its word freed with RECOVERED; bit 0 of `drain` may stay, and costs wakes. A reader
 * that dies while it has the word only in order to mark leaves RECOVERED too: the next is told once more than needed.
 * */
#include "sync/sync.h"

#include <cove/rwlock.h>
#include <errno.h>
#include <inttypes.h>

#define SPINS 100 /* looks before sleeping */
#define DRAIN_WAITS 1u
#define DRAIN_ONE 2u

static _Atomic uint64_t *word_of(cove_rwlock *rwlock)
{
    return (_Atomic uint64_t *)(void *)&rwlock->word;
}

static _Atomic uint32_t *drain_of(cove_rwlock *rwlock)
{
    return (_Atomic uint32_t *)(void *)&rwlock->drain;
}

static bool has_saved(const struct covei_lane_shm *shm)
{
    /* relaxed: this thread's own journal. */
    return COVEI_TAILS_OUTER(atomic_load_explicit(&shm->tails, memory_order_relaxed)) != 0;
}

/* (A result, so that it can be the last step of a call that needs no stack otherwise.) */
static COVEI_COLD int wake_writer(_Atomic uint32_t *drain)
{
    atomic_fetch_add_explicit(drain, DRAIN_ONE, memory_order_release);
    (void)covei_os->wake((void *)drain, INT32_MAX);
    return 0;
}

static inline int tell_writer(_Atomic uint32_t *drain)
{
    if (COVEI_LIKELY(!(atomic_load_explicit(drain, memory_order_relaxed) & DRAIN_WAITS))) /* see "Sleeping" */
        return 0;
    return wake_writer(drain);
}

void covei_rwlock_mark_gone(struct cove_segment *segment, uint64_t offset)
{
    cove_rwlock *rwlock = covei_address(segment, offset);
    atomic_thread_fence(
        memory_order_seq_cst); /* the emptied place, then the look at the bit: rare enough for a fence */
    (void)tell_writer(drain_of(rwlock));
}

/* ---- reading */

/* Mark, and look (I1): an exchange and a load that are seq_cst stand against the writer's fence. False: the word is not
 * free. It is not looked at first: a reader that finds it taken goes a long way anyway. */
static inline bool mark_and_look(struct covei_lane_shm *shm, uint32_t place, uint64_t offset, cove_rwlock *rwlock)
{
    uint32_t marks = atomic_load_explicit(&shm->marks, memory_order_relaxed); /* written by this thread alone */
#ifdef COVE_PLANT_LOOK_FIRST
    bool looked_free = (uint32_t)atomic_load_explicit(word_of(rwlock), memory_order_seq_cst) == 0;
#endif
    atomic_store_explicit(&shm->marks, marks + 1, memory_order_relaxed);
    (void)atomic_exchange_explicit(&shm->held[place], COVEI_HELD(COVEI_HELD_SHARED, offset), memory_order_seq_cst);
#ifdef COVE_PLANT_LOOK_FIRST
    if (looked_free)
        return true;
#endif
    /* Acquires, too: edge U. A word with RECOVERED or WAITERS on it is for those who take it. */
    return COVEI_LIKELY((uint32_t)atomic_load_explicit(word_of(rwlock), memory_order_seq_cst) == 0);
}

/* Edge R. */
static inline int take_mark_back(struct covei_lane_shm *shm, uint32_t place, cove_rwlock *rwlock)
{
    atomic_store_explicit(&shm->held[place], 0, memory_order_release);
    atomic_store_explicit(&shm->marks, atomic_load_explicit(&shm->marks, memory_order_relaxed) - 1,
                          memory_order_release); /* I3 of lane_shm.h: after the place */
    return tell_writer(drain_of(rwlock));
}

/* A place of held[] with a mark of this lock that is wanted still, or COVEI_LANE_LOCKS. */
static uint32_t find_mark(const struct covei_lane *lane, uint64_t offset, bool given_up)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        if (atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed) ==
                COVEI_HELD(COVEI_HELD_SHARED, offset) &&
            ((lane->marked >> place & 1) != 0) == given_up)
            return place;
    return COVEI_LANE_LOCKS;
}

/* Unlocked inside the transaction, and held still? Then it is simply locked again. */
static bool take_up_again(struct covei_lane *lane, uint64_t offset, bool to_read)
{
    uint32_t place = to_read ? find_mark(lane, offset, true) : covei_lock_place(lane->shm, offset);
    if (place >= COVEI_LANE_LOCKS || !(lane->marked >> place & 1))
        return false;
    lane->marked &= ~(UINT32_C(1) << place);
    lane->before &= ~(UINT32_C(1) << place); /* it was locked again inside */
    return true;
}

static bool has_word(const struct covei_lane *lane, cove_rwlock *rwlock)
{
    /* relaxed: only this thread makes the word name its lane. */
    return (atomic_load_explicit(word_of(rwlock), memory_order_relaxed) & COVEI_LOCK_OWNER) == lane->id;
}

/* Does this thread hold it to write, and has not given it up? */
static bool writes(const struct covei_lane *lane, cove_rwlock *rwlock, uint64_t offset)
{
    if (!has_word(lane, rwlock))
        return false;
    uint32_t place = covei_lock_place(lane->shm, offset);
    return place < COVEI_LANE_LOCKS && !(lane->marked >> place & 1);
}

/* In the queue with the writers: the word first, then the mark. */
static int read_in_turn(struct covei_lane *lane, cove_rwlock *rwlock, uint64_t offset, int64_t timeout_ns)
{
    uint32_t empty = 0;
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++) /* relaxed: this thread's own */
        empty += atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed) == 0;
    if (empty < 2) /* found out before the word is taken, and with it perhaps the news of a death */
        return covei_error(-ENOLCK, "%s: this thread holds nearly %u locks of the segment already; free some first",
                           lane->segment->name, COVEI_LANE_LOCKS);
    int result = covei_lock_take(lane, word_of(rwlock), timeout_ns);
    if (result < 0)
        return result;
    (void)covei_mark_set(lane, COVEI_HELD(COVEI_HELD_SHARED, offset));
    covei_lock_drop(lane, word_of(rwlock)); /* release: the mark is seen by whoever takes the word */
    return result;
}

/* It reads, if the gate is open as well (gate.c). 0; 1: it waited there without the mark, and is to look again; or as a
 * lock that cannot be had. */
static int pass_gate(struct covei_lane *lane, uint32_t place, cove_rwlock *rwlock, uint64_t offset, int64_t timeout_ns)
{
    int passed = covei_gate_pass(lane, place, COVEI_HELD(COVEI_HELD_SHARED, offset), timeout_ns);
    if (passed < 0)
        return passed;
    atomic_thread_fence(memory_order_seq_cst); /* I1 */
    return (uint32_t)atomic_load_explicit(word_of(rwlock), memory_order_acquire) != 0;
}

static int read_slowly(struct covei_lane *lane, cove_rwlock *rwlock, int64_t timeout_ns)
{
    struct cove_segment *segment = lane->segment;
    uint64_t offset = covei_offset(segment, rwlock);
    if (writes(lane, rwlock, offset))
        return covei_error(-EDEADLK, "%s: this thread holds the lock to write", segment->name);
    if (take_up_again(lane, offset, true))
        return 0;
    /* It reads already, or has the word still, which it gave up inside the transaction: no writer can have come since. */
    if (find_mark(lane, offset, false) < COVEI_LANE_LOCKS || has_word(lane, rwlock))
        return covei_mark_set(lane, COVEI_HELD(COVEI_HELD_SHARED, offset)) < COVEI_LANE_LOCKS ? 0 : -ENOLCK;
    uint32_t place = covei_held_find(lane);
    if (place == COVEI_LANE_LOCKS)
        return -ENOLCK;
    bool reads = mark_and_look(lane->shm, place, offset, rwlock);
    int passed = reads && segment->durable ? pass_gate(lane, place, rwlock, offset, timeout_ns) : 0;
    if (reads && passed == 0)
        return 0;
    (void)take_mark_back(lane->shm, place, rwlock);
    return passed < 0 ? passed : read_in_turn(lane, rwlock, offset, timeout_ns);
}

static COVEI_COLD int lock_shared_slowly(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, rwlock, sizeof *rwlock, "rwlock");
    if (result < 0)
        return result;
    call.waits = &rwlock->waits;
    call.longest_us = &rwlock->longest_us;
    return covei_call_end(&call, read_slowly(call.lane, rwlock, timeout_ns));
}

static COVEI_COLD int lock_shared_after_all(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns)
{
    (void)take_mark_back(covei_thread.shm, 0, rwlock);
    return lock_shared_slowly(segment, rwlock, timeout_ns);
}

/* Calls nothing but in its last step, so that it needs no stack: stores would hold up the exchange. */
COVEI_HOT int cove_rwlock_lock_shared(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, rwlock);
        struct covei_lane_shm *shm = covei_thread.shm;
        /* relaxed: written by this thread alone. */
        if (COVEI_LIKELY(covei_word_inside(segment, offset) && covei_word_inside(segment, offset + 16)) &&
            COVEI_LIKELY(atomic_load_explicit(&shm->held[0], memory_order_relaxed) == 0))
            return mark_and_look(shm, 0, offset, rwlock) ? 0 : lock_shared_after_all(segment, rwlock, timeout_ns);
    }
    return lock_shared_slowly(segment, rwlock, timeout_ns);
}

/* ---- writing */

static int explain_reader(const struct cove_segment *segment, const struct covei_watch *readers, uint32_t count,
                          int result)
{
    char name[COVEI_LANE_NAME_BYTES];
    covei_lane_name(segment, readers->count > 0 ? readers->lanes[0] : COVEI_NO_LANE, name);
    if (count > 1)
        return covei_error(result, "%s: %s reads under the lock, and %" PRIu32 " more do", segment->name, name,
                           count - 1);
    return covei_error(result, "%s: %s reads under the lock", segment->name, name);
}

struct drain {
    struct covei_lane *lane;
    cove_rwlock *rwlock;
    uint64_t mark;
    struct covei_watch readers;
    uint32_t count;
};

/* Count those who read; the thread's own mark is one that it gave up inside a transaction. */
static bool has_drained(struct drain *drain)
{
    drain->readers = (struct covei_watch){.count = 0};
    drain->count = covei_marks_count(drain->lane->segment, drain->mark, drain->lane->id - 1, &drain->readers);
    return drain->count == 0;
}

/* Do those still read who were found, and may they go on? */
static bool still_read(const struct drain *drain)
{
    const struct cove_segment *segment = drain->lane->segment;
    for (uint32_t i = 0; i < drain->readers.count; i++) {
        struct covei_lane_shm *shm = &segment->lanes[drain->readers.lanes[i]];
        if (covei_lane_died(shm))
            return false;
        if (covei_lock_place(shm, drain->mark) < COVEI_LANE_LOCKS)
            return true;
    }
    return false;
}

static bool spin_drain(struct drain *drain)
{
    int spins = covei_os->cpu_count() > 1 ? SPINS : 1;
    for (int i = 0; i < spins && still_read(drain); i++)
        covei_relax();
    return has_drained(drain);
}

static int drain_in_slices(struct drain *drain, const struct covei_wait *wait)
{
    struct covei_lane *lane = drain->lane;
    struct cove_segment *segment = lane->segment;
    _Atomic uint32_t *word = drain_of(drain->rwlock);
    for (int64_t looked_ns = 0;;) {
        atomic_fetch_or_explicit(word, DRAIN_WAITS, memory_order_seq_cst);
        uint32_t seen = atomic_load_explicit(word, memory_order_acquire); /* before the look at the marks */
        atomic_thread_fence(memory_order_seq_cst);
        if (has_drained(drain))
            return 0;
        if (covei_marks_bury(lane, drain->mark))
            continue;
        int result = covei_wait_over(wait, segment);
        if (result < 0)
            return result == -ETIMEDOUT ? explain_reader(segment, &drain->readers, drain->count, result) : result;
        int64_t waited_ns = covei_os->now() - wait->begun;
        if (waited_ns - looked_ns >= COVEI_DEADLOCK_NS) {
            looked_ns = waited_ns;
            result = covei_deadlock(lane, waited_ns);
            if (result < 0)
                return result;
        }
        lane->waited++;
        if (waited_ns > lane->saw_held_ns)
            lane->saw_held_ns = waited_ns;
        covei_wait_sleep(segment, wait, word, seen, &drain->readers, COVE_FOREVER);
    }
}

/* This lane has the word: wait until nobody reads. */
static int wait_for_readers(struct covei_lane *lane, cove_rwlock *rwlock, uint64_t offset, int64_t timeout_ns)
{
    struct drain drain = {.lane = lane, .rwlock = rwlock, .mark = COVEI_HELD(COVEI_HELD_SHARED, offset)};
    atomic_thread_fence(memory_order_seq_cst); /* I1 */
    if (has_drained(&drain))
        return 0;
    if (timeout_ns <= 0)
        return covei_marks_bury(lane, drain.mark) && has_drained(&drain)
                   ? 0
                   : explain_reader(lane->segment, &drain.readers, drain.count, -EBUSY);
    if (spin_drain(&drain))
        return 0;
    struct covei_wait wait;
    covei_wait_start(&wait, lane, timeout_ns);
    covei_wait_note(lane, COVEI_HELD(COVEI_WAITS_DRAIN, offset));
    int result = drain_in_slices(&drain, &wait);
    covei_wait_done(lane);
    atomic_fetch_and_explicit(drain_of(rwlock), ~DRAIN_WAITS, memory_order_relaxed); /* a hint to readers */
    return result;
}

/* Give the word back as it was found: with the news of a death that the next is still to be told. */
static void give_up(struct covei_lane *lane, cove_rwlock *rwlock, uint64_t offset, bool recovered)
{
    if (recovered) {
        uint64_t value = atomic_load_explicit(word_of(rwlock), memory_order_relaxed); /* ours */
        covei_lock_give(lane->segment, word_of(rwlock), value, COVEI_LOCK_RECOVERED);
        covei_lock_forget(lane->shm, offset);
    } else
        covei_lock_drop(lane, word_of(rwlock));
}

static int write_slowly(struct covei_lane *lane, cove_rwlock *rwlock, int64_t timeout_ns)
{
    uint64_t offset = covei_offset(lane->segment, rwlock);
    if (find_mark(lane, offset, false) < COVEI_LANE_LOCKS)
        return covei_error(-EDEADLK, "%s: this thread reads under the lock; unlock first", lane->segment->name);
    if (take_up_again(lane, offset, false))
        return 0;
    int64_t deadline = timeout_ns > 0 ? covei_wait_begin(timeout_ns) : 0;
    int taken = covei_lock_take(lane, word_of(rwlock), timeout_ns);
    if (taken < 0)
        return taken;
    int result = wait_for_readers(lane, rwlock, offset, timeout_ns > 0 ? covei_wait_left(deadline) : COVE_NOWAIT);
    if (result == -EBUSY && timeout_ns > 0)
        result = -ETIMEDOUT;
    if (result < 0)
        give_up(lane, rwlock, offset, taken == COVE_RECOVERED);
    return result < 0 ? result : taken;
}

static COVEI_COLD int lock_slowly(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, rwlock, sizeof *rwlock, "rwlock");
    if (result < 0)
        return result;
    call.waits = &rwlock->waits;
    call.longest_us = &rwlock->longest_us;
    return covei_call_end(&call, write_slowly(call.lane, rwlock, timeout_ns));
}

/* Where nobody has it and nobody reads, and this thread reads under no lock. */
COVEI_HOT int cove_rwlock_lock(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, rwlock);
        struct covei_lane_shm *shm = covei_thread.shm;
        /* relaxed: written by this thread alone. */
        if (COVEI_LIKELY(covei_word_inside(segment, offset) && covei_word_inside(segment, offset + 16)) &&
            atomic_load_explicit(&shm->marks, memory_order_relaxed) == 0 &&
            covei_lock_try(shm, covei_thread.id, offset, word_of(rwlock))) {
            atomic_thread_fence(memory_order_seq_cst); /* I1 */
            if (COVEI_LIKELY(covei_marks_count(segment, COVEI_HELD(COVEI_HELD_SHARED, offset),
                                               (uint32_t)covei_thread.id - 1, NULL) == 0))
                return 0;
            covei_lock_release(shm, covei_thread.id, offset, word_of(rwlock));
        }
    }
    return lock_slowly(segment, rwlock, timeout_ns);
}

/* ---- unlocking */

/* Of several, one that was taken inside the transaction, as the others stay held beyond it; and of those the first: a
 * writer looks at the places in their order, and would miss a mark that went from a later one, where he has not looked
 * yet, to an earlier one, where he has. */
static uint32_t find_mark_to_clear(const struct covei_lane *lane, uint64_t offset)
{
    uint32_t found = COVEI_LANE_LOCKS;
    uint64_t mark = COVEI_HELD(COVEI_HELD_SHARED, offset);
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++) {
        if (atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed) != mark || lane->marked >> place & 1)
            continue;
        /* The bit alone may be about another lock, which was there when the transaction began. */
        if (!(lane->before >> place & 1) || lane->earlier[place].offset != mark)
            return place;
        if (found == COVEI_LANE_LOCKS)
            found = place;
    }
    return found;
}

static int unlock(struct covei_lane *lane, cove_rwlock *rwlock)
{
    uint64_t offset = covei_offset(lane->segment, rwlock);
    uint32_t place = writes(lane, rwlock, offset) ? covei_lock_place(lane->shm, offset)
                                                  : find_mark_to_clear(lane, offset);
    if (place == COVEI_LANE_LOCKS)
        return covei_error(-EPERM, "%s: this thread holds nothing of that lock", lane->segment->name);
    if (lane->depth > 0 && has_saved(lane->shm))
        lane->marked |= UINT32_C(1) << place;
    else
        covei_held_release(lane, place);
    return 0;
}

static COVEI_COLD int unlock_slowly(cove_segment *segment, cove_rwlock *rwlock)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, rwlock, sizeof *rwlock, "rwlock");
    return result < 0 ? result : covei_call_end(&call, unlock(call.lane, rwlock));
}

/* The first place of held[] names the lock: it is this segment's, and this thread's. */
COVEI_HOT int cove_rwlock_unlock(cove_segment *segment, cove_rwlock *rwlock)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, rwlock);
        struct covei_lane_shm *shm = covei_thread.shm;
        uint64_t held = atomic_load_explicit(&shm->held[0], memory_order_relaxed);
        if (COVEI_LIKELY(held == COVEI_HELD(COVEI_HELD_SHARED, offset) &&
                         (covei_thread.lane->before | covei_thread.lane->marked) == 0 && !has_saved(shm)))
            return take_mark_back(shm, 0, rwlock);
        if (COVEI_LIKELY(held == offset && offset != 0 && !has_saved(shm))) { /* 0: nothing is held */
            covei_lock_release_first(shm, covei_thread.id, offset, word_of(rwlock)); /* edge U */
            return 0;
        }
    }
    return unlock_slowly(segment, rwlock);
}
