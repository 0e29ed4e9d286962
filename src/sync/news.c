/* news.c - waiting for what is nobody's in particular: an event, a condition, a counter.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Nobody is watched, since nobody has what is waited for: whoever brings the news may be a process that has not begun
 * yet. So the one wake-up that can be lost, that of a sender who was killed between his store and the wake, or whose
 * woken one was killed, is made good by looking again after each slice. Slices grow to a quarter of a second: what is
 * promised in the public headers, and four looks a second are about a ten-thousandth of a core.
 * Crash: nothing is left but a bit that says that somebody sleeps, which costs the next sender one wake. */
#include "sync/news.h"

#include <errno.h>

static bool spin(const struct covei_news *news)
{
    uint32_t spins = covei_os->cpu_count() > 1 ? news->spins : 1;
    for (uint32_t i = 0; i < spins; i++) {
        if (news->come(news->context, NULL))
            return true;
        covei_relax();
    }
    return false;
}

int covei_news_wait(struct covei_lane *lane, const struct covei_news *news, uint64_t offset, int64_t timeout_ns)
{
    struct covei_wait wait;
    const struct covei_watch nobody = {.count = 0};
    uint32_t expected = 0;
    int result = 0;
    if (timeout_ns <= 0)
        return news->come(news->context, NULL) ? 0 : -EBUSY;
    if (spin(news))
        return 0;
    covei_wait_start(&wait, lane, timeout_ns);
    covei_wait_note(lane, COVEI_HELD(COVEI_WAITS_NEWS, offset));
    while (!news->come(news->context, &expected)) {
        result = covei_wait_over(&wait, lane->segment);
        if (result < 0)
            break;
        lane->waited++;
        covei_wait_sleep(lane->segment, &wait, news->futex, expected, &nobody, COVE_FOREVER);
    }
    covei_wait_done(lane);
    return result;
}

int covei_news_enter(cove_segment **segment, const void *thing, size_t bytes, const char *what, bool changes)
{
    if (!*segment)
        *segment = cove_segment_of(thing);
    if (!*segment)
        return covei_error(-EINVAL, "%p is no place for a %s: it lies in no segment that this process has open", thing,
                           what);
    int result = covei_segment_usable(*segment);
    if (result < 0)
        return result;
    if (changes && (*segment)->flags & COVE_READONLY)
        return covei_error(-EPERM, "%s: it was opened with COVE_READONLY; open it without to change it",
                           (*segment)->name);
    if (!covei_user_address(*segment, thing, bytes, 8))
        return covei_error(-EINVAL, "%s: %p is no place for a %s; it lies in the segment's memory, aligned to 8 bytes",
                           (*segment)->name, thing, what);
    return 0;
}
