/* event.c - something that has happened, or has happened again.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     63                                2   1         0
 *     | version                          | WAITERS | SET |    the low half is the futex: 30 bits of the version
 *
 *     set     one CAS: version + 1, SET, no WAITERS; wakes all if WAITERS was there
 *     reset   SET off
 *     wait    WAITERS on by a CAS from the word that was looked at; sleep while the low half is that
 *
 * I1  Somebody sleeps on the word as it is: WAITERS is set. So who sets the event and finds no WAITERS has nobody to
 *     wake, and who was about to sleep finds the word changed.
 * Who waits for the event to be set goes on when its version changed as well: it was set, and reset since.
 * Edge: what was done before the set (CAS, release) -> the look of who waits (acquire).
 * May run together: all with all. Progress: setting is lock-free; nothing in it but atomics and the system's wake, so
 * that signal handlers may. It is no part of a transaction: a version that went back would lose a wake-up.
 * Crash: set or not. Killed before the wake: slices (news.c). */
#include "sync/news.h"

#include <cove/event.h>
#include <errno.h>
#include <inttypes.h>

#define SET UINT64_C(1)
#define WAITERS UINT64_C(2)
#define VERSION_SHIFT 2

static _Atomic uint64_t *word_of(const cove_event *event)
{
    return (_Atomic uint64_t *)(uintptr_t)&event->word;
}

static uint64_t version_of(uint64_t word)
{
    return word >> VERSION_SHIFT;
}

/* ---- setting, for signal handlers too */

static void wake_all(_Atomic uint64_t *word)
{
    int before = errno; /* of whom the handler interrupted */
    (void)covei_os->wake(covei_lock_futex(word), INT32_MAX);
    errno = before;
}

int cove_event_set(cove_segment *segment, cove_event *event)
{
    int result = covei_call_light(&segment, event, sizeof *event);
    if (result < 0)
        return result;
    _Atomic uint64_t *word = word_of(event);
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed); /* relaxed: the CAS orders */
    /* release: what was done before is seen by who finds it set; acquire, of others who set it: passed on with it. */
    while (!atomic_compare_exchange_weak_explicit(word, &old, (version_of(old) + 1) << VERSION_SHIFT | SET,
                                                  memory_order_acq_rel, memory_order_relaxed))
        ;
    if (old & WAITERS)
        wake_all(word);
    return 0;
}

int cove_event_reset(cove_segment *segment, cove_event *event)
{
    int result = covei_call_light(&segment, event, sizeof *event);
    if (result == 0)
        /* acq_rel: as with a set, what was done before goes with it. */
        (void)atomic_fetch_and_explicit(word_of(event), ~SET, memory_order_acq_rel);
    return result;
}

int cove_event_look(cove_segment *segment, const cove_event *event, uint64_t *version, int *is_set)
{
    int result = covei_call_light(&segment, event, sizeof *event);
    if (result == -EPERM) /* only to change it is forbidden */
        result = covei_user_address(segment, event, sizeof *event, 8) ? 0 : -EINVAL;
    if (result < 0)
        return result;
    uint64_t word = atomic_load_explicit(word_of(event), memory_order_acquire);
    if (version)
        *version = version_of(word);
    if (is_set)
        *is_set = (word & SET) != 0;
    return 0;
}

/* ---- waiting */

struct awaited {
    _Atomic uint64_t *word;
    uint64_t version; /* greater than this will do */
    bool or_set; /* and so will SET, or any other version than that, which was at entry */
    bool entered; /* `version` is known */
    uint64_t now; /* the version, when it came */
};

static bool is_over(struct awaited *awaited, uint64_t word)
{
    awaited->now = version_of(word);
    if (awaited->or_set)
        return word & SET || awaited->now != awaited->version;
    return awaited->now > awaited->version;
}

static bool come(void *context, uint32_t *expected)
{
    struct awaited *awaited = context;
    uint64_t word = atomic_load_explicit(awaited->word, memory_order_acquire);
    while (!is_over(awaited, word)) {
        if (!expected)
            return false;
        *expected = (uint32_t)(word | WAITERS);
        /* acquire: as the look; the bit itself orders nothing. I1: where the CAS fails the word changed, so look
         * again. */
        if (word & WAITERS || atomic_compare_exchange_weak_explicit(awaited->word, &word, word | WAITERS,
                                                                    memory_order_acquire, memory_order_acquire))
            return false;
    }
    return true;
}

static COVEI_COLD int wait_slowly(cove_segment *segment, cove_event *event, struct awaited *awaited, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, event, sizeof *event, "event");
    if (result < 0)
        return result;
    call.waits = &event->waits;
    awaited->word = word_of(event);
    if (!awaited->entered)
        awaited->version = version_of(atomic_load_explicit(awaited->word, memory_order_relaxed));
    const struct covei_news news = {(_Atomic uint32_t *)(void *)covei_lock_futex(awaited->word), come, awaited,
                                    COVEI_NEWS_SPINS};
    result = covei_news_wait(call.lane, &news, covei_offset(call.segment, event), timeout_ns);
    if (result == -EBUSY || result == -ETIMEDOUT)
        result = covei_error(result, "%s: the event %s, its version is %" PRIu64, call.segment->name,
                             result == -EBUSY ? "is not set" : "was not set in time", awaited->now);
    return covei_call_end(&call, result);
}

/* Set already, as is known without a lane. */
static inline bool is_set_already(cove_segment *segment, cove_event *event, struct awaited *awaited)
{
    if (!covei_cached(segment) || !covei_word_inside(segment, covei_offset(segment, event)) ||
        !covei_word_inside(segment, covei_offset(segment, event) + 8))
        return false;
    uint64_t word = atomic_load_explicit(word_of(event), memory_order_acquire);
    if (!awaited->entered)
        awaited->version = version_of(word);
    awaited->entered = true;
    return is_over(awaited, word);
}

int cove_event_wait(cove_segment *segment, cove_event *event, int64_t timeout_ns)
{
    struct awaited awaited = {.or_set = true};
    if (is_set_already(segment, event, &awaited))
        return 0;
    return wait_slowly(segment, event, &awaited, timeout_ns);
}

int cove_event_wait_beyond(cove_segment *segment, cove_event *event, uint64_t version, uint64_t *now,
                           int64_t timeout_ns)
{
    struct awaited awaited = {.version = version, .entered = true};
    int result = is_set_already(segment, event, &awaited) ? 0 : wait_slowly(segment, event, &awaited, timeout_ns);
    if (result == 0 && now)
        *now = awaited.now;
    return result;
}
