/* deadlock.c - finding cycles of threads that wait for each other.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A lane that waits for a lock word says so (waits_for, waits_since), and the word names its owner; a writer that waits
 * for readers waits for each lane that has a mark of the lock. So a lane's waits lead to other lanes, and a path that
 * comes back to where it began is a deadlock, if all its steps stood at one moment. They did where two looks at the
 * whole path, one after the other, find each step unchanged: the same wait, begun at the same time, and the same holding
 * (a word's generation) or, of a reader, a wait of its own that began before. A path that changes is none: nothing is
 * guessed. Waits for permits, events, conditions, barriers and peers are nobody's in particular and end a path.
 *
 * Who is told: the lane that began to wait last, since it closed the cycle. Where it does not take note (it is stopped,
 * or waits in a short timeout that it repeats) the others are told after another second.
 * Crash: only looks. */
#include "segment/segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LONGEST_PATH 64u /* lanes */
#define MOST_LOOKS 4096u /* at lanes, of one search */
#define INSIST_NS INT64_C(1000000000)

/* One step of a path: the lane `lane` waits for something that the next step's lane has. */
struct step {
    uint32_t lane;
    uint64_t waits_for;
    int64_t since;
    uint64_t word; /* of a lock: as it named the next lane */
};

struct search {
    const struct cove_segment *segment;
    uint32_t start;
    uint32_t length;
    uint32_t looks;
    struct step path[LONGEST_PATH];
};

static bool read_step(const struct cove_segment *segment, uint32_t lane, struct step *step)
{
    struct covei_lane_shm *shm = &segment->lanes[lane];
    /* acquire: since when was stored before. */
    *step = (struct step){.lane = lane, .waits_for = atomic_load_explicit(&shm->waits_for, memory_order_acquire)};
    step->since = atomic_load_explicit(&shm->waits_since, memory_order_acquire);
    uint64_t offset = COVEI_HELD_OFFSET(step->waits_for);
    if (step->waits_for == 0 || COVEI_HELD_KIND(step->waits_for) > COVEI_WAITS_DRAIN ||
        !covei_inside(segment, offset, 8) || covei_lane_died(&segment->lanes[lane]))
        return false; /* what the dead wait for is over as soon as somebody recovers them */
    step->word = atomic_load_explicit((_Atomic uint64_t *)covei_address(segment, offset), memory_order_acquire) &
                 ~COVEI_LOCK_WAITERS;
    return true;
}

static bool reads(const struct cove_segment *segment, uint32_t lane, uint64_t offset)
{
    const struct covei_lane_shm *shm = &segment->lanes[lane];
    return atomic_load_explicit(&segment->owners[lane], memory_order_relaxed) != 0 &&
           atomic_load_explicit(&shm->marks, memory_order_acquire) != 0 &&
           covei_lock_place(shm, COVEI_HELD(COVEI_HELD_SHARED, offset)) < COVEI_LANE_LOCKS;
}

static bool leads_back(struct search *search, uint32_t lane);

static bool try_next(struct search *search, uint32_t next)
{
    if (next == search->start)
        return true;
    for (uint32_t i = 0; i < search->length; i++)
        if (search->path[i].lane == next)
            return false; /* a cycle, but not ours: its own members find it */
    return leads_back(search, next);
}

/* Extend the path by that lane; true where it comes back to the start. */
static bool leads_back(struct search *search, uint32_t lane)
{
    const struct cove_segment *segment = search->segment;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    struct step step;
    if (lane >= lanes || search->length == LONGEST_PATH || !read_step(segment, lane, &step))
        return false;
    search->path[search->length++] = step;
    if (COVEI_HELD_KIND(step.waits_for) == COVEI_WAITS_WORD) {
        uint32_t owner = (uint32_t)(step.word & COVEI_LOCK_OWNER) - 1;
        if (owner < lanes && try_next(search, owner))
            return true;
    } else
        for (uint32_t i = 0; i < lanes && search->looks++ < MOST_LOOKS; i++)
            if (i != lane && reads(segment, i, COVEI_HELD_OFFSET(step.waits_for)) && try_next(search, i))
                return true;
    search->length--;
    return false;
}

/* Is each step as it was? */
static bool stands(const struct search *search)
{
    for (uint32_t i = 0; i < search->length; i++) {
        const struct step *was = &search->path[i];
        uint32_t next = search->path[(i + 1) % search->length].lane;
        struct step is;
        if (!read_step(search->segment, was->lane, &is) || is.waits_for != was->waits_for || is.since != was->since ||
            is.word != was->word)
            return false;
        if (COVEI_HELD_KIND(is.waits_for) == COVEI_WAITS_DRAIN &&
            !reads(search->segment, next, COVEI_HELD_OFFSET(is.waits_for)))
            return false;
    }
    return true;
}

static bool is_last_to_come(const struct search *search)
{
    const struct step *mine = &search->path[0];
    for (uint32_t i = 1; i < search->length; i++) {
        const struct step *other = &search->path[i];
        if (other->since > mine->since || (other->since == mine->since && other->lane > mine->lane))
            return false;
    }
    return true;
}

static int tell(const struct search *search)
{
    char chain[320] = "", name[COVEI_LANE_NAME_BYTES];
    size_t used = 0;
    for (uint32_t i = 1; i < search->length && used < sizeof chain - sizeof name - 40; i++) {
        covei_lane_name(search->segment, search->path[i].lane, name);
        used += (size_t)snprintf(chain + used, sizeof chain - used, "%s%s, who waits for ", i == 1 ? "" : "", name);
    }
    return covei_error(-EDEADLK,
                       "%s: a deadlock: this thread waits for %s%sthis thread; free what it holds (cove_abort) "
                       "and begin again, and take locks in one order everywhere",
                       search->segment->name, chain, search->length > 4 ? "... and in the end " : "");
}

int covei_deadlock(struct covei_lane *lane, int64_t waited_ns)
{
    struct search search = {.segment = lane->segment, .start = lane->id - 1};
    if (!leads_back(&search, lane->id - 1) || search.length < 2 || !stands(&search))
        return 0;
    if (!is_last_to_come(&search) && waited_ns < INSIST_NS)
        return 0;
    return tell(&search);
}
