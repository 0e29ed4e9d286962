/* lock.c - the lock word: a robust lock in one 64-bit word, when it cannot be had at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     63          32 31       30          29     28        0
 *     | generation   | WAITERS | RECOVERED | FAIR | lane + 1 |    0 in the low bits: free
 *
 * The low half is the futex. One CAS takes the word and names the owner; one addition gives it back, with a
 * generation one higher, so that a word that was seen names one holding for ever. FAIR is part of the lock.
 *
 * I1  A word names a lane only while that lane's held[] has its offset (see covei_lock_try and covei_lock_slow).
 * I2  A word that names a dead lane is changed by nobody but the owner of that member's recovery, save for the
 *     WAITERS bit.
 * I3  RECOVERED is set only on a free word, by recovery, and cleared by the next to take it.
 * Edge U: store by the holder, addition release -> CAS acquire, load by the next.
 *
 * Fair locks. A waiter registers in its lane (waits_since, then waits_for), sets WAITERS, and sleeps on a word of its
 * own (turn). Whoever frees the word wakes the one that is registered longest. While anybody is registered the word is
 * taken by nobody who comes, and of those registered by the longest alone.
 * F1  Somebody is registered, and has looked at the word since: WAITERS is set. So it is set before the last look,
 *     and who takes the word keeps it where others are registered, and clears it where none are; a registration that
 *     he did not see is followed by setting it again.
 * F2  A waiter that is stopped, or dead and not known to be, does not hold the others up for long: who wakes at the
 *     end of a slice, and then sees the word free for 10 ms, passes those before him. Who gives up waiting wakes the
 *     next.
 *
 * Progress: blocking. A waiter spins briefly, then sleeps on the word and on its owner's sign of life together
 * (wait.c).
 * Crash: dead with an entry and without the word: nothing. With the word: recovery puts back what was changed under
 * it, then frees it with RECOVERED. Dead after the addition: free; the owner's sign of life wakes who slept. */
#include "segment/segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define SPINS 100 /* pauses before sleeping */
#define PASS_NS INT64_C(10000000) /* F2 */

uint32_t *covei_lock_futex(_Atomic uint64_t *word)
{
    return (uint32_t *)(void *)word; /* the low half: the layout is little-endian */
}

uint32_t covei_lock_place(const struct covei_lane_shm *shm, uint64_t offset)
{
    uint32_t place = 0;
    while (place < COVEI_LANE_LOCKS && atomic_load_explicit(&shm->held[place], memory_order_relaxed) != offset)
        place++; /* relaxed: written by the lane's thread alone, or in its place */
    return place;
}

bool covei_lane_holds(const struct covei_lane_shm *shm)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        /* for its own process, or for people */
        if (atomic_load_explicit(&shm->held[place], memory_order_relaxed) != 0)
            return true;
    return false;
}

bool covei_lane_holds_lock(const struct covei_lane_shm *shm)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++) {
        uint64_t held = atomic_load_explicit(&shm->held[place], memory_order_acquire);
        if (held != 0 && COVEI_HELD_KIND(held) != COVEI_HELD_PARTY)
            return true;
    }
    return false;
}

uint32_t covei_held_find(struct covei_lane *lane)
{
    uint32_t place = covei_lock_place(lane->shm, 0);
    if (place == COVEI_LANE_LOCKS)
        (void)covei_error(-ENOLCK, "%s: this thread holds %u locks of the segment already; free some first",
                          lane->segment->name, COVEI_LANE_LOCKS);
    else if (place >= lane->places)
        lane->places = place + 1;
    return place;
}

void covei_lock_forget(struct covei_lane_shm *shm, uint64_t offset)
{
    uint32_t place = covei_lock_place(shm, offset);
    if (place < COVEI_LANE_LOCKS)
        atomic_store_explicit(&shm->held[place], 0, memory_order_release); /* not before the word is given back */
}

/* ---- the queue of a fair lock */

struct queue {
    uint32_t first; /* the lane that waits longest, other than the asking one; COVEI_NO_LANE: none waits */
    int64_t first_since;
};

static struct queue look_at_queue(const struct cove_segment *segment, uint64_t offset, uint32_t except)
{
    struct queue queue = {COVEI_NO_LANE, 0};
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++) {
        if (i == except || atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == 0 ||
            /* acquire: since when was stored before. seq_cst fences of F1 stand in `enqueue` and before the look. */
            atomic_load_explicit(&segment->lanes[i].waits_for, memory_order_acquire) != offset ||
            covei_lane_died(&segment->lanes[i])) /* whatever recovery has not come to yet */
            continue;
        int64_t since = atomic_load_explicit(&segment->lanes[i].waits_since, memory_order_relaxed);
        if (queue.first == COVEI_NO_LANE || since < queue.first_since)
            queue = (struct queue){i, since};
    }
    return queue;
}

#define TURN_ASLEEP 1u
#define TURN_ONE 2u

static void give_turn(struct cove_segment *segment, uint32_t lane)
{
    _Atomic uint32_t *turn = &segment->lanes[lane].turn;
    /* acq_rel: the free word is seen by who finds its turn changed. */
    if (atomic_fetch_add_explicit(turn, TURN_ONE, memory_order_acq_rel) & TURN_ASLEEP)
        (void)covei_os->wake((void *)turn, 1);
}

/* The word is free, and WAITERS is set: the next one's turn, or there is none and the bit goes. */
static void wake_first(struct cove_segment *segment, _Atomic uint64_t *word)
{
    uint64_t now = atomic_load_explicit(word, memory_order_seq_cst); /* F1: before the look at the queue */
    while ((now & COVEI_LOCK_OWNER) == 0 && (now & COVEI_LOCK_WAITERS) != 0) {
        struct queue queue = look_at_queue(segment, covei_offset(segment, word), COVEI_NO_LANE);
        if (queue.first != COVEI_NO_LANE) {
            give_turn(segment, queue.first);
            return;
        }
        /* seq_cst, F1: who registers and still sees the bit is seen by the second look. */
        if (atomic_compare_exchange_weak_explicit(word, &now, now & ~COVEI_LOCK_WAITERS, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
            queue = look_at_queue(segment, covei_offset(segment, word), COVEI_NO_LANE);
            if (queue.first != COVEI_NO_LANE)
                give_turn(segment, queue.first); /* who sets the bit again */
            return;
        }
    }
}

static void wake_all_queued(struct cove_segment *segment, uint64_t offset)
{
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        if (atomic_load_explicit(&segment->lanes[i].waits_for, memory_order_acquire) == offset)
            give_turn(segment, i);
}

static struct cove_segment *segment_of(const struct covei_lane_shm *shm)
{
    const struct covei_lane *lane = covei_thread.lanes;
    while (lane && lane->shm != shm)
        lane = lane->next;
    return lane ? lane->segment : NULL;
}

/* ---- giving back */

void covei_lock_released(struct covei_lane_shm *shm, uint64_t offset, _Atomic uint64_t *word, uint64_t old)
{
    covei_lock_forget(shm, offset);
    if (!(old & COVEI_LOCK_WAITERS))
        return;
    if (old & COVEI_LOCK_FAIR) {
        struct cove_segment *segment = segment_of(shm);
        if (segment)
            wake_first(segment, word);
        return;
    }
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    while ((now & COVEI_LOCK_OWNER) == 0 && (now & COVEI_LOCK_WAITERS) != 0)
        /* relaxed: the bit orders nothing. */
        if (atomic_compare_exchange_weak_explicit(word, &now, now & ~COVEI_LOCK_WAITERS, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            (void)covei_os->wake(covei_lock_futex(word), 1);
            return;
        }
    /* Somebody has taken it already, bit and all, and will wake the next. */
}

void covei_lock_nudge(struct cove_segment *segment, _Atomic uint64_t *word)
{
    if (atomic_load_explicit(word, memory_order_acquire) & COVEI_LOCK_FAIR)
        wake_all_queued(segment, covei_offset(segment, word));
    else
        (void)covei_os->wake(covei_lock_futex(word), INT32_MAX);
}

void covei_lock_give(struct cove_segment *segment, _Atomic uint64_t *word, uint64_t held_value, uint64_t flags)
{
    uint64_t old = held_value;
    /* A fair lock is freed as if somebody waited: the dead one may have taken it, and WAITERS off, and not have looked
     * again (keep_waiters). Who comes next looks at the queue. */
    uint64_t stays = held_value & COVEI_LOCK_FAIR ? COVEI_LOCK_FAIR | COVEI_LOCK_WAITERS : 0;
    for (;;) { /* others may set WAITERS meanwhile */
        uint64_t next = (COVEI_LOCK_GENERATION(old) + 1) << 32 | flags | stays;
        /* release, edge U: what was put back is seen by the next holder. */
        if (atomic_compare_exchange_weak_explicit(word, &old, next, memory_order_release, memory_order_relaxed))
            break;
        if ((old & COVEI_LOCK_OWNER) != (held_value & COVEI_LOCK_OWNER))
            return; /* somebody scribbled */
    }
    if ((old | stays) & COVEI_LOCK_WAITERS)
        covei_lock_nudge(segment, word);
}

void covei_held_release(struct covei_lane *lane, uint32_t place)
{
    _Atomic uint64_t *at = &lane->shm->held[place];
    uint64_t held = atomic_load_explicit(at, memory_order_relaxed); /* this thread's own */
    uint64_t offset = COVEI_HELD_OFFSET(held);
    bool inside = covei_inside(lane->segment, offset, 8);
    lane->before &= ~(UINT32_C(1) << place); /* a mark has no generation that would tell a later one */
    if (COVEI_HELD_KIND(held) == COVEI_HELD_WORD) {
        if (inside && held == offset)
            covei_lock_release(lane->shm, lane->id, offset, covei_address(lane->segment, offset));
        else
            atomic_store_explicit(at, 0, memory_order_relaxed); /* somebody scribbled */
        return;
    }
    atomic_store_explicit(at, 0, memory_order_release); /* what was read or done under it comes before */
    atomic_store_explicit(&lane->shm->marks, atomic_load_explicit(&lane->shm->marks, memory_order_relaxed) - 1,
                          memory_order_release); /* I3 of lane_shm.h: after the place */
    if (inside)
        covei_upper.mark_gone(lane->segment, held, false);
}

void covei_lane_leave_barriers(struct covei_lane_shm *shm)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++) {
        if (COVEI_HELD_KIND(atomic_load_explicit(&shm->held[place], memory_order_relaxed)) != COVEI_HELD_PARTY)
            continue; /* relaxed: of this process */
        atomic_store_explicit(&shm->held[place], 0, memory_order_release);
        atomic_fetch_sub_explicit(&shm->marks, 1, memory_order_release); /* I3 of lane_shm.h: after the place */
    }
}

/* ---- who has it */

void covei_lane_name(const struct cove_segment *segment, uint32_t lane, char text[COVEI_LANE_NAME_BYTES])
{
    uint32_t owner = lane < segment->max_lanes ? atomic_load_explicit(&segment->owners[lane], memory_order_acquire) : 0;
    if (owner == 0 || owner > segment->max_members) {
        (void)snprintf(text, COVEI_LANE_NAME_BYTES, "somebody");
        return;
    }
    struct cove_member_info member;
    covei_row_describe(segment, owner - 1, &member);
    (void)snprintf(text, COVEI_LANE_NAME_BYTES, "%s (pid %" PRId32 ", thread %" PRId32 ")", member.command, member.pid,
                   atomic_load_explicit(&segment->lanes[lane].thread_id, memory_order_relaxed)); /* for people */
}

/* One attempt to get a word, which cannot be had at once. */
struct attempt {
    struct covei_lane *lane;
    _Atomic uint64_t *word;
    uint64_t old; /* the word as last seen */
    struct covei_wait wait;
    uint64_t watched; /* generation and owner: the holding that `watched_since` is about */
    int64_t watched_since;
    bool queued; /* registered with a fair lock */
};

static uint32_t owner_of(uint64_t word)
{
    return (uint32_t)(word & COVEI_LOCK_OWNER) - 1; /* COVEI_NO_LANE: free */
}

/* For how long one holder, or nobody, has been seen to have it. */
static int64_t watch_holder(struct attempt *attempt)
{
    int64_t now = covei_os->now();
    uint64_t holding = COVEI_LOCK_GENERATION(attempt->old) << 32 | (attempt->old & COVEI_LOCK_OWNER);
    if (attempt->watched_since == 0 || attempt->watched != holding) {
        bool held = attempt->watched_since != 0 && (attempt->watched & COVEI_LOCK_OWNER) != 0;
        if (held && now - attempt->watched_since > attempt->lane->saw_held_ns)
            attempt->lane->saw_held_ns = now - attempt->watched_since; /* until about now */
        attempt->watched = holding;
        attempt->watched_since = now;
    }
    int64_t held_ns = now - attempt->watched_since;
    if (owner_of(attempt->old) != COVEI_NO_LANE && held_ns > attempt->lane->saw_held_ns)
        attempt->lane->saw_held_ns = held_ns;
    return held_ns;
}

static int explain_holder(struct attempt *attempt, int result)
{
    const struct cove_segment *segment = attempt->lane->segment;
    if (owner_of(attempt->old) == COVEI_NO_LANE)
        return covei_error(result, "%s: the lock was busy%s", segment->name,
                           attempt->old & COVEI_LOCK_FAIR ? ": others wait for it" : "");
    char name[COVEI_LANE_NAME_BYTES];
    covei_lane_name(segment, owner_of(attempt->old), name);
    if (result != -ETIMEDOUT)
        return covei_error(result, "%s: %s holds the lock", segment->name, name);
    int64_t held_ms = watch_holder(attempt) / 1000000;
    return covei_error(result,
                       "%s: %s holds the lock, for at least %" PRId64 ".%03" PRId64
                       " s; wait longer, or look whether it is stopped",
                       segment->name, name, held_ms / 1000, held_ms % 1000);
}

/* ---- taking */

/* One try at a word that looks free. Adds WAITERS where we slept: others may sleep still. */
static bool try_plain(struct attempt *attempt, uint64_t waiters)
{
    while ((attempt->old & COVEI_LOCK_OWNER) == 0) {
        uint64_t next = (attempt->old & ~COVEI_LOCK_RECOVERED) | waiters | attempt->lane->id;
        /* acquire, edge U, and for names_nobody; release: the place in held[] is filled. */
        if (atomic_compare_exchange_weak_explicit(attempt->word, &attempt->old, next, memory_order_acq_rel,
                                                  memory_order_acquire))
            return true;
    }
    return false;
}

/* F1: the bit was cleared as nobody was seen; who registered meanwhile, and still saw it, is seen now. */
static void keep_waiters(struct attempt *attempt)
{
    const struct cove_segment *segment = attempt->lane->segment;
    atomic_thread_fence(memory_order_seq_cst);
    if (look_at_queue(segment, covei_offset(segment, attempt->word), attempt->lane->id - 1).first != COVEI_NO_LANE)
        atomic_fetch_or_explicit(attempt->word, COVEI_LOCK_WAITERS, memory_order_seq_cst);
}

/* Likewise of a fair one. `pass`: whoever is registered before us does not take it. */
static bool try_fair(struct attempt *attempt, bool pass)
{
    struct covei_lane *lane = attempt->lane;
    while ((attempt->old & COVEI_LOCK_OWNER) == 0) {
        uint64_t next = (attempt->old & ~(COVEI_LOCK_RECOVERED | COVEI_LOCK_WAITERS)) | lane->id;
        if (attempt->old & COVEI_LOCK_WAITERS) {
            struct queue queue = look_at_queue(lane->segment, covei_offset(lane->segment, attempt->word), lane->id - 1);
            if (queue.first != COVEI_NO_LANE) {
                if (!attempt->queued)
                    return false;
                int64_t since = atomic_load_explicit(&lane->shm->waits_since, memory_order_relaxed);
                if (!pass && (queue.first_since < since || (queue.first_since == since && queue.first < lane->id - 1)))
                    return false;
                next |= COVEI_LOCK_WAITERS; /* F1 */
            }
        }
        /* seq_cst: acquire, edge U, and F1: a registration that the look missed sets WAITERS after this. */
        if (atomic_compare_exchange_weak_explicit(attempt->word, &attempt->old, next, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
            if (attempt->old & ~next & COVEI_LOCK_WAITERS)
                keep_waiters(attempt);
            return true;
        }
    }
    return false;
}

static bool try_take(struct attempt *attempt, bool slept)
{
    if (attempt->old & COVEI_LOCK_FAIR)
        return try_fair(attempt, false);
    return try_plain(attempt, slept ? COVEI_LOCK_WAITERS : 0);
}

static bool spin_take(struct attempt *attempt)
{
    int spins = covei_os->cpu_count() > 1 ? SPINS : 1;
    for (int i = 0; i < spins; i++) {
        attempt->old = atomic_load_explicit(attempt->word, memory_order_relaxed);
        if (try_take(attempt, false))
            return true;
        if ((attempt->old & COVEI_LOCK_OWNER) == attempt->lane->id)
            return false;
        covei_relax();
    }
    return false;
}

/* I1: does that lane say that it holds the word, or is about to? */
static bool lane_lists(const struct cove_segment *segment, uint32_t index, const _Atomic uint64_t *word)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        /* acquire: against the second look at the word. */
        if (atomic_load_explicit(&segment->lanes[index].held[place], memory_order_acquire) ==
            covei_offset(segment, (const void *)word))
            return true;
    return false;
}

/* The word names a lane that nobody has, or that does not know of it, and did so before and after we looked: somebody
 * scribbled. */
static bool names_nobody(const struct cove_segment *segment, _Atomic uint64_t *word, uint64_t seen)
{
    uint32_t index = owner_of(seen);
    if (index == COVEI_NO_LANE)
        return false;
    uint32_t ready = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    if (index >= covei_min(ready, segment->max_lanes))
        return true;
    if (atomic_load_explicit(&segment->owners[index], memory_order_acquire) != 0 && lane_lists(segment, index, word))
        return false;
    uint64_t again = atomic_load_explicit(word, memory_order_acquire);
    return (again | COVEI_LOCK_WAITERS) == (seen | COVEI_LOCK_WAITERS);
}

/* ---- sleeping */

/* The turn changed within the time for which a waiter spins. */
static bool spin_turn(const struct covei_lane_shm *shm, uint32_t turn)
{
    int spins = covei_os->cpu_count() > 1 ? SPINS : 1;
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(&shm->turn, memory_order_acquire) != turn)
            return true;
        covei_relax();
    }
    return false;
}

/* Register, and see to it that who frees the word looks for us (F1). */
static void enqueue(struct attempt *attempt)
{
    attempt->queued = true;
    atomic_thread_fence(memory_order_seq_cst); /* covei_wait_note has registered us */
    if (!(atomic_load_explicit(attempt->word, memory_order_relaxed) & COVEI_LOCK_WAITERS))
        atomic_fetch_or_explicit(attempt->word, COVEI_LOCK_WAITERS, memory_order_seq_cst);
    attempt->old = atomic_load_explicit(attempt->word, memory_order_seq_cst);
}

/* The word is free, and another comes before us: who freed it may have died before he told him, and the wake-up of
 * his death may have been ours; or that one is dead. */
static void see_to_first(struct attempt *attempt, uint32_t first)
{
    if (!covei_recover_locks(attempt->lane, first))
        give_turn(attempt->lane->segment, first);
}

/* Sleep on the turn, which read `turn` before the last look at the word. Who is first in the queue is watched too: it
 * could die after it was woken. */
static void sleep_fair(struct attempt *attempt, uint32_t turn)
{
    struct cove_segment *segment = attempt->lane->segment;
    struct covei_lane_shm *shm = attempt->lane->shm;
    struct covei_watch watch = {.count = 0};
    if (owner_of(attempt->old) != COVEI_NO_LANE)
        covei_watch_add(&watch, owner_of(attempt->old));
    struct queue queue = look_at_queue(segment, covei_offset(segment, attempt->word), attempt->lane->id - 1);
    if (queue.first != COVEI_NO_LANE)
        covei_watch_add(&watch, queue.first);
    if (!(atomic_load_explicit(attempt->word, memory_order_acquire) & COVEI_LOCK_WAITERS)) {
        enqueue(attempt); /* F1: who took it did not see us, and may have given it back: look again */
        return;
    }
    if (owner_of(attempt->old) == COVEI_NO_LANE && queue.first != COVEI_NO_LANE)
        see_to_first(attempt, queue.first);
    /* release: whoever gives us the turn after this sees that we sleep. */
    if (atomic_compare_exchange_strong_explicit(&shm->turn, &turn, turn | TURN_ASLEEP, memory_order_acq_rel,
                                                memory_order_acquire))
        covei_wait_sleep(segment, &attempt->wait, &shm->turn, turn | TURN_ASLEEP, &watch,
                         owner_of(attempt->old) == COVEI_NO_LANE ? PASS_NS : COVE_FOREVER); /* F2 */
    atomic_fetch_and_explicit(&shm->turn, ~TURN_ASLEEP, memory_order_acq_rel);
}

/* Sleep until the word changes, its owner's thread ends, or the slice is over. */
static void sleep_plain(struct attempt *attempt)
{
    uint64_t seen = attempt->old;
    if (!(seen & COVEI_LOCK_WAITERS)) {
        /* relaxed: the bit orders nothing; a failed CAS means that the word changed, so look again. */
        if (!atomic_compare_exchange_strong_explicit(attempt->word, &seen, seen | COVEI_LOCK_WAITERS,
                                                     memory_order_relaxed, memory_order_relaxed))
            return;
        seen |= COVEI_LOCK_WAITERS;
    }
    struct covei_watch watch = {.count = 0};
    covei_watch_add(&watch, owner_of(seen));
    covei_wait_sleep(attempt->lane->segment, &attempt->wait,
                     (_Atomic uint32_t *)(void *)covei_lock_futex(attempt->word), (uint32_t)seen, &watch, COVE_FOREVER);
}

static int corrupt(const struct cove_segment *segment)
{
    return covei_error(COVE_ECORRUPT,
                       "%s: a lock names an owner that does not exist: somebody wrote over it; cove doctor %s tells "
                       "more",
                       segment->name, segment->name);
}

/* May go on waiting? 0, or why not. `held_ns`: for how long the word has been as it is. */
static int look_around(struct attempt *attempt, int64_t *looked_ns)
{
    struct covei_lane *lane = attempt->lane;
    int result = covei_wait_over(&attempt->wait, lane->segment);
    if (result != 0)
        return result == -ETIMEDOUT ? explain_holder(attempt, result) : result;
    int64_t waited_ns = covei_os->now() - attempt->wait.begun;
    if (waited_ns - *looked_ns < COVEI_DEADLOCK_NS)
        return 0;
    *looked_ns = waited_ns;
    return covei_deadlock(lane, waited_ns);
}

static int wait_and_take(struct attempt *attempt)
{
    struct covei_lane *lane = attempt->lane;
    bool fair = (attempt->old & COVEI_LOCK_FAIR) != 0;
    int64_t looked_ns = 0;
    if (fair)
        enqueue(attempt);
    for (uint32_t round = 0;; round++) {
        uint32_t turn = atomic_load_explicit(&lane->shm->turn, memory_order_acquire);
        /* acquire: for names_nobody: then the place is filled. */
        attempt->old = atomic_load_explicit(attempt->word, memory_order_acquire);
        int64_t unchanged_ns = watch_holder(attempt);
        if (fair ? try_fair(attempt, unchanged_ns >= PASS_NS) : try_plain(attempt, COVEI_LOCK_WAITERS))
            return 0;
        if (round > 1 && names_nobody(lane->segment, attempt->word, attempt->old))
            return corrupt(lane->segment); /* not at once: entries are stored before words */
        if (owner_of(attempt->old) != COVEI_NO_LANE && covei_recover_locks(lane, owner_of(attempt->old)))
            continue;
        int result = look_around(attempt, &looked_ns);
        if (result < 0)
            return result;
        if (fair && round == 0 && spin_turn(lane->shm, turn))
            continue;
        lane->waited++;
        if (fair)
            sleep_fair(attempt, turn & ~TURN_ASLEEP);
        else
            sleep_plain(attempt);
    }
}

/* This waiter gives up; the wake-up, or the turn, may have been his. A plain word lost its WAITERS with that wake-up,
 * and whoever took it meanwhile would wake nobody. */
static void pass_on(struct attempt *attempt)
{
    struct cove_segment *segment = attempt->lane->segment;
    atomic_thread_fence(memory_order_seq_cst);
    if (attempt->old & COVEI_LOCK_FAIR) {
        wake_first(segment, attempt->word);
        return;
    }
    uint64_t now = atomic_load_explicit(attempt->word, memory_order_relaxed);
    while ((now & COVEI_LOCK_OWNER) != 0 && !(now & COVEI_LOCK_WAITERS))
        /* relaxed: the bit orders nothing. */
        if (atomic_compare_exchange_weak_explicit(attempt->word, &now, now | COVEI_LOCK_WAITERS, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
    if ((now & COVEI_LOCK_OWNER) == 0)
        (void)covei_os->wake(covei_lock_futex(attempt->word), 1);
}

/* Registered for people, for who looks for cycles, and where the lock is fair for who frees it. */
static int wait_noted(struct attempt *attempt)
{
    struct covei_lane *lane = attempt->lane;
    covei_wait_note(lane, COVEI_HELD(COVEI_WAITS_WORD, covei_offset(lane->segment, attempt->word)));
    int result = wait_and_take(attempt);
    covei_wait_done(lane);
    if (result < 0)
        pass_on(attempt);
    return result;
}

static int take_slowly(struct attempt *attempt, int64_t timeout_ns)
{
    struct covei_lane *lane = attempt->lane;
    attempt->old = atomic_load_explicit(attempt->word, memory_order_relaxed);
    if (try_take(attempt, false))
        return 0;
    /* Who waits for a fair one registers at once, and spins then. */
    if (timeout_ns > 0 && !(attempt->old & COVEI_LOCK_FAIR) && spin_take(attempt))
        return 0;
    if ((attempt->old & COVEI_LOCK_OWNER) == lane->id)
        return covei_error(-EDEADLK, "%s: this thread holds the lock already", lane->segment->name);
    if (timeout_ns <= 0) {
        uint32_t before = owner_of(attempt->old); /* who stands before us: the holder, or the first in a queue */
        if (before == COVEI_NO_LANE)
            before = look_at_queue(lane->segment, covei_offset(lane->segment, attempt->word), lane->id - 1).first;
        if (covei_recover_locks(lane, before)) {
            attempt->old = atomic_load_explicit(attempt->word, memory_order_relaxed);
            if (try_take(attempt, true))
                return 0;
        }
        return explain_holder(attempt, -EBUSY);
    }
    covei_wait_start(&attempt->wait, lane, timeout_ns);
    return wait_noted(attempt);
}

static COVEI_COLD int take_in_time(struct covei_lane *lane, uint32_t place, _Atomic uint64_t *word, int64_t timeout_ns)
{
    struct attempt attempt = {.lane = lane, .word = word};
    int result = lane->segment->durable ? covei_gate_pass(lane, place, covei_offset(lane->segment, word), timeout_ns)
                                        : 0;
    if (result == 0)
        result = take_slowly(&attempt, timeout_ns);
    if (result == 0)
        return attempt.old & COVEI_LOCK_RECOVERED ? COVE_RECOVERED : 0;
    atomic_store_explicit(&lane->shm->held[place], 0, memory_order_relaxed);
    return result;
}

int covei_lock_slow(struct covei_lane *lane, _Atomic uint64_t *word, int64_t timeout_ns)
{
    uint32_t place = covei_held_find(lane);
    if (place == COVEI_LANE_LOCKS)
        return -ENOLCK;
    atomic_store_explicit(&lane->shm->held[place], covei_offset(lane->segment, word), memory_order_relaxed);
    covei_order();
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed); /* as covei_lock_try, in another place */
    if (COVEI_LIKELY((uint32_t)old == 0 && !lane->segment->durable) &&
        atomic_compare_exchange_strong_explicit(word, &old, old | lane->id, memory_order_acq_rel, memory_order_relaxed))
        return 0;
    return take_in_time(lane, place, word, timeout_ns);
}
