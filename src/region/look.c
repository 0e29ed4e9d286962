/* look.c - public regions: what the system's books say, rights, names, contents as a whole.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Replacing: the new bytes are written to a file without a name, which then takes the name over in one step. Who has
 * the old file open keeps it. Crash: the old bytes under the name, or the new ones; what a kill between two calls at
 * the end leaves is debris, which cove_gc and the next to replace clear. */
#include "region/handle.h"

#include "base/base.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 1000 /* of losing the name to somebody who was faster */

static void fill(struct cove_region_info *info, const struct covei_region *region, const struct covei_place *place,
                 const struct covei_region_stat *stat)
{
    *info = (struct cove_region_info){
        .size_bytes = stat->size_bytes,
        .resident_bytes = covei_region_resident(region, stat),
        .page_bytes = region->backend->page_bytes(region),
        .mode = stat->mode,
        .owner_uid = stat->uid,
        .owner_gid = stat->gid,
        .creator_uid = stat->shm.creator_uid,
        .creator_gid = stat->shm.creator_gid,
        .creator_pid = stat->shm.creator_pid,
        .last_pid = stat->shm.last_pid,
        .system_id = region->system_id,
        .attached_count = stat->shm.attached_count,
        .attached_ns = stat->shm.attached_s * 1000000000u,
        .detached_ns = stat->shm.detached_s * 1000000000u,
        .changed_ns = stat->changed_ns,
        .is_segment = covei_region_is_segment(region) > 0,
        /* System V memory has one size for good */
        .sealed = region->file < 0 || covei_os->file_sealed(region->file) == 1,
    };
    (void)snprintf(info->name, sizeof info->name, "%s", place->name);
    (void)snprintf(info->backend, sizeof info->backend, "%s", region->backend->name);
}

static int truncated(const struct cove_region *region, uint64_t now_bytes)
{
    return covei_error(COVE_ETRUNCATED,
                       "%s: somebody made it smaller: it has %" PRIu64 " bytes now, of which [%" PRIu64 ", %" PRIu64
                       ") were mapped; close it, and open it anew when it is whole",
                       region->place.name, now_bytes, region->offset, region->offset + region->length);
}

/* A guarded access met the truncation: what is mapped is private in part, however long the file is now. */
static bool is_broken(const struct cove_region *region)
{
    struct covei_guarded *guarded = atomic_load_explicit(&region->guarded, memory_order_acquire);
    return guarded && atomic_load_explicit(&guarded->broken, memory_order_acquire) != 0;
}

static int tell_broken(const struct cove_region *region)
{
    struct covei_region_stat stat;
    return truncated(region, region->region.backend->stat(&region->region, &stat) == 0 ? stat.size_bytes : 0);
}

int cove_region_stat(cove_region *region, struct cove_region_info *info)
{
    struct covei_region_stat stat;
    int result = region && info ? region->region.backend->stat(&region->region, &stat) : -EINVAL;
    if (result < 0)
        return covei_error(result, "%s: looking at it failed: %s", region ? region->place.name : "(null)",
                           cove_strerror(result));
    fill(info, &region->region, &region->place, &stat);
    info->data = region->data;
    info->offset = region->offset;
    info->length_bytes = region->length;
    return is_broken(region) || stat.size_bytes < region->offset + region->length ? truncated(region, stat.size_bytes)
                                                                                  : 0;
}

/* ---- by name */

/* HUGETRY is what is there: the huge form first. */
static int parse_found(struct covei_place *place, const char *name)
{
    int result = covei_place_parse(place, name, true);
    if (result < 0 || place->backend != COVEI_HUGETRY)
        return result;
    struct covei_place hugetry = *place;
    struct covei_file_stat stat;
    result = covei_place_of(place, &hugetry, COVEI_HUGE);
    if (result == 0 && *place->path && covei_os->path_stat(place->path, &stat) == 0)
        return 0;
    return covei_place_of(place, &hugetry, COVEI_POSIX);
}

static int find_by_name(struct covei_place *place, struct covei_region *region, const char *name, uint32_t flags)
{
    int result = parse_found(place, name);
    return result < 0 ? result : covei_region_find(region, place, flags);
}

int cove_region_look(const char *name, struct cove_region_info *info)
{
    struct covei_place place;
    struct covei_region region;
    struct covei_region_stat stat;
    int result = find_by_name(&place, &region, name, COVE_READONLY | COVE_ANY_OWNER);
    if (result < 0)
        return result;
    if (!info) {
        covei_region_close(&region);
        return covei_error(-EINVAL, "%s: there is no place for what is seen", name);
    }
    result = region.backend->stat(&region, &stat);
    if (result == 0)
        fill(info, &region, &place, &stat);
    else
        (void)covei_error(result, "%s: looking at it failed: %s", name, cove_strerror(result));
    covei_region_close(&region);
    return result;
}

int cove_region_unlink(const char *name, int force)
{
    struct covei_place place;
    struct covei_region region;
    int result = find_by_name(&place, &region, name, COVE_READONLY | (force ? COVE_ANY_OWNER : 0));
    if (result < 0)
        return result;
    int segment = covei_region_is_segment(&region);
    if (segment < 0)
        result = covei_error(segment, "%s: reading it failed: %s", name, cove_strerror(segment));
    else if (segment)
        result = covei_error(COVE_ETYPE, "%s: it is a Cove segment; remove it with cove_unlink (cove rm)", name);
    else if (region.backend->leads_to(&region, &place))
        result = region.backend->remove(&region, &place);
    else
        result = covei_error(-ENOENT, "%s: somebody else removed it", name);
    covei_region_close(&region);
    return result;
}

int cove_region_set_rights(const char *name, uint32_t mode, const char *group)
{
    struct covei_place place;
    struct covei_region region;
    if (mode & ~0777u)
        return covei_error(-EINVAL, "%s: mode 0%" PRIo32 " is impossible; give permission bits as of chmod", name,
                           mode);
    int result = find_by_name(&place, &region, name, COVE_READONLY | COVE_ANY_OWNER);
    if (result < 0)
        return result;
    result = covei_region_give(&region, &place, mode, group);
    if (result == 0 && place.backend == COVEI_SYSV && covei_region_is_segment(&region) > 0) {
        /* Its members' locks are taken in the side file, which has the same rights. */
        struct covei_place whole;
        struct covei_region segment;
        result = covei_place_parse(&whole, name, false);
        if (result == 0)
            result = covei_region_find(&segment, &whole, COVE_READONLY | COVE_ANY_OWNER);
        if (result == 0) {
            result = covei_region_give(&segment, &whole, mode, group);
            covei_region_close(&segment);
        }
    }
    covei_region_close(&region);
    return result;
}

/* ---- contents as a whole */

static int write_all(const struct covei_region *region, const char *name, const void *data, uint64_t size_bytes)
{
    const unsigned char *bytes = data;
    for (uint64_t done = 0; done < size_bytes;) {
        uint64_t chunk = covei_min(size_bytes - done, UINT64_C(64) << 20);
        int result = region->backend->write(region, bytes + done, (size_t)chunk, done);
        if (result < 0)
            return covei_error(result, "%s: writing its new bytes failed: %s", name, cove_strerror(result));
        done += chunk;
    }
    return 0;
}

/* May what has the name now be replaced? Its rights go to `stat`. -ENOENT: there is nothing. */
static int check_old(const struct covei_place *place, uint32_t flags, struct covei_region_stat *stat)
{
    struct covei_region old;
    int result = covei_region_find(&old, place, COVE_READONLY | (flags & COVE_ANY_OWNER));
    if (result < 0)
        return result;
    result = old.backend->stat(&old, stat);
    int segment = result == 0 ? covei_region_is_segment(&old) : result;
    if (segment < 0)
        result = covei_error(segment, "%s: looking at it failed: %s", place->name, cove_strerror(segment));
    else if (segment)
        result = covei_error(COVE_ETYPE, "%s: it is a Cove segment, whose bytes are not replaced; remove it first",
                             place->name);
    covei_region_close(&old);
    return result;
}

/* Those that were asked for; else those of what is replaced. Where its owner or group cannot be had, theirs are the
 * caller's, and then nobody else's rights are kept. */
static int set_new_rights(const struct covei_building *building, const struct covei_place *place,
                          const struct cove_region_options *options, const struct covei_region_stat *old)
{
    uint32_t mode = options->mode ? options->mode : old ? old->mode & 0777 : 0600;
    if (old && old->uid != covei_os->user_id() && covei_os->file_set_owner(building->region.file, old->uid) < 0)
        mode = options->mode ? mode : mode & 0700;
    if (old && !options->group && covei_os->file_set_group(building->region.file, old->gid) < 0)
        mode = options->mode ? mode : mode & 0707;
    return covei_region_give(&building->region, place, mode, options->group);
}

static int build_new(struct covei_building *building, const struct covei_place *place, const void *data,
                     uint64_t size_bytes)
{
    const struct covei_backend *backend = covei_backend_of(place);
    int result = covei_region_build(building, place, size_bytes, 0600);
    if (result < 0)
        return result;
    if (size_bytes > 0)
        result = covei_region_ask(&building->region, place->name, size_bytes);
    if (result == 0 && size_bytes > 0)
        result = backend->reserve(&building->region, place->name, 0, size_bytes);
    if (result == 0)
        result = write_all(&building->region, place->name, data, size_bytes);
    if (result == 0 && covei_can(backend, COVE_CAN_SYNC) && (result = covei_os->file_sync(building->region.file)) < 0)
        (void)covei_error(result, "%s: writing its new bytes to the disk failed: %s", place->name,
                          cove_strerror(result));
    if (result < 0)
        backend->abandon(building, place);
    return result;
}

/* What has the name is looked at again just before it loses it: somebody may have made a segment meanwhile. Where
 * there was nothing, the name is taken only if there still is nothing. -EEXIST, -ENOENT: it changed, go round. */
static int put_in_place(struct covei_building *building, const struct covei_place *place,
                        const struct cove_region_options *options)
{
    struct covei_region_stat old;
    int found = check_old(place, options->flags, &old);
    if (found < 0 && (found != -ENOENT || options->flags & COVE_EXISTING))
        return found;
    int result = set_new_rights(building, place, options, found == 0 ? &old : NULL);
    if (result < 0)
        return result;
    result = found == 0 ? covei_file_replace(building, place) : covei_file_publish(building, place);
    return result < 0 ? result : found == 0 ? 0 : COVE_CREATED;
}

static int replace(const struct covei_place *place, const void *data, uint64_t size_bytes,
                   const struct cove_region_options *options)
{
    struct covei_region_stat old;
    struct covei_building building;
    int result = check_old(place, options->flags, &old); /* before the work is done for nothing */
    if (result < 0 && (result != -ENOENT || options->flags & COVE_EXISTING))
        return result;
    result = build_new(&building, place, data, size_bytes);
    if (result < 0)
        return result;
    result = put_in_place(&building, place, options);
    if (result < 0)
        building.region.backend->abandon(&building, place);
    else
        covei_region_close(&building.region);
    return result;
}

int cove_region_replace(const char *name, const void *data, uint64_t size_bytes,
                        const struct cove_region_options *given)
{
    static const struct cove_region_options defaults;
    const struct cove_region_options *options = given ? given : &defaults;
    struct covei_place place;
    int result = parse_found(&place, name);
    if (result < 0)
        return result;
    if ((!data && size_bytes > 0) || options->flags & ~(COVE_EXISTING | COVE_ANY_OWNER) || options->mode & ~0777u)
        return covei_error(-EINVAL, "%s: no bytes, or flags (%#x) or a mode (0%" PRIo32 ") that do not belong here",
                           name, options->flags, options->mode);
    if (!covei_can(covei_backend_of(&place), COVE_CAN_REPLACE))
        return covei_error(-EOPNOTSUPP,
                           "%s: its bytes cannot change hands in one step (%s); write into it, or use a name of POSIX "
                           "shared memory or a file",
                           name, covei_backend_of(&place)->name);
    for (int round = 0; round < ROUNDS; round++) {
        result = replace(&place, data, size_bytes, options);
        if (result != -EEXIST && result != -EAGAIN)
            break;
    }
    if (result < 0)
        return result;
    (void)covei_debris_clear(&place, false);
    if (covei_can(covei_backend_of(&place), COVE_CAN_SYNC)) {
        char directory[COVEI_PATH_MAX];
        covei_place_directory(&place, directory);
        (void)covei_os->directory_sync(directory); /* without it a power cut leaves the old bytes: they were whole */
    }
    return result;
}

/* ---- the mapping */

/* [offset, offset + length) of the part, as addresses. */
static int find_range(const cove_region *region, uint64_t offset, uint64_t *length, unsigned char **begin)
{
    if (!region)
        return covei_error(-EINVAL, "there is no region");
    if (offset > region->length || *length > region->length - offset)
        return covei_error(-EINVAL, "%s: the mapped part has %" PRIu64 " bytes; [%" PRIu64 ", %" PRIu64 ") leaves it",
                           region->place.name, region->length, offset, offset + *length);
    if (*length == 0)
        *length = region->length - offset;
    *begin = region->data ? region->data + offset : NULL; /* an empty region has no bytes */
    return is_broken(region) ? tell_broken(region) : 0;
}

int cove_region_sync(cove_region *region, uint64_t offset, uint64_t length_bytes)
{
    unsigned char *begin = NULL;
    int result = find_range(region, offset, &length_bytes, &begin);
    if (result < 0)
        return result;
    if (!covei_can(region->region.backend, COVE_CAN_SYNC))
        return covei_error(-EOPNOTSUPP, "%s: this memory goes with the machine (%s); use file: for what must stay",
                           region->place.name, region->region.backend->name);
    if (length_bytes == 0)
        return 0;
    uintptr_t page = (uintptr_t)covei_os->page_bytes(), skip = (uintptr_t)begin % page;
    result = covei_os->map_sync(begin - skip, length_bytes + skip);
    if (result == 0)
        result = covei_os->file_sync(region->region.file); /* its size and place on the disk too */
    return result < 0
               ? covei_error(result, "%s: writing it to the disk failed: %s", region->place.name, cove_strerror(result))
               : 0;
}

int cove_region_protect(cove_region *region, uint64_t offset, uint64_t length_bytes, enum cove_access access)
{
    unsigned char *begin = NULL;
    int result = find_range(region, offset, &length_bytes, &begin);
    if (result < 0)
        return result;
    if (access < COVE_ACCESS_READ || access > COVE_ACCESS_NONE)
        return covei_error(-EINVAL, "%s: there is no access %d", region->place.name, (int)access);
    if (access == COVE_ACCESS_WRITE && region->flags & COVE_READONLY)
        return covei_error(-EACCES, "%s: it was opened COVE_READONLY; open it anew to write", region->place.name);
    uint64_t page = region->region.backend->page_bytes(&region->region);
    uint64_t head = (uintptr_t)begin % page, tail = ((uintptr_t)begin + length_bytes) % page;
    if ((head != 0 && offset != 0) || (tail != 0 && offset + length_bytes != region->length))
        return covei_error(-EINVAL,
                           "%s: protection changes by whole pages of %" PRIu64 " bytes; %" PRIu64 " and %" PRIu64
                           " are no multiples of it",
                           region->place.name, page, offset, offset + length_bytes);
    static const enum covei_access accesses[] = {COVEI_ACCESS_WRITE, COVEI_ACCESS_READ, COVEI_ACCESS_WRITE,
                                                 COVEI_ACCESS_NONE};
    if (length_bytes == 0)
        return 0;
    result = covei_os->map_protect(begin - head, covei_round_up(head + length_bytes, page), accesses[access]);
    return result < 0 ? covei_error(result, "%s: changing its protection failed: %s", region->place.name,
                                    cove_strerror(result))
                      : 0;
}

static int check_whole(const cove_region *region)
{
    struct covei_region_stat stat;
    int result = region->region.backend->stat(&region->region, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at it failed: %s", region->place.name, cove_strerror(result));
    return stat.size_bytes < region->offset + region->length ? truncated(region, stat.size_bytes) : 0;
}

int cove_region_guard(cove_region *region, cove_region_access *access, void *context)
{
    if (!region || !access)
        return covei_error(-EINVAL, "there is no region, or nothing to call");
    int result = check_whole(region);
    if (result < 0 || !region->mapped)
        return result < 0 ? result : access(NULL, 0, context);
    struct covei_guarded *lasting = atomic_load_explicit(&region->guarded, memory_order_acquire), *guarded = lasting;
    if (!guarded)
        guarded = covei_guard_begin(region->mapped, region->mapped_bytes,
                                    region->region.backend->page_bytes(&region->region), region->place.name, NULL, NULL,
                                    &result);
    if (!guarded)
        return result;
    bool broken = atomic_load_explicit(&guarded->broken, memory_order_acquire) != 0;
    result = broken ? 0 : access(region->data, region->length, context);
    broken = atomic_load_explicit(&guarded->broken, memory_order_acquire) != 0;
    /* A broken one stays so, for later calls: what is mapped there now is private. */
    if (!lasting && !(broken && atomic_compare_exchange_strong_explicit(&region->guarded, &lasting, guarded,
                                                                        memory_order_acq_rel, memory_order_acquire)))
        covei_guard_end(guarded);
    if (!broken)
        return result;
    return tell_broken(region);
}

int cove_region_fd(const cove_region *region)
{
    if (!region)
        return covei_error(-EINVAL, "there is no region");
    if (region->region.file < 0)
        return covei_error(-EOPNOTSUPP, "%s: System V memory has no descriptor", region->place.name);
    int file = covei_os->file_copy(region->region.file);
    return file < 0 ? covei_error(file, "%s: no descriptor can be had: %s; raise ulimit -n", region->place.name,
                                  cove_strerror(file))
                    : file;
}
