/* durable.c - segments that outlive the machine: what may be believed after a power cut, and a copy that may.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The system writes mapped pages back when it likes, so after a power cut a file holds some pages of one moment and
 * some of another: no state that it ever had, and nothing that recovery could mend. While the machine runs all of
 * them are in memory, whoever dies. So the header says in which run of the system (boot id) the file was last begun
 * with, and whether its last member left it clean:
 *
 *     same run                    believed
 *     another run, clean          believed
 *     another run, not clean      COVE_EUNCLEAN; put back from the copy that cove_sync wrote, if there is one
 *
 * D1  `clean` is 0 on the disk before the first member of a run changes anything, and becomes 1 there only after all
 *     else is there.
 * D2  PATH.synced is a whole copy of one moment at which nobody was in the middle of anything (gate.c), marked clean;
 *     it is replaced by a rename only.
 * The members that stand in a copy are dead for whoever opens it, and are recovered as the dead are: each of them
 * died, as it were, at that moment.
 *
 * Beginning, ending and restoring happen under the life-cycle byte, exclusively. Crash while copying: a file that
 * nobody builds, which the next to copy removes; the copy before is untouched. While restoring: likewise, and the
 * unclean file is still there, or the restored one. */
#include "segment/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX ".synced"
#define CHUNK (UINT64_C(1) << 20)
#define NAP_NS INT64_C(100000)

/* ---- beginning and ending */

/* 1: yes; 0: no; -1: the system does not say which run this is, or did not when the segment was last begun with. */
int covei_same_run(const struct covei_header_shm *header)
{
    static const uint8_t unknown[16];
    uint8_t now[16];
    covei_os->boot_id(now);
    if (memcmp(now, unknown, sizeof now) == 0 || memcmp(header->boot_id, unknown, sizeof now) == 0)
        return -1;
    return memcmp(now, header->boot_id, sizeof now) == 0;
}

static int explain_sync(int result, const char *name)
{
    return covei_error(result, "%s: writing it to the disk failed: %s", name, cove_strerror(result));
}

static int store_clean(struct cove_segment *segment, uint32_t clean)
{
    atomic_store_explicit(&segment->header->clean, clean, memory_order_release);
    int result = covei_os->file_sync(segment->region.file);
    return result < 0 ? explain_sync(result, segment->name) : 0;
}

/* In a copy that takes the place of the original, and after a start of the system, signs of life are those of others.
 * */
static void make_original(struct cove_segment *segment)
{
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++) /* relaxed: nobody else is here */
        atomic_store_explicit(&segment->lanes[i].life_at, 0, memory_order_relaxed);
    segment->header->inode = segment->region.inode;
}

/* A row is given back after its lanes are, but these are two pages: after a power cut that followed a clean end, the
 * row may be free on the disk and its lanes not. */
static void free_lost_lanes(struct cove_segment *segment)
{
    for (uint32_t i = 0; i < segment->max_lanes; i++) { /* relaxed: nobody else is here */
        uint32_t owner = atomic_load_explicit(&segment->owners[i], memory_order_relaxed);
        if (owner != 0 && owner <= segment->max_members &&
            !covei_row_used(atomic_load_explicit(&segment->states[owner - 1], memory_order_relaxed)))
            atomic_store_explicit(&segment->owners[i], 0, memory_order_relaxed);
    }
}

static int explain_unclean(const struct covei_place *place)
{
    return covei_error(COVE_EUNCLEAN,
                       "%s: it was in use when the machine stopped, so its bytes are of no one moment, and there is "
                       "no copy that cove_sync wrote (%s" SUFFIX "); remove it (cove rm --force), or put a copy of "
                       "your own in its place",
                       place->name, place->path);
}

bool covei_durable_torn(const struct covei_header_shm *header, const struct covei_place *place)
{
    bool torn = header->magic == COVEI_MAGIC && header->layout == COVEI_LAYOUT && header->durable == 1 &&
                atomic_load_explicit(&header->clean, memory_order_relaxed) != 1 && /* relaxed: a copy */
                covei_same_run(header) != 1;
    if (torn)
        (void)explain_unclean(place);
    return torn;
}

bool covei_segment_unclean(const struct cove_segment *segment)
{
    return segment->durable && atomic_load_explicit(&segment->header->clean, memory_order_acquire) != 1 &&
           covei_same_run(segment->header) != 1;
}

int covei_durable_begin(struct cove_segment *segment, bool has_members)
{
    struct covei_header_shm *header = segment->header;
    bool clean = atomic_load_explicit(&header->clean, memory_order_acquire) == 1;
    bool same_run = covei_same_run(header) == 1;
    if (!has_members && !clean && !same_run)
        return explain_unclean(&segment->place);
    if (!has_members) {
        covei_os->boot_id(header->boot_id);
        free_lost_lanes(segment);
        if (header->inode != segment->region.inode || !same_run)
            make_original(segment);
    }
    /* D1. Also where it says so already: who stored it may have died before it was on the disk. */
    return clean || !has_members ? store_clean(segment, 0) : 0;
}

void covei_durable_end(struct cove_segment *segment)
{
    if (covei_os->file_sync(segment->region.file) == 0)
        (void)store_clean(segment, 1); /* where that fails it is not clean, which is what it says */
}

/* ---- files beside the segment's */

int covei_durable_synced(struct covei_place *place, const struct covei_place *of)
{
    *place = *of;
    size_t length = strlen(place->path);
    if (length + sizeof SUFFIX > sizeof place->path)
        return covei_error(-ENAMETOOLONG, "%s: its path is too long for that of a copy", of->name);
    memcpy(place->path + length, SUFFIX, sizeof SUFFIX);
    return 0;
}

void covei_durable_forget(const struct covei_place *place)
{
    struct covei_place synced;
    if (place->backend == COVEI_FILE && covei_durable_synced(&synced, place) == 0)
        (void)covei_os->path_remove(synced.path);
}

static int write_bytes(int file, const char *name, const void *data, uint64_t size_bytes, uint64_t offset)
{
    for (uint64_t done = 0; done < size_bytes;) {
        int64_t count = covei_os->file_write_at(file, (const unsigned char *)data + done,
                                                (size_t)covei_min(size_bytes - done, CHUNK), offset + done);
        if (count <= 0)
            return covei_error(count < 0 ? (int)count : -EIO, "%s: writing its copy failed: %s", name,
                               cove_strerror(count < 0 ? (int)count : -EIO));
        done += (uint64_t)count;
    }
    return 0;
}

/* Without it a power cut may bring back the name's old file. */
static int sync_names(const struct covei_place *place)
{
    char directory[COVEI_PATH_MAX];
    covei_place_directory(place, directory);
    int result = covei_os->directory_sync(directory);
    return result < 0 ? covei_error(result, "%s: writing its directory, %s, to the disk failed: %s", place->name,
                                    directory, cove_strerror(result))
                      : 0;
}

/* On the disk, with the rights of the original. */
static int finish_file(struct covei_building *building, const struct covei_place *place,
                       const struct covei_region *original)
{
    struct covei_region_stat stat;
    int result = original->backend->stat(original, &stat);
    if (result == 0 && stat.uid != covei_os->user_id())
        (void)covei_os->file_set_owner(building->region.file, stat.uid); /* what root writes is still that user's */
    if (result == 0 && covei_os->file_set_group(building->region.file, stat.gid) < 0)
        stat.mode &= 0707; /* what was for another group is for nobody */
    if (result == 0)
        result = covei_os->file_set_mode(building->region.file, stat.mode & 0777);
    if (result == 0)
        result = covei_os->file_sync(building->region.file);
    return result < 0 ? explain_sync(result, place->name) : 0;
}

static int name_file(struct covei_building *building, const struct covei_place *place)
{
    int result = covei_file_replace(building, place);
    return result < 0 ? result : sync_names(place);
}

/* The copy gets its name only while the segment has its own: under the life-cycle byte, through a description that is
 * nobody else's. A copy of a removed segment would be taken for one of the next segment of that name. */
static int name_copy(struct cove_segment *segment, struct covei_building *building, const struct covei_place *synced,
                     int64_t deadline)
{
    struct covei_region named;
    int result = covei_region_find(&named, &segment->place, COVE_ANY_OWNER);
    if (result < 0)
        return result;
    result = covei_life_cycle_lock(named.file, segment->name, true, deadline);
    if (result == 0 && (named.inode != segment->region.inode || !named.backend->leads_to(&named, &segment->place) ||
                        atomic_load_explicit(&segment->header->state, memory_order_acquire) != COVEI_SEGMENT_READY))
        result = covei_error(COVE_EREMOVED, "%s: it was removed, and what is removed needs no copy", segment->name);
    if (result == 0)
        result = name_file(building, synced);
    covei_life_cycle_unlock(named.file); /* a child forked meanwhile may have a copy of the descriptor */
    covei_region_close(&named);
    return result;
}

static int begin_file(struct covei_building *building, const struct covei_place *place)
{
    *building = (struct covei_building){.region = {.backend = &covei_backend_file, .file = -1, .system_id = -1}};
    covei_debris_clear(place, false);
    return covei_file_build_named(building, place);
}

/* ---- the copy */

/* Is that lane in the middle of something? Recovers it where it is dead. */
static bool is_busy(struct covei_lane *worker, uint32_t index)
{
    struct cove_segment *segment = worker->segment;
    uint32_t owner = atomic_load_explicit(&segment->owners[index], memory_order_acquire);
    if (owner == 0 || index + 1 == worker->id || covei_lane_idle(&segment->lanes[index]))
        return false;
    if (owner <= segment->max_members &&
        (covei_lane_died(&segment->lanes[index]) || covei_row_dead(segment, owner - 1)))
        (void)covei_recover_row(worker, owner - 1, NAP_NS);
    return true;
}

/* "name (pid 12, thread 13)" of who is in the middle of something. */
static int explain_busy(const struct cove_segment *segment, uint32_t index)
{
    struct cove_member_info member = {0};
    uint32_t owner = index < segment->max_lanes ? atomic_load_explicit(&segment->owners[index], memory_order_acquire)
                                                : 0;
    if (owner == 0)
        return covei_error(-ETIMEDOUT, "%s: a stream's end was in the middle of a change all the time", segment->name);
    covei_row_describe(segment, owner - 1, &member);
    return covei_error(-ETIMEDOUT,
                       "%s: %s (pid %" PRId32 ", thread %" PRId32
                       ") holds a lock or is inside a transaction; wait longer, or look whether it is stopped",
                       segment->name, member.command, member.pid,
                       atomic_load_explicit(&segment->lanes[index].thread_id, memory_order_relaxed));
}

/* The gate is shut: wait until nobody is in the middle of anything. */
static int quiesce(struct covei_lane *worker, int64_t deadline)
{
    struct cove_segment *segment = worker->segment;
    for (;;) {
        uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                             segment->max_lanes);
        uint32_t busy = 0;
        while (busy < lanes && !is_busy(worker, busy))
            busy++;
        int quiet = busy == lanes ? covei_upper.objects_quiet(worker, covei_wait_left(deadline)) : 0;
        if (quiet != 0)
            return quiet < 0 ? quiet : 0;
        if (covei_wait_left(deadline) == 0)
            return explain_busy(segment, busy < lanes ? busy : segment->max_lanes);
        covei_os->nap(NAP_NS);
    }
}

/* What has memory behind it; the rest of rows and lanes stays a hole in the copy too. */
static int copy_parts(struct cove_segment *segment, int file)
{
    struct covei_header_shm *header = segment->header;
    uint32_t rows = atomic_load_explicit(&header->rows_ready, memory_order_acquire);
    uint32_t lanes = atomic_load_explicit(&header->lanes_ready, memory_order_acquire);
    uint64_t rows_at = covei_offset(segment, segment->rows), lanes_at = covei_offset(segment, segment->lanes);
    uint64_t size = atomic_load_explicit(&header->size_bytes, memory_order_acquire);
    if (!covei_sees_all(segment))
        return covei_sees_too_little(segment);
    if (rows > segment->max_members || lanes > segment->max_lanes || !covei_inside(segment, 0, size))
        return covei_error(COVE_ECORRUPT, "%s: its header contradicts itself", segment->name);
    uint64_t tables_end = rows_at + (uint64_t)rows * sizeof *segment->rows;
    uint64_t lanes_end = lanes_at + (uint64_t)lanes * sizeof *segment->lanes;
    int result = write_bytes(file, segment->name, segment->base, tables_end, 0);
    if (result == 0)
        result = write_bytes(file, segment->name, segment->base + lanes_at, lanes_end - lanes_at, lanes_at);
    if (result == 0)
        result = write_bytes(file, segment->name, segment->base + segment->heap_at, size - segment->heap_at,
                             segment->heap_at);
    /* D2. In the copy alone: the gate is open, and it is clean. */
    uint64_t open_locks[2] = {0, 0}; /* gate_lock, sync_lock */
    uint32_t clean = 1;
    if (result == 0)
        result = write_bytes(file, segment->name, open_locks, sizeof open_locks,
                             offsetof(struct covei_header_shm, gate_lock));
    return result < 0
               ? result
               : write_bytes(file, segment->name, &clean, sizeof clean, offsetof(struct covei_header_shm, clean));
}

static int copy_quiet(struct covei_lane *worker, int file, int64_t deadline)
{
    struct cove_segment *segment = worker->segment;
    int64_t left = covei_wait_left(deadline);
    int result = covei_lock_take(worker, &segment->header->gate_lock, left);
    if (result < 0)
        return result;
    /* seq_cst: total order of saying, gate | gate, looking (edge Q of gate.c). */
    atomic_thread_fence(memory_order_seq_cst);
    result = quiesce(worker, deadline);
    if (result == 0)
        result = copy_parts(segment, file);
    covei_lock_drop(worker, &segment->header->gate_lock);
    return result;
}

/* One at a time, from the copy to its name: an older copy must not replace a younger one. */
static int make_copy(struct covei_lane *worker, const struct covei_place *synced, int64_t deadline)
{
    struct cove_segment *segment = worker->segment;
    struct covei_building building;
    int result = begin_file(&building, synced);
    if (result < 0)
        return result;
    result = covei_region_ask(&building.region, segment->name,
                              atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire) -
                                  segment->heap_at);
    if (result == 0)
        result = copy_quiet(worker, building.region.file, deadline);
    if (result == 0)
        result = finish_file(&building, synced, &segment->region);
    if (result == 0)
        result = name_copy(segment, &building, synced, covei_wait_begin(COVEI_LIFE_CYCLE_NS));
    if (result < 0)
        covei_file_abandon(&building, synced);
    else
        covei_region_close(&building.region);
    return result;
}

int cove_sync(cove_segment *segment, int64_t timeout_ns)
{
    struct covei_lane *worker = NULL;
    struct covei_place synced;
    int result = covei_lane_get(&worker, segment);
    if (result < 0)
        return result;
    if (!segment->durable || segment->place.backend != COVEI_FILE)
        return covei_error(-EOPNOTSUPP,
                           "%s: this segment goes with the machine; make one that stays with file:PATH, and open it so",
                           segment->name);
    if (!covei_lane_idle(worker->shm) || worker->depth > 0)
        return covei_error(-EBUSY, "%s: this thread holds a lock or is inside a transaction; end that first",
                           segment->name);
    int64_t deadline = covei_wait_begin(timeout_ns);
    result = covei_durable_synced(&synced, &segment->place);
    if (result == 0)
        result = covei_lock_take(worker, &segment->header->sync_lock, timeout_ns);
    if (result < 0)
        return result == -EBUSY ? -ETIMEDOUT : result; /* another thread's copy is under way */
    result = make_copy(worker, &synced, deadline);
    covei_lock_drop(worker, &segment->header->sync_lock);
    covei_recover_debts(worker);
    return result;
}

/* ---- putting it back */

static int copy_file(int from, int to, const char *name)
{
    unsigned char *buffer = malloc(CHUNK);
    if (!buffer)
        return covei_error(-ENOMEM, "%s: no memory to copy it", name);
    int result = 0;
    for (uint64_t at = 0; result == 0;) {
        int64_t count = covei_os->file_read_at(from, buffer, CHUNK, at);
        if (count == 0)
            break;
        result = count < 0 ? covei_error((int)count, "%s: reading its copy failed: %s", name, cove_strerror((int)count))
                           : write_bytes(to, name, buffer, (uint64_t)count, at);
        at += count > 0 ? (uint64_t)count : 0;
    }
    free(buffer);
    return result;
}

/* Under its life-cycle byte: is it unclean still? Somebody may have put it back, and work in it, since we looked. */
static bool is_unclean(const struct covei_region *region)
{
    struct covei_header_shm header;
    if (region->backend->read(region, &header, sizeof header, 0) != (int64_t)sizeof header ||
        atomic_load_explicit(&header.clean, memory_order_relaxed) == 1 || covei_same_run(&header) == 1) /* a copy */
        return false;
    uint32_t members = (uint32_t)covei_min(header.max_members, COVEI_MEMBERS_MAX);
    for (uint32_t row = 0; row < members; row++)
        if (covei_os->lock_held(region->file, COVEI_BYTE_ALIVE(row)) != 0)
            return false;
    return true;
}

/* The unclean file's life-cycle byte is ours, and the name leads to it. */
static int replace_unclean(const struct covei_region *unclean, const struct covei_place *place,
                           const struct covei_region *synced)
{
    struct covei_header_shm header, lost;
    struct covei_building building;
    int result = covei_header_read(synced, place->name, &header);
    if (result == 0 && unclean->backend->read(unclean, &lost, sizeof lost, 0) != (int64_t)sizeof lost)
        result = covei_error(-EIO, "%s: reading its header failed", place->name);
    if (result == 0 && atomic_load_explicit(&header.clean, memory_order_relaxed) != 1) /* our copy of the header */
        result = covei_error(COVE_EUNCLEAN,
                             "%s: it was in use when the machine stopped, and %s" SUFFIX
                             " is no copy that cove_sync wrote; remove both (cove rm --force)",
                             place->name, place->path);
    if (result == 0 && lost.created_ns != header.created_ns)
        result = covei_error(COVE_EUNCLEAN,
                             "%s: it was in use when the machine stopped, and %s" SUFFIX
                             " is a copy of another segment; remove both (cove rm --force)",
                             place->name, place->path);
    if (result < 0)
        return result;
    result = begin_file(&building, place);
    if (result < 0)
        return result;
    result = copy_file(synced->file, building.region.file, place->name);
    /* The copy's holes are where the segment's may be; all else must have memory of its own. */
    uint64_t heap_at = covei_heap_offset(header.max_members);
    uint64_t size = atomic_load_explicit(&header.size_bytes, memory_order_relaxed);
    if (result == 0)
        result = covei_file_reserve(&building.region, place->name, heap_at, size - heap_at);
    if (result == 0)
        result = finish_file(&building, place, unclean);
    if (result == 0)
        result = name_file(&building, place);
    if (result < 0)
        covei_file_abandon(&building, place);
    else
        covei_region_close(&building.region);
    return result;
}

int covei_durable_restore(const struct covei_place *place, uint32_t flags, int64_t deadline)
{
    struct covei_place synced_at;
    struct covei_region unclean, synced;
    char sentence[COVEI_ERROR_BYTES];
    covei_error_save(sentence);
    int result = *place->path ? covei_durable_synced(&synced_at, place) : COVE_EUNCLEAN;
    if (result < 0)
        return result;
    result = covei_region_find(&unclean, place, COVE_ANY_OWNER);
    if (result < 0)
        return result == -ENOENT ? 0 : result; /* somebody was faster: go round */
    result = covei_region_find(&synced, &synced_at, COVE_READONLY | (flags & COVE_ANY_OWNER));
    if (result < 0) {
        covei_error_restore(sentence); /* that there is no copy is part of it */
        if (result != -ENOENT) /* not to be removed on that advice */
            (void)covei_error(COVE_EUNCLEAN,
                              "%s: it was in use when the machine stopped, and its copy, %s, cannot be had: %s; mend "
                              "that, and open it anew",
                              place->name, synced_at.path, cove_strerror(result));
        covei_region_close(&unclean);
        return COVE_EUNCLEAN;
    }
    result = covei_life_cycle_lock(unclean.file, place->name, true, deadline);
    if (result == 0 && unclean.backend->leads_to(&unclean, place) && is_unclean(&unclean))
        result = replace_unclean(&unclean, place, &synced);
    covei_life_cycle_unlock(unclean.file);
    covei_region_close(&unclean);
    covei_region_close(&synced);
    return result;
}
