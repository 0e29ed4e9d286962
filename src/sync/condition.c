/* condition.c - wait, with a mutex given back meanwhile, until something may have changed.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     31                       1   0
 *     | sequence                | WAITERS |    the futex
 *
 *     wait       WAITERS on, which tells the sequence; give the mutex back; sleep while the sequence is that one;
 *                take the mutex again
 *     signal     nothing without WAITERS; else sequence + 1, wake one. Where none slept, and the word has not changed
 *                since: a broadcast
 *     broadcast  sequence + 1, WAITERS off, wake all
 *
 * I1  Somebody waits for the sequence that is: WAITERS is set. For it is taken off only together with a change of the
 *     sequence. (Off alone, who fell asleep between the two steps of a signal that woke nobody would be passed over by
 *     the next signal.)
 * I2  A sequence that changed ends every sleep that began before, at the latest with its slice: so a signal that woke
 *     one who was then killed is not lost to the others. For them it was a wake-up without a signal.
 * Who changes what is waited for holds the mutex: then the waiter has looked before, and WAITERS is seen, or he looks
 * afterwards.
 *
 * Transactions. What was done so far becomes final, at all levels, as the mutex can only then be given back.
 * Afterwards as many levels are begun; before the mutex is taken where it was taken inside, after it where before, so
 * that a commit leaves it as it would have.
 * What is told, where several things happened: -EINTR, else COVE_RECOVERED, else -ETIMEDOUT, else COVE_COMMITTED: an
 * interrupt is told once only, and so is a recovery, while time runs out again.
 * Crash: a dead waiter sleeps no more, and WAITERS costs one wake. A dead signaller: done or not; I2 where he was
 * killed before the wake. */
#include "heap/heap.h"
#include "sync/news.h"

#include <cove/condition.h>
#include <errno.h>
#include <inttypes.h>

#define WAITERS 1u
#define SEQUENCE_ONE 2u

static _Atomic uint32_t *word_of(cove_condition *condition)
{
    return (_Atomic uint32_t *)(void *)&condition->word;
}

/* ---- waiting */

/* One call of cove_condition_wait. */
struct waiter {
    struct covei_call call;
    cove_condition *condition;
    cove_mutex *mutex;
    _Atomic uint64_t *lock; /* the mutex's word, its first field */
    uint32_t seen; /* the sequence at the beginning */
    uint32_t depth; /* of the transaction */
    bool before; /* the mutex was taken before the transaction, or there is none */
};

static bool come(void *context, uint32_t *expected)
{
    struct waiter *waiter = context;
    _Atomic uint32_t *word = word_of(waiter->condition);
    /* seq_cst: the bit is seen by who signals after the mutex was given back; acquire: what he did is seen. */
    uint32_t now = expected ? atomic_fetch_or_explicit(word, WAITERS, memory_order_seq_cst)
                            : atomic_load_explicit(word, memory_order_acquire);
    if (expected)
        *expected = now | WAITERS;
    return (now & ~WAITERS) != waiter->seen;
}

static bool has_lock(const struct waiter *waiter)
{
    const struct covei_lane *lane = waiter->call.lane;
    /* relaxed: only this thread makes the word name its lane. */
    if ((atomic_load_explicit(waiter->lock, memory_order_relaxed) & COVEI_LOCK_OWNER) != lane->id)
        return false;
    uint32_t place = covei_lock_place(lane->shm, covei_offset(lane->segment, waiter->mutex));
    return place < COVEI_LANE_LOCKS && !(lane->marked >> place & 1);
}

static int check_wait(const struct waiter *waiter, int64_t timeout_ns)
{
    const struct covei_lane *lane = waiter->call.lane;
    const char *name = lane->segment->name;
    if (!covei_user_address(lane->segment, waiter->mutex, sizeof *waiter->mutex, 8))
        return covei_error(-EINVAL, "%s: %p is no place for a mutex; it lies in the condition's segment", name,
                           (void *)waiter->mutex);
    if (timeout_ns <= 0)
        return covei_error(-EINVAL, "%s: waiting for a condition takes time; give nanoseconds or COVE_FOREVER", name);
    if (!has_lock(waiter))
        return covei_error(-EPERM, "%s: this thread does not hold the condition's mutex; lock it first", name);
    if (lane->floor != 0)
        return covei_error(-EBUSY,
                           "%s: a wait would commit the transaction of the call which this function was called from; "
                           "return first",
                           name);
    if (lane->spoilt)
        return covei_error(-ECANCELED,
                           "%s: something in the transaction failed and could not be undone by itself; abort it, and "
                           "begin anew",
                           name);
    return 0;
}

/* Give the mutex back, and with it the transaction. What could not be settled after the commit is done by the next to
 * begin. */
static void leave(struct waiter *waiter)
{
    struct covei_lane *lane = waiter->call.lane;
    waiter->depth = lane->depth;
    while (lane->depth > 0)
        (void)covei_commit(lane);
    waiter->before = has_lock(waiter);
    if (waiter->before)
        covei_lock_drop(lane, waiter->lock);
}

static int begin_anew(const struct waiter *waiter)
{
    struct covei_lane *lane = waiter->call.lane;
    while (lane->depth < waiter->depth) {
        int result = covei_begin(lane);
        if (result < 0)
            return result;
    }
    return 0;
}

static int without(const struct waiter *waiter, int result, bool has_mutex)
{
    char sentence[COVEI_ERROR_BYTES];
    bool begun = waiter->call.lane->depth == waiter->depth;
    covei_error_save(sentence);
    return covei_error(
        result, "%.300s; %s%s%s", sentence, has_mutex ? "" : "the condition's mutex is not held any more",
        begun || has_mutex ? "" : ", and ", begun ? "" : "the transaction was committed, and none is begun anew");
}

/* The mutex and the transaction are as they were. 0, COVE_RECOVERED, or an error. */
static int come_back(struct waiter *waiter)
{
    struct covei_lane *lane = waiter->call.lane;
    int begun = waiter->before ? 0 : begin_anew(waiter);
    int taken = covei_lock_take(lane, waiter->lock, COVE_FOREVER);
    if (waiter->before && taken >= 0)
        begun = begin_anew(waiter);
    if (taken < 0)
        return without(waiter, taken, false);
    return begun < 0 ? without(waiter, begun, true) : taken;
}

static int wait_outside(struct waiter *waiter, int64_t timeout_ns)
{
    struct covei_call *call = &waiter->call;
    const struct covei_news news = {word_of(waiter->condition), come, waiter, COVEI_NEWS_SPINS};
    int result = covei_news_wait(call->lane, &news, covei_offset(call->segment, waiter->condition), timeout_ns);
    if (call->lane->waited > 0) /* a figure, for people */
        atomic_fetch_add_explicit((_Atomic uint32_t *)(void *)&waiter->condition->waits, 1, memory_order_relaxed);
    if (result == -ETIMEDOUT)
        result = covei_error(result, "%s: the condition was not signalled in time", call->segment->name);
    return result;
}

static int wait_and_come_back(struct waiter *waiter, int64_t timeout_ns)
{
    struct covei_lane *lane = waiter->call.lane;
    char sentence[COVEI_ERROR_BYTES];
    leave(waiter);
    int result = wait_outside(waiter, timeout_ns);
    if (result < 0)
        covei_error_save(sentence);
    lane->interruptible = false;
    lane->waited = 0; /* from here on for the mutex */
    lane->saw_held_ns = 0;
    waiter->call.waits = &waiter->mutex->waits;
    waiter->call.longest_us = &waiter->mutex->longest_us;
    int back = come_back(waiter);
    /* On the way back, too. relaxed: whoever interrupts later than this is too late. */
    if (back >= 0 && result != -EINTR &&
        atomic_load_explicit(&covei_interrupts, memory_order_relaxed) != lane->interrupts)
        return covei_error(-EINTR, "%s: the wait was ended by cove_interrupt", lane->segment->name);
    if (back < 0 || (back > 0 && result != -EINTR))
        return back;
    if (result < 0)
        covei_error_restore(sentence);
    return result < 0 ? result : waiter->depth > 0 ? COVE_COMMITTED : 0;
}

int cove_condition_wait(cove_segment *segment, cove_condition *condition, cove_mutex *mutex, int64_t timeout_ns)
{
    struct waiter waiter = {.condition = condition, .mutex = mutex, .lock = (_Atomic uint64_t *)(void *)mutex};
    int result = covei_call_begin(&waiter.call, segment, condition, sizeof *condition, "condition");
    if (result < 0)
        return result;
    result = check_wait(&waiter, timeout_ns);
    if (result == 0) {
        /* seq_cst: as in `come`. Before the mutex is given back: whoever takes it then sees that somebody waits. */
        waiter.seen = atomic_fetch_or_explicit(word_of(condition), WAITERS, memory_order_seq_cst) & ~WAITERS;
        result = wait_and_come_back(&waiter, timeout_ns);
    }
    return covei_call_end(&waiter.call, result);
}

/* ---- telling */

/* The word, or NULL with an error. */
static _Atomic uint32_t *enter(cove_segment *segment, cove_condition *condition, int *result)
{
    *result = covei_cached(segment) && covei_word_inside(segment, covei_offset(segment, condition))
                  ? 0
                  : covei_news_enter(&segment, condition, sizeof *condition, "condition", true);
    return *result < 0 ? NULL : word_of(condition);
}

/* Those who wait as of `seen` go on, and nobody asks for a wake any more. False: the word has changed. */
static bool release_all(_Atomic uint32_t *word, uint32_t *seen)
{
    /* release: what was done before is seen by who finds his sequence gone. */
    if (!atomic_compare_exchange_strong_explicit(word, seen, (*seen + SEQUENCE_ONE) & ~WAITERS, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    (void)covei_os->wake((void *)word, INT32_MAX);
    return true;
}

int cove_condition_signal(cove_segment *segment, cove_condition *condition)
{
    int result = 0;
    _Atomic uint32_t *word = enter(segment, condition, &result);
    if (!word || !(atomic_load_explicit(word, memory_order_seq_cst) & WAITERS))
        return result;
    /* release: as above. */
    uint32_t told = atomic_fetch_add_explicit(word, SEQUENCE_ONE, memory_order_acq_rel) + SEQUENCE_ONE;
    if (covei_os->wake((void *)word, 1) <= 0 && told & WAITERS)
        (void)release_all(word, &told); /* who changed it wakes, or waits for a later one */
    return 0;
}

int cove_condition_broadcast(cove_segment *segment, cove_condition *condition)
{
    int result = 0;
    _Atomic uint32_t *word = enter(segment, condition, &result);
    if (!word)
        return result;
    uint32_t seen = atomic_load_explicit(word, memory_order_seq_cst);
    while (seen & WAITERS && !release_all(word, &seen))
        ;
    return 0;
}
