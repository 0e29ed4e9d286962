/* sysv.c - System V shared memory: raw regions, and segments with a side file for their locks.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A raw region is just the memory of its key: shmget makes it whole (zeros, of its size) in one step. Cove's segments
 * need more: bytes that the kernel unlocks when their holder dies, and a name that appears when all is built. System
 * V has neither. So beside the memory there is a side file in the directory of POSIX shared memory, .cove-sysv-KEY,
 * which holds nothing but locks and this record:
 *
 *     phase   NONE, BUILDING or READY
 *     pid     of the builder
 *     id      READY: shmid of the segment; BUILDING: likewise, -1 before it is made
 *
 * I1  The record is written, and the key taken or given back, by the holder of the side file's life-cycle byte
 *     (exclusively), while the path leads to that file.
 * I2  The segment exists if the record says READY and the key leads to that id. READY is the deciding store.
 * I3  Memory that the key leads to while the record says BUILDING, nobody holds the byte, and whose creator is the
 *     builder that the record names, is what he died over. Whoever comes next removes it. (A builder that our PID
 *     namespace does not see has the number 0 there; then the id, which is noted as soon as there is one, must agree.)
 *
 * Crash of a builder: I3. Of a remover, before the key is given back: the header says REMOVED, and who opens it next
 * finishes (segment/open.c); after it: READY with a key that leads nowhere, which is no segment. Side files without a
 * segment are debris, which cove_gc clears. Somebody who removes the memory by hand (ipcrm) removes the segment; who
 * removes the side file makes it useless, since its members no longer see each other's locks: then it is refused. */
#include "region/region.h"

#include "base/base.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 100 /* of finding it removed while its byte was waited for */

enum side_phase { SIDE_NONE = 0, SIDE_BUILDING = 1, SIDE_READY = 2 };

struct side_record {
    uint32_t phase;
    int32_t pid;
    int32_t id;
    uint32_t reserved;
    char name[COVEI_FULL_NAME_MAX + 1]; /* by which it was made */
};

/* ---- the memory */

static int no_system(int result, const struct covei_place *place)
{
    return covei_error(-EOPNOTSUPP, "%s: System V shared memory cannot be used here: %s", place->name,
                       cove_strerror(result));
}

static int explain_stat(int result, const struct covei_place *place)
{
    if (result == -EACCES)
        return covei_error(result, "%s: no right to the memory of that key; ask its owner for mode or group",
                           place->name);
    return covei_error(result, "%s: looking at the memory of that key failed: %s", place->name, cove_strerror(result));
}

static int check_owner(const struct covei_place *place, uint32_t flags, uint32_t uid)
{
    uint32_t self = covei_os->user_id();
    if (uid == self || flags & COVE_ANY_OWNER)
        return 0;
    return covei_error(COVE_EOWNER,
                       "%s: it belongs to user %" PRIu32 ", not to you (%" PRIu32
                       "); open it with COVE_ANY_OWNER if you trust that user",
                       place->name, uid, self);
}

static int find_raw(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    int id = 0;
    struct covei_shm_stat stat;
    int result = covei_os->shm_find(place->key, &id);
    if (result == -ENOSYS || result == -EPERM)
        return no_system(result, place);
    if (result == 0)
        result = covei_os->shm_stat(id, &stat);
    if (result == -ENOENT || result == -EINVAL || result == -EIDRM) /* or removed between the two */
        return covei_error(-ENOENT, "%s: no System V memory has the key 0x%08" PRIx32, place->name, place->key);
    if (result < 0)
        return explain_stat(result, place);
    result = check_owner(place, flags, stat.uid);
    if (result < 0)
        return result;
    region->system_id = id;
    region->device = UINT64_MAX; /* no file system's number */
    region->inode = (uint64_t)(uint32_t)id;
    return 0;
}

static int explain_make(int result, const struct covei_place *place, uint64_t size_bytes)
{
    switch (result) {
    case -EEXIST:
        return covei_error(result, "%s: System V memory with the key 0x%08" PRIx32 " exists already", place->name,
                           place->key);
    case -ENOSPC:
        return covei_error(result,
                           "%s: no System V memory of %" PRIu64
                           " bytes can be had: too many segments or bytes; see ipcs -lm, raise kernel.shmmni or "
                           "kernel.shmall, or remove what is stale (cove ls)",
                           place->name, size_bytes);
    case -EINVAL:
        return covei_error(result, "%s: %" PRIu64 " bytes are more than kernel.shmmax lets a segment have; raise it",
                           place->name, size_bytes);
    case -ENOSYS:
    case -EPERM:
        return no_system(result, place);
    default:
        return covei_error(result, "%s: making System V memory failed: %s", place->name, cove_strerror(result));
    }
}

static int build_raw(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    /* Without rights of our own we could not fill it. */
    uint32_t mode = (building->mode & 0600) == 0600 ? building->mode : 0600;
    int result = covei_os->shm_make(place->key, size_bytes, mode, &building->region.system_id);
    if (result < 0)
        return explain_make(result, place, size_bytes);
    building->region.device = UINT64_MAX;
    building->region.inode = (uint64_t)(uint32_t)building->region.system_id;
    return 0;
}

static int publish_raw(struct covei_building *building, const struct covei_place *place)
{
    (void)building;
    (void)place;
    return 0; /* the key was its name from the start */
}

static void remove_memory(struct covei_building *building)
{
    if (building->region.system_id >= 0)
        (void)covei_os->shm_remove(building->region.system_id);
    building->region.system_id = -1;
}

static void abandon_raw(struct covei_building *building, const struct covei_place *place)
{
    (void)place;
    remove_memory(building);
}

static bool key_leads_to(const struct covei_region *region, const struct covei_place *place)
{
    int id = 0;
    return covei_os->shm_find(place->key, &id) == 0 && id == region->system_id;
}

static int explain_remove(int result, const struct covei_place *place)
{
    return result == -EPERM ? covei_error(result, "%s: only its owner and its creator may remove it", place->name)
                            : covei_error(result, "%s: removing it failed: %s", place->name, cove_strerror(result));
}

static int remove_raw(const struct covei_region *region, const struct covei_place *place)
{
    int result = covei_os->shm_remove(region->system_id);
    return result == 0 || result == -EINVAL || result == -EIDRM ? 0 : explain_remove(result, place);
}

static int set_rights_raw(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                          const uint32_t *gid)
{
    (void)place;
    return covei_os->shm_set_rights(region->system_id, mode, gid);
}

static int stat_memory(const struct covei_region *region, struct covei_region_stat *out)
{
    *out = (struct covei_region_stat){0};
    int result = covei_os->shm_stat(region->system_id, &out->shm);
    if (result < 0)
        return result == -EINVAL || result == -EIDRM ? -ENOENT : result;
    out->size_bytes = out->shm.size_bytes;
    out->changed_ns = out->shm.changed_s * 1000000000u;
    out->mode = out->shm.mode;
    out->uid = out->shm.uid;
    out->gid = out->shm.gid;
    return 0;
}

/* The system allocates pages when they are touched, and has no call that does so before. */
static int reserve(const struct covei_region *region, const char *name, uint64_t offset, uint64_t size_bytes)
{
    struct covei_region_stat stat;
    int result = stat_memory(region, &stat);
    if (result == 0 && (size_bytes > stat.size_bytes || offset > stat.size_bytes - size_bytes))
        return covei_error(-ENOSPC, "%s: System V memory cannot grow beyond its %" PRIu64 " bytes", name,
                           stat.size_bytes);
    return result;
}

static uint64_t room(const struct covei_region *region, uint64_t *total_bytes)
{
    (void)region;
    *total_bytes = UINT64_MAX;
    return UINT64_MAX;
}

/* Somebody may have removed the memory since its id was found. */
static int attach(const struct covei_region *region, void **base, bool writable)
{
    int result = covei_os->shm_map(base, region->system_id, writable);
    return result == -EINVAL || result == -EIDRM ? COVE_EREMOVED : result;
}

/* All of it, always: shmat knows no parts. The caller asks for [0, size) and gets at least that. */
static int map(const struct covei_region *region, void **address, uint64_t offset, uint64_t size_bytes,
               enum covei_access access)
{
    (void)size_bytes;
    void *base = NULL;
    int result = attach(region, &base, access == COVEI_ACCESS_WRITE);
    if (result == 0)
        *address = (unsigned char *)base + offset;
    return result;
}

static void unmap(void *address, uint64_t size_bytes)
{
    (void)size_bytes;
    (void)covei_os->shm_unmap(address);
}

static int64_t read_memory(const struct covei_region *region, void *data, size_t size_bytes, uint64_t offset)
{
    struct covei_region_stat stat;
    void *base = NULL;
    int result = stat_memory(region, &stat);
    if (result == -ENOENT)
        return COVE_EREMOVED;
    if (result == 0)
        result = attach(region, &base, false);
    if (result < 0)
        return result;
    uint64_t count = offset < stat.size_bytes ? covei_min(size_bytes, stat.size_bytes - offset) : 0;
    memcpy(data, (const unsigned char *)base + offset, (size_t)count);
    (void)covei_os->shm_unmap(base);
    return (int64_t)count;
}

static int write_memory(const struct covei_region *region, const void *data, size_t size_bytes, uint64_t offset)
{
    struct covei_region_stat stat;
    void *base = NULL;
    int result = stat_memory(region, &stat);
    if (result == 0 && (offset > stat.size_bytes || size_bytes > stat.size_bytes - offset))
        return -EINVAL;
    if (result == 0)
        result = attach(region, &base, true);
    if (result < 0)
        return result;
    memcpy((unsigned char *)base + offset, data, size_bytes);
    (void)covei_os->shm_unmap(base);
    return 0;
}

/* ---- the side file */

static int64_t deadline_of(const struct covei_place *place)
{
    return place->deadline ? place->deadline : covei_wait_begin(COVEI_LIFE_CYCLE_NS);
}

static int read_side(int file, const struct covei_place *place, struct side_record *record)
{
    memset(record, 0, sizeof *record);
    int64_t count = covei_os->file_read_at(file, record, sizeof *record, 0);
    record->name[sizeof record->name - 1] = '\0';
    return count < 0 ? covei_error((int)count, "%s: reading its side file %s failed: %s", place->name, place->path,
                                   cove_strerror((int)count))
                     : 0;
}

/* One write: whoever reads it sees the record before it, or this one. */
static int write_side(int file, uint32_t phase, int32_t id, const struct covei_place *place)
{
    struct side_record record = {.phase = phase, .id = id};
    struct covei_process self;
    covei_os->process_self(&self);
    record.pid = self.pid;
    (void)snprintf(record.name, sizeof record.name, "%s", place->name);
    int64_t count = covei_os->file_write_at(file, &record, sizeof record, 0);
    if (count == (int64_t)sizeof record)
        return 0;
    int result = count < 0 ? (int)count : -ENOSPC;
    return covei_error(result, "%s: writing its side file %s failed: %s", place->name, place->path,
                       cove_strerror(result));
}

static bool is_named(int file, const struct covei_place *place)
{
    struct covei_file_stat ours, named;
    return covei_os->file_stat(file, &ours) == 0 && covei_os->path_stat(place->path, &named) == 0 &&
           ours.inode == named.inode && ours.device == named.device;
}

/* Under the life-cycle byte: what does the record lead to? 0 with its id; -ENOENT; COVE_ENOTCOVE: a foreign segment.
 * */
static int look_up(const struct covei_place *place, const struct side_record *record, int *id)
{
    struct covei_shm_stat stat;
    int result = covei_os->shm_find(place->key, id);
    if (result == 0)
        result = covei_os->shm_stat(*id, &stat);
    if (result == -ENOENT || result == -EINVAL || result == -EIDRM) /* or removed between the two */
        return covei_error(-ENOENT, "%s: there is no such segment (no System V memory with the key 0x%08" PRIx32 ")",
                           place->name, place->key);
    if (result < 0)
        return explain_stat(result, place);
    if (record->phase == SIDE_READY && record->id == *id)
        return 0;
    return covei_error(COVE_ENOTCOVE,
                       "%s: the key 0x%08" PRIx32 " is taken by memory that is no Cove segment (shmid %d, %" PRIu64
                       " bytes, made by pid %" PRId32 " of user %" PRIu32 "); use another key, or remove it (cove rm)",
                       place->name, place->key, *id, stat.size_bytes, stat.creator_pid, stat.creator_uid);
}

/* I3, under the life-cycle byte, exclusively. */
static void clear_dead_build(int file, const struct covei_place *place)
{
    struct side_record record;
    struct covei_shm_stat stat;
    int id = 0;
    if (read_side(file, place, &record) < 0 || record.phase != SIDE_BUILDING)
        return;
    if (covei_os->shm_find(place->key, &id) == 0 && covei_os->shm_stat(id, &stat) == 0 &&
        (stat.creator_pid == record.pid || (id == record.id && stat.creator_pid == 0)) &&
        stat.creator_uid == covei_os->user_id() && covei_os->shm_remove(id) < 0)
        return;
    (void)write_side(file, SIDE_NONE, -1, place);
}

/* Two paths may have the same key, since ftok keeps few of their bits. */
static int refuse_clash(const struct covei_place *place, const struct side_record *record)
{
    if (!place->from_path || !strchr(record->name, '/') || strcmp(place->name, record->name) == 0)
        return 0;
    struct covei_place other;
    if (covei_place_parse(&other, record->name, false) == 0 && other.key == place->key) {
        struct covei_file_stat one, two;
        char here[COVEI_FULL_NAME_MAX + 1], there[COVEI_FULL_NAME_MAX + 1];
        (void)snprintf(here, sizeof here, "%.*s", (int)(strrchr(place->name, ':') - place->name) - 5, place->name + 5);
        (void)snprintf(there, sizeof there, "%.*s", (int)(strrchr(other.name, ':') - other.name) - 5, other.name + 5);
        if (covei_os->path_follow(here, &one) == 0 && covei_os->path_follow(there, &two) == 0 &&
            one.inode == two.inode && one.device == two.device)
            return 0; /* two names of one file */
    }
    return covei_error(-EEXIST,
                       "%s: its key, 0x%08" PRIx32 ", is also that of %.200s, which has made a segment; use another id",
                       place->name, place->key, record->name);
}

static int find_once(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    struct side_record record;
    int id = 0, file = covei_os->file_open(place->path, flags & COVE_READONLY ? COVEI_OPEN_READ : COVEI_OPEN_WRITE);
    if (file == -ENOENT) { /* no segment of Cove's: is the key free? */
        struct covei_file_stat stat;
        memset(&record, 0, sizeof record);
        int found = look_up(place, &record, &id);
        /* Or was one made meanwhile? Its file is there before its memory is. */
        return found == COVE_ENOTCOVE && covei_os->path_stat(place->path, &stat) == 0 ? -EAGAIN : found;
    }
    if (file < 0)
        return covei_file_explain(file, place);
    region->file = file;
    int result = covei_file_adopt(region, place, flags);
    bool exclusive = false,
         looking = (flags & COVE_READONLY) != 0; /* an onlooker disturbs nobody, and waits for nobody */
    if (result == 0 && looking)
        result = read_side(file, place, &record);
    while (result == 0 && !looking) {
        result = covei_life_cycle_lock(file, place->name, exclusive, deadline_of(place));
        if (result == 0 && !is_named(file, place))
            result = -EAGAIN; /* removed, and perhaps made anew, while we waited */
        if (result == 0)
            result = read_side(file, place, &record);
        if (result < 0 || record.phase != SIDE_BUILDING || exclusive)
            break;
        covei_life_cycle_unlock(file); /* its builder is dead, or we would not have had the byte */
        exclusive = true;
        result = covei_life_cycle_lock(file, place->name, true, deadline_of(place));
        if (result == 0)
            clear_dead_build(file, place);
        covei_life_cycle_unlock(file);
    }
    if (result == 0)
        result = look_up(place, &record, &id);
    if (result == 0)
        result = refuse_clash(place, &record);
    if (!looking)
        covei_life_cycle_unlock(file);
    if (result < 0)
        covei_region_close(region);
    else
        region->system_id = id;
    return result;
}

static int find(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    int result = -EAGAIN;
    for (int round = 0; result == -EAGAIN && round < ROUNDS; round++)
        result = find_once(region, place, flags);
    return result == -EAGAIN ? covei_error(COVE_EREMOVED, "%s: it is removed and made again all the time", place->name)
                             : result;
}

/* Nothing came of it. Under the byte, which goes with the descriptor. */
static void drop_side(struct covei_region *region, const struct covei_place *place)
{
    (void)write_side(region->file, SIDE_NONE, -1, place);
    if (is_named(region->file, place))
        (void)covei_os->path_remove(place->path);
    covei_region_close(region);
}

/* A side file, made if it is missing, with its life-cycle byte taken exclusively. */
static int take_side(struct covei_building *building, const struct covei_place *place, int64_t deadline)
{
    for (;;) {
        struct covei_region *region = &building->region;
        int result = covei_os->file_open(place->path, COVEI_OPEN_WRITE);
        if (result == -ENOENT) {
            struct covei_building side = {.region = {.backend = &covei_backend_posix, .file = -1, .system_id = -1}};
            result = covei_file_build(&side, place, 0);
            if (result == 0 && (result = covei_file_publish(&side, place)) < 0)
                covei_file_abandon(&side, place);
            if (result == 0)
                covei_region_close(&side.region);
            if (result < 0 && result != -EEXIST)
                return result;
            continue;
        }
        if (result < 0)
            return covei_file_explain(result, place);
        region->file = result;
        result = covei_file_adopt(region, place, 0);
        if (result == 0)
            result = covei_life_cycle_lock(region->file, place->name, true, deadline);
        if (result == 0 && is_named(region->file, place))
            return 0;
        covei_region_close(region);
        if (result < 0)
            return result;
    }
}

static void abandon(struct covei_building *building, const struct covei_place *place)
{
    remove_memory(building);
    drop_side(&building->region, place);
}

static int build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    int result = take_side(building, place, deadline_of(place));
    if (result < 0)
        return result;
    clear_dead_build(building->region.file, place);
    int id = 0;
    if (covei_os->shm_find(place->key, &id) == 0)
        result = explain_make(-EEXIST, place, size_bytes);
    else
        result = write_side(building->region.file, SIDE_BUILDING, -1, place);
    if (result == 0) {
        result = covei_os->shm_make(place->key, size_bytes, 0600, &building->region.system_id);
        if (result < 0) {
            result = explain_make(result, place, size_bytes);
            drop_side(&building->region, place);
            return result;
        }
        result = write_side(building->region.file, SIDE_BUILDING, building->region.system_id, place);
        if (result < 0) {
            abandon(building, place);
            return result;
        }
    }
    if (result < 0)
        covei_region_close(&building->region); /* the key is somebody's, and so is the side file, perhaps */
    return result;
}

static int publish(struct covei_building *building, const struct covei_place *place)
{
    int result = write_side(building->region.file, SIDE_READY, building->region.system_id, place);
    if (result == 0)
        covei_life_cycle_unlock(building->region.file);
    return result;
}

static bool leads_to(const struct covei_region *region, const struct covei_place *place)
{
    return covei_file_leads_to(region, place) && key_leads_to(region, place);
}

static int remove_segment(const struct covei_region *region, const struct covei_place *place)
{
    int result = covei_os->shm_remove(region->system_id);
    if (result < 0 && result != -EINVAL && result != -EIDRM)
        return explain_remove(result, place);
    (void)covei_os->path_remove(place->path); /* or it is debris */
    return 0;
}

static int set_rights(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                      const uint32_t *gid)
{
    int result = covei_file_set_rights(region, place, mode, gid);
    return result < 0 ? result : covei_os->shm_set_rights(region->system_id, mode, gid);
}

/* Asked without attaching, which would change the books: who was last, and when. */
static int is_segment(const struct covei_region *region)
{
    struct covei_shm_stat stat;
    struct covei_place place;
    struct side_record record;
    char name[32];
    int result = covei_os->shm_stat(region->system_id, &stat);
    if (result < 0 || stat.key == 0)
        return result < 0 ? result : 0;
    (void)snprintf(name, sizeof name, "sysv:0x%08" PRIx32, stat.key);
    result = covei_place_parse(&place, name, false);
    int file = result < 0 ? result : covei_os->file_open(place.path, COVEI_OPEN_READ);
    if (file < 0)
        return file == -ENOENT ? 0 : file;
    result = read_side(file, &place, &record);
    covei_os->file_close(file);
    return result < 0 ? result : record.phase == SIDE_READY && record.id == region->system_id;
}

bool covei_sysv_clear_side(const char *file_name, bool dry_run)
{
    struct covei_place place;
    struct covei_region region = {.backend = &covei_backend_sysv, .file = -1, .system_id = -1};
    char name[32];
    int id = 0;
    uint32_t key = 0;
    if (!covei_name_of_side_file(&key, file_name))
        return false;
    (void)snprintf(name, sizeof name, "sysv:0x%08" PRIx32, key);
    if (covei_place_parse(&place, name, false) < 0 || covei_file_find(&region, &place, 0) < 0)
        return false;
    bool cleared = false;
    if (covei_os->lock_try(region.file, COVEI_LIFE_CYCLE_BYTE, true) == 0) {
        struct side_record record;
        bool dead_build = read_side(region.file, &place, &record) == 0 && record.phase == SIDE_BUILDING;
        if (dead_build && !dry_run)
            clear_dead_build(region.file, &place);
        cleared = (dead_build && dry_run) || (covei_os->shm_find(key, &id) == -ENOENT && is_named(region.file, &place));
        if (cleared && !dry_run)
            (void)covei_os->path_remove(place.path);
    }
    covei_region_close(&region);
    return cleared;
}

static bool usable(const struct covei_place *place)
{
    int id = 0, result = covei_os->shm_find(place->key, &id);
    return result != -ENOSYS && result != -EPERM;
}

#define MEMORY                                                                                           \
    .usable = usable, .stat = stat_memory, .reserve = reserve, .room = room, .map = map, .unmap = unmap, \
    .read = read_memory, .write = write_memory, .page_bytes = covei_file_page_bytes

const struct covei_backend covei_backend_sysv = {
    .name = "sysv",
    .features = COVEI_FEATURE(COVE_CAN_NAME) | COVEI_FEATURE(COVE_CAN_SEAL),
    .find = find,
    .build = build,
    .publish = publish,
    .abandon = abandon,
    .leads_to = leads_to,
    .remove = remove_segment,
    .set_rights = set_rights,
    .is_segment = is_segment,
    MEMORY,
};

const struct covei_backend covei_backend_sysv_raw = {
    .name = "sysv",
    .features = COVEI_FEATURE(COVE_CAN_NAME) | COVEI_FEATURE(COVE_CAN_SEAL),
    .find = find_raw,
    .build = build_raw,
    .publish = publish_raw,
    .abandon = abandon_raw,
    .leads_to = key_leads_to,
    .remove = remove_raw,
    .set_rights = set_rights_raw,
    .is_segment = is_segment,
    MEMORY,
};
