/* news.h - waiting for what is nobody's in particular: an event, a condition, a counter.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_SYNC_NEWS_H
#define COVEI_SYNC_NEWS_H

#include "sync/sync.h"

#define COVEI_NEWS_SPINS 100u /* looks before sleeping */

/* One wait. */
struct covei_news {
    _Atomic uint32_t *futex; /* changes with each piece of news that somebody asked to be woken for */
    /* Has it come? With `expected`, unless it has: ask to be woken, look once more, and say what the futex holds while
     * there is nothing new. */
    bool (*come)(void *context, uint32_t *expected);
    void *context;
    uint32_t spins;
};
/* For the lane of a public call. 0; -EBUSY, -ETIMEDOUT, both without a sentence; -EINTR. */
int covei_news_wait(struct covei_lane *lane, const struct covei_news *news, uint64_t offset, int64_t timeout_ns);

/* The beginning of a public call that needs no lane: as covei_call_begin, but any number of threads can. `changes`:
 * refused in a segment that is only read. */
int covei_news_enter(cove_segment **segment, const void *thing, size_t bytes, const char *what, bool changes);

#endif
