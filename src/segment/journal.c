/* journal.c - undo records: what was there before the change that a lane is in the middle of.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Layout and invariants of the records: lane_shm.h. Why no flush or fence of the processor is needed: covei_order in
 * base.h.
 *
 * J1  A record is whole before `tails` covers it; `tails` covers it before the bytes it keeps are changed.
 * J2  Undo puts bytes back from the newest record to the oldest. Doing all of it again, or going on in the middle,
 *     ends in the same bytes, as nobody else may change them: the locks that guard them are held until it is done.
 * J3  Only bytes that are written solely under a lock of the lane are kept. A lock word that this lane holds may lie
 *     inside such a stretch (a user saves a struct with its lock): undo leaves it as it is. So it does with a
 *     revision that has a record of its own.
 *
 * Revisions (cove/revision.h) are words that readers without a lock look at: odd while what goes with them changes.
 * They only grow: a reader that met the same even value twice met the same bytes. Their values are never kept; a
 * record says which one it is, and where the record of the one before it is.
 * J4  In phase ACTIVE every recorded revision is odd, save for that of the newest record, which may be about to
 *     become so. It is odd before bytes that go with it are changed (edge V: a fence between the two).
 * J5  It becomes even when all bytes that go with it are what they will stay: in phase COMMITTING or RESTORED, while
 *     the locks are held still. Both can be done again: what is even stays so. And at the end of a joined operation
 *     that failed (heap/join.c), together with its record.
 * Killed in ACTIVE: the walk back meets the newest record first, and makes odd what is not yet; so nothing is put
 * back under an even revision. Bytes saved after a revision's record hold its odd value, which does no harm; in those
 * saved before, the walk leaves it out.
 * A recoverer that is killed before the phase is stored leaves ACTIVE, and its bytes are put back once more (J2).
 * Edge V: revision odd, fence release, bytes | bytes, fence acquire, revision loaded; and bytes, revision even
 * release | revision loaded acquire, bytes. (H. Boehm, "Can seqlocks get along with programming language memory
 * models?", MSPC 2012.)
 *
 * The inner journal has room for every change that the library makes (asserted). The outer one moves to a larger
 * block of the heap when it is full (src/heap/transaction.c). */
#include "segment/journal.h"

void covei_inner_abort(struct covei_lane *lane)
{
    covei_inner_undo(lane->segment, lane->shm);
}

/* ---- outer */

/* The outer journal's units and how many there are. Its block is believed only as far as it lies in the segment. */
static uint64_t *outer_of(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t *capacity)
{
    uint64_t block = shm->journal_block;
    if (block != 0 && block % 8 == 0 && block >= segment->heap_at && covei_inside(segment, block, 8)) {
        uint64_t *units = covei_address(segment, block);
        uint64_t count = units[0];
        if (count < (UINT64_C(1) << 43) && covei_inside(segment, block, 8 + count * 8)) {
            *capacity = count;
            return units + 1;
        }
    }
    *capacity = COVEI_OUTER_UNITS;
    return (uint64_t *)shm->outer;
}

void covei_outer_locate(struct covei_lane *lane)
{
    lane->outer = outer_of(lane->segment, lane->shm, &lane->outer_capacity);
}

static bool entry_fits(const struct cove_segment *segment, const struct covei_entry *entry, uint64_t end)
{
    if (entry->kind == COVEI_RECORD_BYTES)
        return entry->size_bytes <= segment->mapped_bytes && covei_record_units(entry->size_bytes) <= end &&
               covei_inside(segment, entry->offset, entry->size_bytes);
    if (entry->kind == COVEI_RECORD_REVISION)
        return entry->size_bytes < end && entry->offset >= segment->heap_at && entry->offset % 8 == 0 &&
               covei_inside(segment, entry->offset, 8);
    return entry->kind == COVEI_RECORD_ALLOCATED || entry->kind == COVEI_RECORD_DOOMED;
}

static bool read_record(const struct cove_segment *segment, const uint64_t *units, uint64_t capacity, uint64_t end,
                        struct covei_entry *entry)
{
    if (end < COVEI_FOOTER_UNITS || end > capacity)
        return false;
    uint64_t word = units[end - 2];
    *entry = (struct covei_entry){.kind = (uint32_t)(word >> COVEI_KIND_SHIFT),
                                  .offset = word & COVEI_OFFSET_MASK,
                                  .size_bytes = units[end - 1],
                                  .units = COVEI_FOOTER_UNITS};
    if (!entry_fits(segment, entry, end))
        return false;
    if (entry->kind == COVEI_RECORD_BYTES)
        entry->units = covei_record_units(entry->size_bytes);
    entry->bytes = units + end - entry->units;
    return true;
}

bool covei_outer_read(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t end,
                      struct covei_entry *entry)
{
    uint64_t capacity = 0;
    const uint64_t *units = outer_of(segment, shm, &capacity);
    return read_record(segment, units, capacity, end, entry);
}

void covei_outer_void(struct covei_lane *lane, const struct covei_entry *entry)
{
    /* A record of no bytes, at 0. Its footer begins where `bytes` points to, as it has none. */
    covei_put(lane, (uint64_t *)(uintptr_t)entry->bytes, (uint64_t)COVEI_RECORD_BYTES << COVEI_KIND_SHIFT);
}

void covei_outer_patch(const struct covei_entry *entry, uint64_t offset, const void *bytes, uint64_t size_bytes)
{
    uint64_t from = covei_max(offset, entry->offset);
    uint64_t to = covei_min(offset + size_bytes, entry->offset + entry->size_bytes);
    if (from < to)
        memcpy((unsigned char *)(uintptr_t)entry->bytes + (from - entry->offset),
               (const unsigned char *)bytes + (from - offset), (size_t)(to - from));
}

/* ---- undo */

/* The lock words of a lane, held to write or to read. */
struct words {
    uint64_t at[2 * COVEI_LANE_LOCKS];
    uint32_t count;
};

static void collect_words(struct words *words, const struct covei_lane_shm *shm, uint32_t places)
{
    words->count = 0;
    for (uint32_t i = 0; i < places; i++) {
        /* relaxed: the lane's own, or a dead one's. */
        uint64_t held = atomic_load_explicit(&shm->held[i], memory_order_relaxed);
        if (held != 0 && COVEI_HELD_KIND(held) <= COVEI_HELD_SHARED)
            words->at[words->count++] = COVEI_HELD_OFFSET(held);
        if (COVEI_HELD_KIND(held) == COVEI_HELD_SHARED) /* and what a writer sleeps on, beside it */
            words->at[words->count++] = COVEI_HELD_OFFSET(held) + 8;
    }
}

/* The next of them at or behind `from` and before `to`; `to` where there is none. It may begin before `from`. */
static uint64_t next_word(const struct words *words, uint64_t from, uint64_t to)
{
    uint64_t nearest = to;
    for (uint32_t i = 0; i < words->count; i++)
        if (words->at[i] + 8 > from && words->at[i] < nearest)
            nearest = words->at[i];
    return nearest;
}

/* J3, the other way: others may be setting bits in those words meanwhile, so they are left out, and stand in the
 * record as 0. */
void covei_outer_write_around(struct covei_lane *lane, uint64_t offset, uint64_t size_bytes)
{
    uint64_t units = covei_record_units(size_bytes), end = COVEI_TAILS_OUTER(covei_tails_load(lane->shm)) + units;
    struct words words;
    collect_words(&words, lane->shm, lane->places);
    assert(end <= lane->outer_capacity);
    unsigned char *to = (unsigned char *)(lane->outer + end - units);
    uint64_t from = offset, stop = offset + size_bytes;
    while (from < stop) {
        uint64_t lock = next_word(&words, from, stop);
        if (lock > from)
            memmove(to + (from - offset), covei_address(lane->segment, from), (size_t)(lock - from));
        if (lock < stop)
            memset(to + (covei_max(lock, from) - offset), 0,
                   (size_t)(covei_min(lock + 8, stop) - covei_max(lock, from)));
        from = lock < stop ? lock + 8 : stop;
    }
    lane->outer[end - 2] = offset | (uint64_t)COVEI_RECORD_BYTES << COVEI_KIND_SHIFT;
    lane->outer[end - 1] = size_bytes;
}

/* Likewise the next revision, of those whose records lead back from `newest`. */
static uint64_t next_revision(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t newest,
                              uint64_t from, uint64_t to)
{
    struct covei_entry entry;
    uint64_t nearest = to, count = 0;
    for (uint64_t end = newest; covei_revision_read(segment, shm, end, &entry); end = entry.size_bytes) {
        if (entry.offset + 8 > from && entry.offset < nearest)
            nearest = entry.offset;
        if (++count > COVEI_REVISIONS_MAX)
            break; /* somebody scribbled */
    }
    return nearest;
}

/* J3: put the bytes back around the lock words and revisions that lie among them. */
static void put_back(const struct cove_segment *segment, const struct covei_lane_shm *shm,
                     const struct covei_entry *entry, const struct words *locks, uint64_t newest_revision)
{
    uint64_t from = entry->offset, to = entry->offset + entry->size_bytes;
    while (from < to) {
        uint64_t word = next_revision(segment, shm, newest_revision, from, next_word(locks, from, to));
        if (word > from)
            memmove(covei_address(segment, from), (const unsigned char *)entry->bytes + (from - entry->offset),
                    (size_t)(word - from));
        from = word < to ? word + 8 : to;
    }
}

void covei_inner_undo(struct cove_segment *segment, struct covei_lane_shm *shm)
{
    for (;;) {
        uint64_t tails = covei_tails_load(shm);
        uint32_t inner = COVEI_TAILS_INNER(tails);
        if (inner == 0)
            return;
        struct covei_entry entry;
        uint32_t left = 0; /* a record that makes no sense ends the undo: somebody scribbled */
        if (read_record(segment, shm->inner, COVEI_INNER_UNITS, inner, &entry)) {
            memmove(covei_address(segment, entry.offset), entry.bytes, (size_t)entry.size_bytes);
            left = inner - (uint32_t)entry.units;
        }
        covei_tails_store(shm, COVEI_TAILS(COVEI_TAILS_OUTER(tails), COVEI_TAILS_PHASE(tails), left));
    }
}

/* ---- revisions */

bool covei_revision_read(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t end,
                         struct covei_entry *entry)
{
    return end > 0 && covei_outer_read(segment, shm, end, entry) && entry->kind == COVEI_RECORD_REVISION;
}

void covei_revision_step(const struct cove_segment *segment, uint64_t offset, bool odd)
{
    _Atomic uint64_t *revision = covei_address(segment, offset);
    uint64_t now = atomic_load_explicit(revision, memory_order_relaxed); /* ours alone to change */
    if ((now & 1) == odd)
        return;
    atomic_store_explicit(revision, now + 1, memory_order_release); /* edge V: bytes, then even */
    if (odd)
        atomic_thread_fence(memory_order_release); /* edge V: odd, then bytes */
}

void covei_revisions_settle(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t newest)
{
    struct covei_entry entry;
    for (uint64_t end = newest; covei_revision_read(segment, shm, end, &entry); end = entry.size_bytes)
        covei_revision_step(segment, entry.offset, false);
}

static uint64_t find_newest_revision(const struct cove_segment *segment, const struct covei_lane_shm *shm)
{
    struct covei_entry entry;
    uint64_t end = COVEI_TAILS_OUTER(covei_tails_load(shm));
    while (end > 0 && covei_outer_read(segment, shm, end, &entry) && entry.kind != COVEI_RECORD_REVISION)
        end -= entry.units;
    return end;
}

/* ---- the end of a transaction */

uint64_t covei_outer_undo(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t from)
{
    uint64_t end = COVEI_TAILS_OUTER(covei_tails_load(shm)), newest = 0;
    struct covei_entry entry;
    struct words locks;
    collect_words(&locks, shm, COVEI_LANE_LOCKS);
    /* The length stays: the records of blocks are still wanted, and repeating the bytes changes nothing (J2). */
    for (; end > from && covei_outer_read(segment, shm, end, &entry); end -= entry.units) {
        if (entry.kind == COVEI_RECORD_BYTES)
            put_back(segment, shm, &entry, &locks, newest);
        if (entry.kind == COVEI_RECORD_REVISION) {
            newest = covei_max(newest, end);
            covei_revision_step(segment, entry.offset, true); /* J4 */
        }
    }
    covei_order();
    return newest;
}

void covei_outer_end(struct cove_segment *segment, struct covei_lane_shm *shm)
{
    uint64_t newest = 0;
    switch (COVEI_TAILS_PHASE(covei_tails_load(shm))) {
    case COVEI_PHASE_UNDONE:
    case COVEI_PHASE_COMMITTED:
        return;
    case COVEI_PHASE_COMMITTING:
        covei_revisions_settle(segment, shm, find_newest_revision(segment, shm));
        covei_tails_set_phase(shm, COVEI_PHASE_COMMITTED);
        return;
    case COVEI_PHASE_RESTORED:
        newest = find_newest_revision(segment, shm);
        break;
    case COVEI_PHASE_ACTIVE:
        newest = covei_outer_undo(segment, shm, 0);
        if (newest != 0)
            covei_tails_set_phase(shm, COVEI_PHASE_RESTORED);
        break;
    default: /* somebody scribbled */
        break;
    }
    covei_revisions_settle(segment, shm, newest);
    covei_tails_set_phase(shm, COVEI_PHASE_UNDONE);
}

void covei_tails_set_phase(struct covei_lane_shm *shm, enum covei_phase phase)
{
    uint64_t tails = covei_tails_load(shm);
    covei_tails_store(shm, COVEI_TAILS(COVEI_TAILS_OUTER(tails), phase, COVEI_TAILS_INNER(tails)));
}

const char *covei_journal_check(const struct cove_segment *segment, const struct covei_lane_shm *shm)
{
    uint64_t tails = covei_tails_load(shm);
    if (COVEI_TAILS_PHASE(tails) > COVEI_PHASE_RESTORED)
        return "its phase is none";
    struct covei_entry entry;
    for (uint64_t end = COVEI_TAILS_INNER(tails); end > 0; end -= entry.units)
        if (!read_record(segment, shm->inner, COVEI_INNER_UNITS, end, &entry) || entry.kind != COVEI_RECORD_BYTES)
            return "its inner journal has a record that makes no sense";
    for (uint64_t end = COVEI_TAILS_OUTER(tails); end > 0; end -= entry.units)
        if (!covei_outer_read(segment, shm, end, &entry))
            return "its outer journal has a record that makes no sense";
    return NULL;
}
