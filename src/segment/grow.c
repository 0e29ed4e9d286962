/* grow.c - making a segment larger while others use it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Every member has mapped max_size bytes from the start, so growth moves nothing: the file gets longer, then one
 * store publishes the new size.
 * Under a lock of its own, in steps of at most 4 MiB, so that nobody who only wants memory that is there waits for
 * the kernel.
 *
 * Edge G: file made larger, size stored release -> size loaded acquire, bytes touched. Likewise rows_ready and
 * lanes_ready, for the holes of the file that rows and lanes are at first.
 * Crash: before the store the file is longer than the size says, and the next to grow reserves the same bytes again;
 * after it, done. */
#include "segment/segment.h"

#include <errno.h>
#include <inttypes.h>

#define STEP_BYTES (UINT64_C(4) << 20)

/* Is there room for all of it? Growing step by step until the file system is full would leave nobody any memory. */
static int ask_for_room(const struct cove_segment *segment, uint64_t more_bytes)
{
    return covei_region_ask(&segment->region, segment->name, more_bytes);
}

static int grow_locked(struct cove_segment *segment, uint64_t size, uint64_t target)
{
    int result = ask_for_room(segment, target - size);
    while (result == 0 && size < target) {
        uint64_t step = covei_min(target - size, STEP_BYTES);
        result = covei_segment_reserve(segment, size, step);
        if (result < 0)
            break;
        size += step;
        atomic_store_explicit(&segment->header->size_bytes, size, memory_order_release); /* edge G */
    }
    return result;
}

/* At least what is needed; if there is room, a quarter of what is there, so that growth is rare. */
static int grow_wisely(struct cove_segment *segment, uint64_t size, uint64_t more_bytes, uint64_t limit)
{
    uint64_t need = covei_round_up(more_bytes, COVEI_PAGE);
    uint64_t wish = covei_max(need, covei_round_up(covei_min((size - segment->heap_at) / 4, STEP_BYTES), COVEI_PAGE));
    int result = -ENOSPC;
    if (wish > need && wish <= limit - size)
        result = grow_locked(segment, size, size + wish);
    size = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    return result == -ENOSPC || result == -EFBIG ? grow_locked(segment, size, size + need) : result;
}

int covei_segment_grow(struct covei_lane *lane, uint64_t more_bytes)
{
    struct cove_segment *segment = lane->segment;
    uint64_t seen = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    int result = covei_lock_take(lane, &segment->header->grow_lock, COVE_FOREVER);
    if (result < 0)
        return result;
    uint64_t size = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    uint64_t limit = covei_min(segment->header->max_size_bytes, segment->mapped_bytes);
    result = 0;
    uint64_t need = covei_round_up(more_bytes, COVEI_PAGE);
    if (need > limit || size > limit - need || size < segment->heap_at)
        result = covei_error(-ENOSPC,
                             "%s: %" PRIu64 " more bytes are needed, but it may not grow beyond %" PRIu64
                             " bytes (now %" PRIu64 "); free some memory in it, or create it with a larger max_size",
                             segment->name, more_bytes, limit, size);
    else if (size == seen) /* else somebody else grew it while we waited: look whether that is enough */
        result = grow_wisely(segment, size, more_bytes, limit);
    covei_lock_drop(lane, &segment->header->grow_lock);
    return result;
}
