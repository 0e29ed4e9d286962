/* counter.c - a number that all may change and wait for.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     0         8         12      16 .. 64     64      128
 *     | value    | waiters | lines |           | cell 0 | cell 1 | ...     cells only where `lines` is not 0
 *
 * One that is not spread is `value`. A spread one is the sum of `value`, which stays what it was made with, and of
 * `lines` cells, each in a cache line of its own: whoever adds takes the cell of his lane, where he meets few.
 *
 *     add    add to the number; look at `waiters`; if bit 0 is there: take it off and count, in one CAS, wake all
 *     wait   bit 0 on; look at the number; sleep while `waiters` is that
 *
 * I1  Both steps on each side are seq_cst: either who adds sees the bit, or who waits sees what was added. A CAS of
 *     the adder's that fails was another's who woke all; a bit that is set again by then was set after the first
 *     look, so its owner's look at the number saw what was added.
 * Edge: what was done before the addition -> what is done after its sum was seen: seq_cst is acquire and release.
 * May run together: all with all. Progress: adding is lock-free (wait-free where nobody waits).
 * Crash: added or not. Killed before the wake: slices (news.c). It is no part of a transaction. */
#include "sync/news.h"
#include "sync/types.h"

#include <cove/counter.h>
#include <errno.h>
#include <inttypes.h>

#define SLEEPS 1u

static _Atomic int64_t *value_of(const cove_counter *counter)
{
    return (_Atomic int64_t *)(uintptr_t)&counter->value;
}

static _Atomic uint32_t *waiters_of(const cove_counter *counter)
{
    return (_Atomic uint32_t *)(uintptr_t)&counter->waiters;
}

static uint32_t lines_of(const cove_counter *counter)
{
    /* relaxed: it is fixed when the counter is made. */
    return atomic_load_explicit((const _Atomic uint32_t *)(const void *)&counter->lines, memory_order_relaxed);
}

static _Atomic int64_t *cell_of(const cove_counter *counter, uint32_t line)
{
    return (_Atomic int64_t *)((uintptr_t)counter + COVEI_CACHE_LINE * ((uintptr_t)1 + line));
}

/* Any number that differs from thread to thread will do; who has no lane anywhere goes by his processor. */
static uint32_t my_line(uint32_t lines)
{
    uint64_t id = covei_thread.id;
    if (id == 0) {
        int cpu = covei_os->cpu();
        id = cpu > 0 ? (uint64_t)cpu : 0;
    }
    /* A division costs as much as the addition. */
    return (lines & (lines - 1)) == 0 ? (uint32_t)id & (lines - 1) : (uint32_t)id % lines;
}

static int64_t sum_of(const cove_counter *counter, uint32_t lines)
{
    uint64_t sum = (uint64_t)atomic_load_explicit(value_of(counter), memory_order_seq_cst); /* I1 */
    for (uint32_t line = 0; line < lines; line++)
        sum += (uint64_t)atomic_load_explicit(cell_of(counter, line), memory_order_seq_cst); /* I1 */
    return (int64_t)sum;
}

/* What is read of it is read once, and then believed: all of it must lie in the segment. */
static int check_lines(struct cove_segment *segment, const cove_counter *counter, uint32_t *lines)
{
    *lines = lines_of(counter);
    if (*lines == 0)
        return 0;
    if (*lines > COVEI_COUNTER_LINES_MAX ||
        !covei_user_address(segment, counter, covei_counter_bytes(*lines), COVEI_CACHE_LINE))
        return covei_error(COVE_ECORRUPT, "%s: a counter says that it has %" PRIu32 " lines: somebody wrote over it",
                           segment->name, *lines);
    return 0;
}

static int enter(cove_segment **segment, const cove_counter *counter, bool changes, uint32_t *lines)
{
    int result = covei_news_enter(segment, counter, sizeof *counter, "counter", changes);
    return result < 0 ? result : check_lines(*segment, counter, lines);
}

/* ---- changing */

static COVEI_COLD void wake_all(_Atomic uint32_t *waiters, uint32_t seen)
{
    /* seq_cst, I1: the bit is set again only after this. */
    if (atomic_compare_exchange_strong_explicit(waiters, &seen, seen + 1, memory_order_seq_cst, memory_order_relaxed))
        (void)covei_os->wake((void *)waiters, INT32_MAX);
}

static inline void tell(const cove_counter *counter)
{
    uint32_t seen = atomic_load_explicit(waiters_of(counter), memory_order_seq_cst); /* I1 */
    if (COVEI_UNLIKELY(seen & SLEEPS))
        wake_all(waiters_of(counter), seen);
}

static inline int64_t add_up(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static COVEI_COLD int add_slowly(cove_segment *segment, cove_counter *counter, int64_t amount, int64_t *now)
{
    uint32_t lines = 0;
    int result = enter(&segment, counter, true, &lines);
    if (result < 0)
        return result;
    _Atomic int64_t *at = lines == 0 ? value_of(counter) : cell_of(counter, my_line(lines));
    int64_t after = add_up(atomic_fetch_add_explicit(at, amount, memory_order_seq_cst), amount); /* I1 */
    tell(counter);
    if (now)
        *now = lines == 0 ? after : sum_of(counter, lines);
    return 0;
}

/* Is it in the cached segment, as far as is known without looking again? */
static inline bool is_near(const cove_segment *segment, const cove_counter *counter, uint64_t size_bytes)
{
    if (!covei_cached(segment))
        return false;
    uint64_t offset = covei_offset(segment, counter);
    return COVEI_LIKELY(covei_word_inside(segment, offset) && covei_word_inside(segment, offset + size_bytes - 8));
}

int cove_counter_add(cove_segment *segment, cove_counter *counter, int64_t amount, int64_t *now)
{
    if (!is_near(segment, counter, sizeof *counter))
        return add_slowly(segment, counter, amount, now);
    uint32_t lines = lines_of(counter);
    _Atomic int64_t *at = value_of(counter);
    if (lines != 0) {
        if (now || lines > COVEI_COUNTER_LINES_MAX || !is_near(segment, counter, covei_counter_bytes(lines)))
            return add_slowly(segment, counter, amount, now);
        at = cell_of(counter, my_line(lines));
    }
    int64_t before = atomic_fetch_add_explicit(at, amount, memory_order_seq_cst); /* I1 */
    tell(counter);
    if (now)
        *now = add_up(before, amount);
    return 0;
}

int cove_counter_set(cove_segment *segment, cove_counter *counter, int64_t value, int64_t *before)
{
    uint32_t lines = 0;
    int result = enter(&segment, counter, true, &lines);
    if (result == 0 && lines != 0)
        result = covei_error(-EOPNOTSUPP,
                             "%s: the counter is spread over %" PRIu32
                             " lines, which cannot be set in one step; add the difference, or make it without lines",
                             segment->name, lines);
    if (result < 0)
        return result;
    int64_t was = atomic_exchange_explicit(value_of(counter), value, memory_order_seq_cst); /* I1 */
    tell(counter);
    if (before)
        *before = was;
    return 0;
}

int cove_counter_get(cove_segment *segment, const cove_counter *counter, int64_t *value)
{
    uint32_t lines = 0;
    int result = enter(&segment, counter, false, &lines);
    if (result == 0 && !value)
        result = covei_error(-EINVAL, "%s: there is no place for the counter's value", segment->name);
    if (result == 0)
        *value = sum_of(counter, lines);
    return result;
}

/* ---- waiting */

struct awaited {
    const cove_counter *counter;
    uint32_t lines;
    int64_t value;
    bool another; /* any other will do; else at least it */
    int64_t now;
};

static bool is_there(struct awaited *awaited)
{
    awaited->now = sum_of(awaited->counter, awaited->lines);
    return awaited->another ? awaited->now != awaited->value : awaited->now >= awaited->value;
}

static bool come(void *context, uint32_t *expected)
{
    struct awaited *awaited = context;
    if (expected) /* seq_cst, I1: before the look */
        *expected = atomic_fetch_or_explicit(waiters_of(awaited->counter), SLEEPS, memory_order_seq_cst) | SLEEPS;
    return is_there(awaited);
}

static int explain(const struct cove_segment *segment, const struct awaited *awaited, int result)
{
    return covei_error(result, "%s: the counter is %s %" PRId64 ", not %s", segment->name,
                       result == -EBUSY ? "at" : "still at", awaited->now,
                       awaited->another ? "another value" : "as high as was asked");
}

static int wait_until(cove_segment *segment, struct awaited *awaited, int64_t *now, int64_t timeout_ns)
{
    const cove_counter *counter = awaited->counter;
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, counter, sizeof *counter, "counter");
    if (result < 0)
        return result;
    result = check_lines(call.segment, counter, &awaited->lines);
    /* A look at many lines takes them from those who add. */
    const struct covei_news news = {waiters_of(counter), come, awaited, awaited->lines > 0 ? 1 : COVEI_NEWS_SPINS};
    if (result == 0)
        result = covei_news_wait(call.lane, &news, covei_offset(call.segment, counter), timeout_ns);
    if (result == -EBUSY || result == -ETIMEDOUT)
        result = explain(call.segment, awaited, result);
    if (result == 0 && now)
        *now = awaited->now;
    return covei_call_end(&call, result);
}

int cove_counter_wait(cove_segment *segment, cove_counter *counter, int64_t value, int64_t *now, int64_t timeout_ns)
{
    struct awaited awaited = {.counter = counter, .value = value};
    return wait_until(segment, &awaited, now, timeout_ns);
}

int cove_counter_wait_change(cove_segment *segment, cove_counter *counter, int64_t value, int64_t *now,
                             int64_t timeout_ns)
{
    struct awaited awaited = {.counter = counter, .value = value, .another = true};
    return wait_until(segment, &awaited, now, timeout_ns);
}
