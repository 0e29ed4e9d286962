/* once.c - done once by whoever comes first.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * `word` is a lock word (segment/lock.c), held by who does it. `done` is saved in the journal before it becomes 1, so
 * that it goes back with all else that was saved, if the transaction does.
 *
 * I1  `done` changes only under the word, and the word is given back only when what was done is final or undone:
 *     inside a transaction of the caller's it is marked, as a mutex that is unlocked there, and free after the
 *     transaction.
 * So where the word is free, and the same before and after a look that finds `done`, it is done for good.
 * Edge: what was done (word given back, release) -> the first look at the word (acquire).
 *
 * The library calls the user's function with the word held, and within a joined transaction (heap/join.h), which the
 * function cannot end.
 * Crash: recovery puts `done` back with the rest, then frees the word with RECOVERED, and the next does it. Killed
 * after the commit and before the word is given back: done, and the next finds RECOVERED on the word, which says
 * nothing then. */
#include "heap/join.h"
#include "sync/sync.h"

#include <cove/once.h>
#include <errno.h>

static _Atomic uint64_t *word_of(cove_once *once)
{
    return (_Atomic uint64_t *)(void *)&once->word;
}

static _Atomic uint64_t *done_of(cove_once *once)
{
    return (_Atomic uint64_t *)(void *)&once->done;
}

/* Known without taking the word? */
static inline bool is_done(cove_once *once)
{
    uint64_t before = atomic_load_explicit(word_of(once), memory_order_acquire);
    /* before the second look at the word */
    uint64_t done = atomic_load_explicit(done_of(once), memory_order_acquire);
    /* relaxed: ordered by the load before. */
    return done == 1 && (before & COVEI_LOCK_OWNER) == 0 &&
           atomic_load_explicit(word_of(once), memory_order_relaxed) == before;
}

/* ---- with the word */

struct doing {
    struct covei_lane *lane;
    cove_once *once;
    int (*initialise)(void *context);
    void *context;
    int taken; /* 0 or COVE_RECOVERED */
    bool ours; /* this thread's transaction had the word already */
    bool forked; /* the function did, and this is the child: lane, word and transaction are its parent's */
};

/* I1. What the next is to be told of a death goes on to him, where we did nothing about it. */
static void give_back(const struct doing *doing, bool did)
{
    struct covei_lane *lane = doing->lane;
    _Atomic uint64_t *word = word_of(doing->once);
    uint64_t offset = covei_offset(lane->segment, doing->once);
    /* relaxed: our own. Without a transaction what is left in the journal is blocks to be freed: the bytes are final.
     * */
    if (lane->depth > 0 && COVEI_TAILS_OUTER(atomic_load_explicit(&lane->shm->tails, memory_order_relaxed)) != 0) {
        uint32_t place = covei_lock_place(lane->shm, offset);
        if (place < COVEI_LANE_LOCKS)
            lane->marked |= UINT32_C(1) << place;
    } else if (doing->taken == COVE_RECOVERED && !did) {
        covei_lock_give(lane->segment, word, atomic_load_explicit(word, memory_order_relaxed), COVEI_LOCK_RECOVERED);
        covei_lock_forget(lane->shm, offset);
    } else
        covei_lock_drop(lane, word);
}

/* `initialise` returned `result`. */
static int note_done(const struct doing *doing, int result)
{
    int saved = covei_save(doing->lane, &doing->once->done, sizeof doing->once->done);
    if (saved < 0)
        return saved;
    /* release: who reads it without the word looks at that again afterwards. */
    atomic_store_explicit(done_of(doing->once), 1, memory_order_release);
    return result;
}

static int do_it(struct doing *doing)
{
    uint32_t epoch = covei_process_epoch();
    struct covei_join join;
    int result = covei_join_begin(doing->lane, &join);
    if (result < 0)
        return result;
    result = doing->initialise(doing->context);
    doing->forked = covei_process_epoch() != epoch;
    if (COVEI_UNLIKELY(doing->forked))
        return covei_error(COVE_EFORKED,
                           "the function that cove_once_call called forked, and this is the child: what it "
                           "does is its parent's to end; _exit, or open the segment here");
    return covei_join_end(doing->lane, &join, result < 0 ? result : note_done(doing, result));
}

/* 1: it was done, and the word is given back; 0: it is to be done; or an error. */
static int look(const struct doing *doing)
{
    uint64_t done = atomic_load_explicit(done_of(doing->once), memory_order_relaxed); /* the word is ours */
    if (done == 0)
        return 0;
    if (done == 1 && !doing->ours) /* for good (I1), whatever becomes of this thread's transaction */
        covei_lock_drop(doing->lane, word_of(doing->once));
    else
        give_back(doing, done == 1);
    return done == 1
               ? 1
               : covei_error(COVE_ECORRUPT,
                             "%s: a once is neither done nor not done: somebody wrote over it; zero it, or remove "
                             "it (cove rm)",
                             doing->lane->segment->name);
}

/* The word: 0, COVE_RECOVERED or an error. This thread may have it already: marked, since its transaction did it or
 * failed to; or while it runs `initialise`. */
static int take(struct doing *doing, int64_t timeout_ns)
{
    struct covei_lane *lane = doing->lane;
    uint64_t word = atomic_load_explicit(word_of(doing->once),
                                         memory_order_relaxed); /* only we make it name our lane */
    if ((word & COVEI_LOCK_OWNER) != lane->id)
        return covei_lock_take(lane, word_of(doing->once), timeout_ns);
    uint32_t place = covei_lock_place(lane->shm, covei_offset(lane->segment, doing->once));
    if (place < COVEI_LANE_LOCKS && lane->marked >> place & 1) {
        lane->marked &= ~(UINT32_C(1) << place);
        lane->before &= ~(UINT32_C(1) << place);
        doing->ours = true;
        return 0;
    }
    return covei_error(-EDEADLK,
                       "%s: this thread is doing that once already: cove_once_call was called from what it calls",
                       lane->segment->name);
}

static int call_once(struct doing *doing, int64_t timeout_ns)
{
    struct covei_lane *lane = doing->lane;
    if (is_done(doing->once)) /* where the thread is not known to be in the segment, and in durable ones */
        return 0;
    doing->taken = take(doing, timeout_ns);
    if (doing->taken < 0)
        return doing->taken;
    lane->interruptible = false; /* what follows is no wait of this call's */
    int result = look(doing);
    if (result != 0)
        return result < 0 ? result : 0;
    result = do_it(doing);
    if (COVEI_UNLIKELY(doing->forked))
        return result;
    give_back(doing, result >= 0);
    if (result < 0)
        return result;
    return doing->taken == COVE_RECOVERED ? COVE_RECOVERED : COVE_CREATED;
}

static COVEI_COLD int call_slowly(cove_segment *segment, struct doing *doing, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, doing->once, sizeof *doing->once, "once");
    if (result < 0)
        return result;
    doing->lane = call.lane;
    if (!doing->initialise)
        result = covei_error(-EINVAL, "%s: there is no function to be called once", call.segment->name);
    else
        result = call_once(doing, timeout_ns);
    return COVEI_UNLIKELY(doing->forked) ? result : covei_call_end(&call, result);
}

int cove_once_call(cove_segment *segment, cove_once *once, int (*initialise)(void *context), void *context,
                   int64_t timeout_ns)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, once);
        if (COVEI_LIKELY(covei_word_inside(segment, offset) && covei_word_inside(segment, offset + 8) && is_done(once)))
            return 0;
    }
    struct doing doing = {.once = once, .initialise = initialise, .context = context};
    return call_slowly(segment, &doing, timeout_ns);
}
