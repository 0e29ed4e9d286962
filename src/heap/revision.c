/* revision.c - the public revision: numbers by which readers without a lock know what they have read.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * When a revision is odd and when even, edge V, and what a crash leaves: segment/journal.c (J4, J5).
 * V1  A revision that is odd has a record in the journal of the one transaction that made it odd: that has the lock.
 *     So who finds it odd, and his own, need not record it again.
 *
 * A reader waits for nobody but a writer in the middle of a change. Where that one is dead nobody may ever come
 * for the lock, so readers look for dead lanes themselves. */
#include "heap/heap.h"

#include <cove/revision.h>
#include <errno.h>

#define LOOKS 64u /* back at records, for one of the same revision */
#define SPINS 100 /* pauses before sleeping */
#define NAP_NS INT64_C(50000) /* 0.05 ms: some changes */
#define DEATH_NS INT64_C(500000) /* 0.5 ms: how long an odd number is taken for a living writer's */
#define WAIT_NS INT64_C(10000000) /* 10 ms: then the caller decides */

/* ---- writing */

/* Is it recorded? A look back ends after a while: with so many an odd one is believed to be (V1). */
static bool is_recorded(const struct covei_lane *lane, uint64_t offset)
{
    struct covei_entry entry;
    uint64_t end = lane->newest_revision;
    for (uint32_t looks = 0; covei_revision_read(lane->segment, lane->shm, end, &entry); end = entry.size_bytes)
        if (entry.offset == offset || ++looks == LOOKS)
            return true;
    return false;
}

/* J4: the record, then odd. The fence is edge V. */
static int record(struct covei_lane *lane, uint64_t offset)
{
    struct cove_segment *segment = lane->segment;
    if (lane->revisions == COVEI_REVISIONS_MAX)
        return covei_error(-E2BIG, "%s: this transaction changes %u revisions already; commit before", segment->name,
                           COVEI_REVISIONS_MAX);
    int result = covei_outer_reserve(lane, COVEI_FOOTER_UNITS);
    if (result < 0)
        return result;
    uint64_t units = covei_outer_write(lane, 0, COVEI_RECORD_REVISION, offset, lane->newest_revision);
    covei_outer_append(lane, units);
    lane->newest_revision = COVEI_TAILS_OUTER(covei_tails_load(lane->shm));
    lane->revisions++;
    lane->effects++;
    covei_revision_step(segment, offset, true);
    return 0;
}

int covei_revision_change(struct covei_lane *lane, cove_revision *revision)
{
    uint64_t offset = covei_offset(lane->segment, revision);
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)&revision->word;
    if (atomic_load_explicit(word, memory_order_relaxed) & 1 && is_recorded(lane, offset)) /* ours alone to change */
        return 0;
    return record(lane, offset);
}

int cove_revision_change(cove_segment *segment, cove_revision *revision)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result < 0)
        return result;
    if (lane->depth == 0)
        return covei_no_transaction(lane);
    if (!covei_user_address(segment, revision, sizeof *revision, 8))
        return covei_error(-EINVAL,
                           "%s: %p is no place for a revision; it lies in the segment's memory, aligned to 8 "
                           "bytes",
                           segment->name, (void *)revision);
    return covei_revision_change(lane, revision);
}

void covei_revision_leave(struct covei_lane *lane, const struct covei_entry *entry, uint64_t begins)
{
    struct cove_segment *segment = lane->segment;
    struct covei_entry older;
    for (uint64_t end = entry->size_bytes; covei_revision_read(segment, lane->shm, end, &older); end = older.size_bytes)
        if (older.offset == entry->offset)
            return; /* it stays odd until that record goes */
    const _Atomic uint64_t *word = covei_address(segment, entry->offset);
    uint64_t even = (atomic_load_explicit(word, memory_order_relaxed) + 1) & ~UINT64_C(1); /* ours alone to change */
    for (uint64_t end = begins; end > 0 && covei_outer_read(segment, lane->shm, end, &older); end -= older.units)
        if (older.kind == COVEI_RECORD_BYTES)
            covei_outer_patch(&older, entry->offset, &even, sizeof even);
    covei_order();
    covei_revision_step(segment, entry->offset, false);
}

/* ---- reading */

static uint64_t load(const cove_revision *revision)
{
    /* acquire, edge V: bytes that went with an even number are seen with it. */
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)&revision->word, memory_order_acquire);
}

/* Put back what dead lanes had changed: of those few that are in the middle of a change. */
static void look_for_the_dead(struct cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    char sentence[COVEI_ERROR_BYTES]; /* of the call before: this one does not fail */
    covei_error_save(sentence);
    int result = covei_lane_get(&lane, segment);
    covei_error_restore(sentence);
    if (result < 0)
        return;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        /* relaxed: a hint; whose lane it is and whether it died is looked at anew. */
        if (i + 1 != lane->id &&
            COVEI_TAILS_OUTER(atomic_load_explicit(&segment->lanes[i].tails, memory_order_relaxed)))
            (void)covei_recover_locks(lane, i);
    covei_recover_debts(lane);
}

static COVEI_COLD uint64_t wait_for_even(cove_segment *segment, const cove_revision *revision, uint64_t seen)
{
    for (int i = 0; (seen & 1) && i < SPINS; i++) {
        covei_relax();
        seen = load(revision);
    }
    int64_t begun = covei_os->now(), waited_ns = 0, look_ns = DEATH_NS;
    for (; (seen & 1) && waited_ns < WAIT_NS; waited_ns = covei_os->now() - begun) {
        if (waited_ns >= look_ns) {
            look_for_the_dead(segment);
            look_ns = 2 * waited_ns;
        } else
            covei_os->nap(NAP_NS);
        seen = load(revision);
    }
    return seen;
}

uint64_t cove_revision_read(cove_segment *segment, const cove_revision *revision)
{
    uint64_t seen = load(revision);
    if (COVEI_LIKELY(!(seen & 1)) || !segment)
        return seen;
    return wait_for_even(segment, revision, seen);
}

int cove_revision_same(const cove_revision *revision, uint64_t seen)
{
    atomic_thread_fence(memory_order_acquire); /* edge V: bytes, then the number */
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)&revision->word;
    return (seen & 1) == 0 && atomic_load_explicit(word, memory_order_relaxed) == seen;
}
