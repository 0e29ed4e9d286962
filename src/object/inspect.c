/* inspect.c - looking at a segment and checking it, without changing anything.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A member that checks holds the locks of directory and heap meanwhile, so that it sees no change in flight. An
 * onlooker (COVE_READONLY) takes no lock and may see one; nothing that it reads is believed without a bound. */
#include "object/directory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE_NS INT64_C(2000000000) /* for the locks of a look */

/* ---- stat */

static const char *state_name(uint32_t state)
{
    return state == COVEI_SEGMENT_READY ? "ready" : state == COVEI_SEGMENT_REMOVED ? "removed" : "corrupt";
}

static void count_members(const struct cove_segment *segment, struct cove_segment_info *info)
{
    for (uint32_t row = 0; row < segment->max_members; row++) {
        if (COVEI_STATE_OF(atomic_load_explicit(&segment->states[row], memory_order_acquire)) != COVEI_ROW_ATTACHED)
            continue;
        if (covei_row_dead(segment, row))
            info->members_dead++;
        else
            info->members_alive++;
    }
}

int cove_segment_stat(cove_segment *segment, struct cove_segment_info *info)
{
    int result = covei_segment_usable(segment);
    struct covei_region_stat stat = {0};
    if (result == 0 && !info)
        result = covei_error(-EINVAL, "%s: there is no place for what is known of it", segment->name);
    if (result < 0)
        return result;
    result = segment->region.backend->stat(&segment->region, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at its memory failed: %s", segment->name, cove_strerror(result));
    const struct covei_header_shm *header = segment->header;
    const struct covei_heap_shm *heap = covei_heap(segment);
    *info = (struct cove_segment_info){
        /* The system makes a file of huge pages as long as its mappings. */
        .size_bytes = covei_can(segment->region.backend, COVE_HAS_HUGE_PAGES)
                          ? covei_min(stat.size_bytes, atomic_load_explicit(&header->size_bytes, memory_order_acquire))
                          : stat.size_bytes,
        .max_size_bytes = header->max_size_bytes,
        .resident_bytes = covei_region_resident(&segment->region, &stat),
        .heap_bytes = heap->end - heap->begin,
        .heap_free_bytes = heap->free_bytes,
        .heap_block_count = heap->block_count,
        .created_ns = header->created_ns,
        .layout = header->layout,
        .lifetime = header->lifetime,
        .mode = stat.mode,
        .owner_uid = stat.uid,
        .owner_gid = stat.gid,
        .max_members = segment->max_members,
        .object_count = (uint32_t)covei_directory(segment)->object_count,
        .features = atomic_load_explicit(&header->features, memory_order_acquire),
    };
    (void)snprintf(info->name, sizeof info->name, "%s", segment->name);
    (void)snprintf(info->backend, sizeof info->backend, "%s", segment->region.backend->name);
    (void)snprintf(info->state, sizeof info->state, "%s",
                   covei_segment_unclean(segment)
                       ? "unclean"
                       : state_name(atomic_load_explicit(&header->state, memory_order_acquire)));
    count_members(segment, info);
    return 0;
}

int cove_stat(const char *name, struct cove_segment_info *info)
{
    cove_segment *segment = NULL;
    int result = cove_open(&segment, name, &(struct cove_options){.flags = COVE_READONLY | COVE_ANY_OWNER});
    if (result < 0)
        return result;
    result = cove_segment_stat(segment, info);
    (void)cove_close(segment);
    return result;
}

/* ---- objects */

struct listing {
    const struct cove_segment *segment;
    struct cove_object_info *objects;
    size_t capacity;
    int64_t count;
};

/* Text out of shared memory goes to terminals. */
static void copy_text(char *to, size_t to_bytes, const char *from)
{
    (void)snprintf(to, to_bytes, "%s", from);
    for (char *c = to; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c == 127)
            *c = '?';
}

static void list_one(const struct covei_entry_shm *entry, void *memory, void *context)
{
    struct listing *listing = context;
    if ((size_t)listing->count++ >= listing->capacity)
        return;
    struct cove_object_info *info = &listing->objects[listing->count - 1];
    const struct covei_type *type = covei_type_find(entry->type_id);
    *info = (struct cove_object_info){
        .type_id = entry->type_id, .version = entry->version, .size_bytes = entry->size_bytes};
    copy_text(info->name, sizeof info->name, entry->name);
    copy_text(info->type, sizeof info->type,
              entry->type_id == COVEI_TYPE_USER ? entry->type_name
              : type                            ? type->name
                                                : "unknown");
    if (memory && type && type->describe && (!type->sound || type->sound(listing->segment, memory, entry->size_bytes)))
        type->describe(listing->segment, memory, entry->size_bytes, info->figures, sizeof info->figures);
}

/* A member looks under the directory's lock, an onlooker without. */
int64_t cove_objects(cove_segment *segment, struct cove_object_info *objects, size_t capacity)
{
    struct covei_lane *lane = NULL;
    int result = covei_segment_usable(segment);
    bool member = result == 0 && !(segment->flags & COVE_READONLY);
    if (member)
        result = covei_lane_get(&lane, segment);
    if (member && result == 0)
        result = covei_lock_take(lane, &covei_directory(segment)->lock, PATIENCE_NS);
    if (result < 0)
        return result;
    struct listing listing = {segment, objects, capacity, 0};
    bool sane = covei_directory_each(segment, list_one, &listing);
    if (member) {
        covei_lock_drop(lane, &covei_directory(segment)->lock);
        covei_recover_debts(lane);
    }
    if (!sane)
        return covei_error(COVE_ECORRUPT, "%s: its directory contradicts itself; cove doctor %s tells more",
                           segment->name, segment->name);
    return listing.count;
}

/* ---- check */

static void check_header(const struct cove_segment *segment, struct covei_findings *findings)
{
    struct covei_header_shm header = *segment->header;
    struct covei_region_stat stat;
    uint32_t state = atomic_load_explicit(&header.state, memory_order_relaxed); /* our copy */
    if (segment->region.backend->stat(&segment->region, &stat) == 0 &&
        covei_header_verify(&header, segment->name, stat.size_bytes) < 0)
        covei_found(findings, "header: %s", cove_last_error());
    if (header.max_members != segment->max_members)
        covei_found(findings, "header: max_members has changed from %" PRIu32 " to %" PRIu32, segment->max_members,
                    header.max_members);
    if (state != COVEI_SEGMENT_READY && state != COVEI_SEGMENT_REMOVED)
        covei_found(findings, "header: its state %" PRIu32 " is impossible", state);
    if (header.lifetime > COVE_LAST_OUT)
        covei_found(findings, "header: its lifetime %" PRIu32 " is impossible", header.lifetime);
    if (atomic_load_explicit(&header.rows_ready, memory_order_relaxed) > segment->max_members ||
        atomic_load_explicit(&header.lanes_ready, memory_order_relaxed) > segment->max_lanes)
        covei_found(findings, "header: more rows or lanes are ready than there are");
    uint64_t unknown = atomic_load_explicit(&header.features, memory_order_relaxed) & ~covei_upper.features;
    if (unknown != 0)
        covei_found(findings, "header: it has unknown features %#" PRIx64, unknown);
    if (atomic_load_explicit(&header.must_fence, memory_order_relaxed) > 1)
        covei_found(findings, "header: must_fence is neither 0 nor 1");
}

static void check_rows(const struct cove_segment *segment, struct covei_findings *findings)
{
    uint32_t ready = atomic_load_explicit(&segment->header->rows_ready, memory_order_acquire);
    for (uint32_t row = 0; row < segment->max_members; row++) {
        uint64_t word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
        if (COVEI_STATE_OF(word) > COVEI_ROW_RECOVERED)
            covei_found(findings, "roster: row %" PRIu32 " has the impossible state %" PRIu32, row,
                        COVEI_STATE_OF(word));
        else if (covei_row_used(word) && row >= ready)
            covei_found(findings, "roster: row %" PRIu32 " is taken, but has no memory", row);
        else if (covei_row_used(word) &&
                 memchr(segment->rows[row].command, 0, sizeof segment->rows[row].command) == NULL)
            covei_found(findings, "roster: the command name in row %" PRIu32 " has no end", row);
    }
}

/* A word that a lane holds, or is about to take, or has just given back: it must lie in the segment. */
static void check_held(const struct cove_segment *segment, uint32_t index, struct covei_findings *findings)
{
    const struct covei_lane_shm *shm = &segment->lanes[index];
    for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++) {
        uint64_t held = atomic_load_explicit(&shm->held[i], memory_order_relaxed); /* an onlooker's view */
        uint64_t offset = COVEI_HELD_OFFSET(held);
        bool possible = COVEI_HELD_KIND(held) <= COVEI_HELD_PARTY && covei_inside(segment, offset, 8) &&
                        (COVEI_HELD_KIND(held) == COVEI_HELD_PARTY || COVEI_HELD_EPOCH(held) == 0);
        if (held != 0 && !possible)
            covei_found(findings, "lane %" PRIu32 ": it holds a lock at the impossible place 0x%" PRIx64, index,
                        offset);
    }
}

static void check_lane(const struct cove_segment *segment, uint32_t index, struct covei_findings *findings)
{
    const struct covei_lane_shm *shm = &segment->lanes[index];
    uint32_t owner = atomic_load_explicit(&segment->owners[index], memory_order_acquire);
    if (owner > segment->max_members)
        covei_found(findings, "lane %" PRIu32 ": it belongs to the impossible row %" PRIu32, index, owner - 1);
    else if (owner != 0 && !covei_row_used(atomic_load_explicit(&segment->states[owner - 1], memory_order_acquire)) &&
             atomic_load_explicit(&segment->owners[index], memory_order_acquire) == owner)
        covei_found(findings, "lane %" PRIu32 ": it belongs to row %" PRIu32 ", which nobody has", index, owner - 1);
    bool clean = atomic_load_explicit(&shm->tails, memory_order_relaxed) == 0 && !covei_lane_holds(shm) &&
                 atomic_load_explicit(&shm->marks, memory_order_relaxed) == 0 &&
                 atomic_load_explicit(&shm->waits_for, memory_order_relaxed) == 0 && shm->journal_block == 0 &&
                 shm->journal_next == 0 && shm->journal_old == 0;
    if (owner == 0 && !clean && atomic_load_explicit(&segment->owners[index], memory_order_acquire) == 0)
        covei_found(findings, "lane %" PRIu32 ": it has no owner, but is not clean", index);
    const char *wrong = covei_journal_check(segment, shm);
    if (wrong)
        covei_found(findings, "lane %" PRIu32 ": %s", index, wrong);
    check_held(segment, index, findings);
}

static void check_lanes(const struct cove_segment *segment, struct covei_findings *findings)
{
    uint32_t ready = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    for (uint32_t i = 0; i < segment->max_lanes; i++) {
        if (i < ready)
            check_lane(segment, i, findings);
        else if (atomic_load_explicit(&segment->owners[i], memory_order_acquire) != 0)
            covei_found(findings, "lane %" PRIu32 ": it is taken, but has no memory", i);
    }
}

void covei_lock_check(const struct cove_segment *segment, const char *what, const _Atomic uint64_t *word,
                      struct covei_findings *findings)
{
    uint64_t value = atomic_load_explicit(word, memory_order_acquire);
    uint32_t index = (uint32_t)(value & COVEI_LOCK_OWNER) - 1;
    if ((value & COVEI_LOCK_OWNER) == 0)
        return;
    if (index >= segment->max_lanes || atomic_load_explicit(&segment->owners[index], memory_order_acquire) == 0) {
        if (atomic_load_explicit(word, memory_order_acquire) == value)
            covei_found(findings, "%s: its lock names lane %" PRIu32 ", which nobody has", what, index);
        return;
    }
    const struct covei_lane_shm *shm = &segment->lanes[index];
    for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
        if (atomic_load_explicit(&shm->held[i], memory_order_relaxed) == covei_offset(segment, (const void *)word))
            return;
    if (atomic_load_explicit(word, memory_order_acquire) == value)
        covei_found(findings, "%s: lane %" PRIu32 " holds its lock, but does not know of it", what, index);
}

static void check_all(const struct cove_segment *segment, struct covei_findings *findings)
{
    check_header(segment, findings);
    check_rows(segment, findings);
    check_lanes(segment, findings);
    covei_lock_check(segment, "growth", &segment->header->grow_lock, findings);
    covei_lock_check(segment, "heap", &covei_heap(segment)->lock, findings);
    covei_lock_check(segment, "directory", &covei_directory(segment)->lock, findings);
    covei_heap_check(segment, findings);
    covei_directory_check(segment, findings);
}

static int check_locked(struct cove_segment *segment, struct covei_findings *findings)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result == 0 && lane->depth > 0)
        result = covei_error(-EBUSY, "%s: this thread is inside a transaction; commit before the check", segment->name);
    if (result < 0)
        return result;
    result = covei_lock_take(lane, &covei_directory(segment)->lock, PATIENCE_NS);
    if (result < 0)
        return result;
    result = covei_lock_take(lane, &covei_heap(segment)->lock, PATIENCE_NS);
    if (result >= 0) {
        check_all(segment, findings);
        covei_lock_drop(lane, &covei_heap(segment)->lock);
    }
    covei_lock_drop(lane, &covei_directory(segment)->lock);
    covei_recover_debts(lane);
    return result < 0 ? result : 0;
}

int64_t cove_segment_check(cove_segment *segment, void (*report)(const char *sentence, void *context), void *context)
{
    int result = covei_segment_usable(segment);
    if (result < 0)
        return result;
    struct covei_findings findings = {report, context, 0};
    if (segment->flags & COVE_READONLY)
        check_all(segment, &findings);
    else
        result = check_locked(segment, &findings);
    return result < 0 ? result : findings.count;
}
