/* files.c - memory that is a file: what the backends whose memory is one share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * I1  A name leads to a whole file or to none: a file is built without a name (O_TMPFILE), so that the kernel frees
 *     it when its builder dies, and gets its name by linkat, which never replaces. So a killed builder leaves
 *     nothing.
 * I2  Where the file system has no nameless files, and where a file is to replace another, it is built under a name
 *     of its own, whose first byte its builder keeps locked, and renamed. A killed builder leaves that file; cove_gc
 *     knows it by its name and its free lock.
 * I3  Existing files are opened without following links, creating or waiting, and looked at before they are mapped.
 *     */
#include "region/region.h"

#include "base/base.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const char *noun(const struct covei_place *place)
{
    return place->raw ? "region" : "segment";
}

int covei_file_explain(int result, const struct covei_place *place)
{
    const char *name = place->name, *path = place->path;
    switch (result) {
    case -ENOENT:
    case -ENOTDIR:
        return covei_error(-ENOENT, "%s: there is no such %s (no file %s)", name, noun(place), path);
    case -ELOOP:
        return covei_error(COVE_ENOTCOVE, "%s: %s is a symbolic link, which is never followed; remove it", name, path);
    case -EISDIR:
        return covei_error(COVE_ENOTCOVE, "%s: %s is a directory, not a %s; remove it", name, path, noun(place));
    case -ENXIO:
        return covei_error(COVE_ENOTCOVE, "%s: %s is not a regular file; remove it", name, path);
    case -EACCES: {
        struct covei_file_stat stat;
        bool own = covei_os->path_stat(path, &stat) == 0 && stat.uid == covei_os->user_id();
        return own ? covei_error(result,
                                 "%s: its owner, you, has no right to open %s (mode 0%" PRIo32 "); chmod u+rw it", name,
                                 path, stat.mode)
                   : covei_error(result, "%s: no right to open %s; ask its owner for mode or group", name, path);
    }
    case -EMFILE:
    case -ENFILE:
        return covei_error(result, "%s: no descriptor left (a segment needs two); raise ulimit -n", name);
    case -EROFS:
        return covei_error(result,
                           "%s: %s lies in a read-only file system; open it with COVE_READONLY, or have it remounted "
                           "(mount -o remount,rw)",
                           name, path);
    default:
        return covei_error(result, "%s: opening %s failed: %s", name, path, cove_strerror(result));
    }
}

/* The file is open: is it what we may use? */
int covei_file_adopt(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    const char *what = *place->path ? place->path : "the descriptor";
    struct covei_file_stat stat;
    int result = covei_os->file_stat(region->file, &stat);
    if (result < 0)
        return covei_error(result, "%s: looking at %s failed: %s", place->name, what, cove_strerror(result));
    if (stat.kind != COVEI_FILE_REGULAR)
        return covei_error(COVE_ENOTCOVE, "%s: %s is not a regular file; %s", place->name, what,
                           *place->path ? "remove it" : "give that of a memory file");
    uint32_t self = covei_os->user_id();
    if (stat.uid != self && !(flags & COVE_ANY_OWNER))
        return covei_error(COVE_EOWNER,
                           "%s: it belongs to user %" PRIu32 ", not to you (%" PRIu32
                           "); open it with COVE_ANY_OWNER if you trust that user",
                           place->name, stat.uid, self);
    region->device = stat.device;
    region->inode = stat.inode;
    return 0;
}

int covei_file_find(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    int file = covei_os->file_open(place->path, flags & COVE_READONLY ? COVEI_OPEN_READ : COVEI_OPEN_WRITE);
    if (file < 0)
        return covei_file_explain(file, place);
    region->file = file;
    int result = covei_file_adopt(region, place, flags);
    if (result < 0)
        covei_region_close(region);
    return result;
}

/* ---- building */

#define ATTEMPTS 100 /* to find a name that nobody has */

/* Nameless files can be made, but not be named: there is no /proc, or a sandbox forbids it. */
static _Atomic bool nameless_is_no_use;

/* Lock the new file's byte, and see that nobody who took it for debris removed it first. */
static int lock_and_look(struct covei_building *building)
{
    int result = covei_os->lock_try(building->region.file, COVEI_DEBRIS_BYTE, true);
    struct covei_file_stat ours, named;
    if (result == 0)
        result = covei_os->file_stat(building->region.file, &ours);
    if (result == 0 && (covei_os->path_stat(building->path, &named) < 0 || named.inode != ours.inode))
        result = -EAGAIN;
    return result;
}

/* I2: a name of its own. The thread's number and the time make it unique among the living; a dead one's is skipped.
 * */
static int name_for_now(struct covei_building *building, const struct covei_place *place, int attempt)
{
    char directory[COVEI_PATH_MAX];
    covei_place_directory(place, directory);
    int length = snprintf(building->path, sizeof building->path, "%s/" COVEI_DEBRIS_PREFIX "%d-%" PRIx64 "-%d",
                          directory, (int)covei_os->thread_id(), (uint64_t)covei_os->now(), attempt);
    if (length >= 0 && (size_t)length < sizeof building->path)
        return 0;
    building->path[0] = '\0';
    return -ENAMETOOLONG;
}

static int build_named(struct covei_building *building, const struct covei_place *place)
{
    int result = -EAGAIN;
    for (int attempt = 0; attempt < ATTEMPTS && (result == -EAGAIN || result == -EEXIST); attempt++) {
        result = name_for_now(building, place, attempt);
        if (result == 0)
            result = covei_os->file_make(building->path);
        if (result < 0)
            continue;
        building->region.file = result;
        result = lock_and_look(building);
        if (result < 0)
            covei_file_abandon(building, place);
    }
    return result;
}

static int explain_build(int result, const struct covei_place *place)
{
    char directory[COVEI_PATH_MAX];
    covei_place_directory(place, directory);
    if (result == -ENOENT || result == -ENOTDIR)
        return covei_error(result, "%s: there is no directory %s for segments; make it, or set COVE_DIR", place->name,
                           directory);
    if (result == -EMFILE || result == -ENFILE)
        return covei_error(result, "%s: no descriptor left (a segment needs two); raise ulimit -n", place->name);
    if (result == -ENOSPC)
        return covei_error(
            result,
            "%s: %s has no room for one more file (nr_inodes); remove what is stale (cove ls, cove gc) or "
            "make it larger (mount -o remount,nr_inodes=...)",
            place->name, directory);
    if (result == -EACCES || result == -EROFS)
        return covei_error(result,
                           "%s: %s cannot be written to; mend its rights, or set COVE_DIR to a directory of yours",
                           place->name, directory);
    return covei_error(result, "%s: making a file in %s failed: %s", place->name, directory, cove_strerror(result));
}

static int note_identity(struct covei_building *building, const struct covei_place *place)
{
    struct covei_file_stat stat;
    int result = covei_os->file_set_mode(building->region.file, 0600); /* the umask may have taken even that */
    if (result < 0)
        (void)covei_error(result, "%s: setting its mode (fchmod) failed: %s", place->name, cove_strerror(result));
    else if ((result = covei_os->file_stat(building->region.file, &stat)) < 0)
        (void)covei_error(result, "%s: looking at its file failed: %s", place->name, cove_strerror(result));
    if (result < 0) {
        covei_file_abandon(building, place);
        return result;
    }
    building->region.device = stat.device;
    building->region.inode = stat.inode;
    return 0;
}

int covei_file_build_named(struct covei_building *building, const struct covei_place *place)
{
    int result = build_named(building, place);
    return result < 0 ? explain_build(result, place) : note_identity(building, place);
}

int covei_file_build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    (void)size_bytes;
    char directory[COVEI_PATH_MAX];
    covei_place_directory(place, directory);
    building->path[0] = '\0';
    /* relaxed: a hint, which every thread may find out anew. */
    if (atomic_load_explicit(&nameless_is_no_use, memory_order_relaxed))
        return covei_file_build_named(building, place);
    int file = covei_os->file_make_nameless(directory);
    if (file == -EOPNOTSUPP || file == -EISDIR || file == -ENOSYS || file == -EPERM || file == -EINVAL)
        return covei_file_build_named(building, place);
    if (file < 0)
        return explain_build(file, place);
    int again = covei_os->file_reopen(file, COVEI_OPEN_WRITE); /* a segment needs that, before it has its name */
    if (again >= 0)
        covei_os->file_close(again);
    if (again == -ENOENT) {
        covei_os->file_close(file);
        atomic_store_explicit(&nameless_is_no_use, true, memory_order_relaxed);
        return covei_file_build_named(building, place);
    }
    building->region.file = file;
    return note_identity(building, place);
}

static int named(struct covei_building *building, const struct covei_place *place, int result)
{
    if (result == -EEXIST)
        return covei_error(result, "%s: it exists already (%s)", place->name, place->path);
    if (result < 0)
        return covei_error(result, "%s: naming it %s failed: %s", place->name, place->path, cove_strerror(result));
    if (building->path[0])
        (void)covei_os->lock_drop(building->region.file, COVEI_DEBRIS_BYTE);
    building->path[0] = '\0';
    return 0;
}

int covei_file_publish(struct covei_building *building, const struct covei_place *place)
{
    if (building->path[0])
        return named(building, place, covei_os->file_rename_new(building->path, place->path));
    int result = covei_os->file_publish(building->region.file, place->path);
    struct covei_file_stat stat;
    char directory[COVEI_PATH_MAX];
    covei_place_directory(place, directory);
    bool no_proc = result == -ENOENT && covei_os->path_follow(directory, &stat) == 0;
    if (no_proc || result == -ENOSYS || result == -EPERM || result == -EXDEV || result == -EINVAL) {
        atomic_store_explicit(&nameless_is_no_use, true, memory_order_relaxed);
        return covei_error(-EAGAIN, "%s: naming a nameless file failed: %s", place->name, cove_strerror(result));
    }
    return named(building, place, result);
}

/* What was built without a name takes the place of what has the name. A link does not replace, so it gets a name of
 * its own for the moment between two calls; who is killed in that moment leaves debris. */
int covei_file_replace(struct covei_building *building, const struct covei_place *place)
{
    int result = building->path[0] ? 0 : covei_os->lock_try(building->region.file, COVEI_DEBRIS_BYTE, true);
    for (int attempt = 0; result == 0 && !building->path[0] && attempt < ATTEMPTS; attempt++) {
        result = name_for_now(building, place, attempt);
        if (result == 0)
            result = covei_os->file_publish(building->region.file, building->path);
        if (result < 0)
            building->path[0] = '\0';
        if (result == -EEXIST)
            result = 0; /* somebody's: another one */
    }
    if (result == 0)
        result = building->path[0] ? covei_os->file_rename(building->path, place->path) : -EEXIST;
    return named(building, place, result);
}

void covei_file_abandon(struct covei_building *building, const struct covei_place *place)
{
    (void)place;
    if (building->path[0])
        (void)covei_os->path_remove(building->path);
    building->path[0] = '\0';
    covei_region_close(&building->region);
}

/* ---- names and rights */

bool covei_file_leads_to(const struct covei_region *region, const struct covei_place *place)
{
    struct covei_file_stat stat;
    return covei_os->path_stat(place->path, &stat) == 0 && stat.device == region->device && stat.inode == region->inode;
}

int covei_file_remove(const struct covei_region *region, const struct covei_place *place)
{
    (void)region;
    int result = covei_os->path_remove(place->path);
    if (result == 0 || result == -ENOENT)
        return 0;
    return covei_error(result, "%s: removing %s failed: %s; the directory must let you", place->name, place->path,
                       cove_strerror(result));
}

int covei_file_set_rights(const struct covei_region *region, const struct covei_place *place, uint32_t mode,
                          const uint32_t *gid)
{
    (void)place;
    int result = gid ? covei_os->file_set_group(region->file, *gid) : 0;
    return result < 0 ? result : covei_os->file_set_mode(region->file, mode);
}

/* ---- bytes */

int covei_file_stat(const struct covei_region *region, struct covei_region_stat *out)
{
    struct covei_file_stat stat;
    int result = covei_os->file_stat(region->file, &stat);
    if (result == 0)
        *out = (struct covei_region_stat){.size_bytes = stat.size_bytes,
                                          .allocated_bytes = stat.allocated_bytes,
                                          .changed_ns = stat.changed_ns,
                                          .mode = stat.mode,
                                          .uid = stat.uid,
                                          .gid = stat.gid};
    return result;
}

uint64_t covei_file_room(const struct covei_region *region, uint64_t *total_bytes)
{
    struct covei_file_system system;
    if (covei_os->file_system(region->file, &system) < 0)
        return UINT64_MAX;
    *total_bytes = system.total_bytes;
    return system.total_bytes ? system.free_bytes : UINT64_MAX; /* 0: a tmpfs without a limit, as that of memfds is */
}

int covei_region_no_room(const struct covei_region *region, const char *name, uint64_t needed_bytes)
{
    uint64_t total = 0, free_bytes = region->backend->room(region, &total);
    if (free_bytes == UINT64_MAX)
        return covei_error(-ENOSPC, "%s: the file system is full: %" PRIu64 " bytes are needed", name, needed_bytes);
    if (covei_can(region->backend, COVE_HAS_HUGE_PAGES))
        return covei_error(-ENOSPC,
                           "%s: there are too few huge pages: %" PRIu64 " bytes are needed, %" PRIu64 " of %" PRIu64
                           " are free; reserve more (echo NUMBER > /proc/sys/vm/nr_hugepages), or use hugetry:",
                           name, needed_bytes, free_bytes, total);
    const char *where = region->backend == &covei_backend_posix ? cove_directory() : "its file system";
    return covei_error(-ENOSPC,
                       "%s: %s is full: %" PRIu64 " bytes are needed, %" PRIu64 " of %" PRIu64
                       " are free; remove what is stale (cove ls, cove gc) or make it larger (mount -o "
                       "remount,size=...)",
                       name, where, needed_bytes, free_bytes, total);
}

int covei_region_ask(const struct covei_region *region, const char *name, uint64_t size_bytes)
{
    uint64_t total_bytes = 0;
    return region->backend->room(region, &total_bytes) >= size_bytes ? 0
                                                                     : covei_region_no_room(region, name, size_bytes);
}

int covei_file_reserve(const struct covei_region *region, const char *name, uint64_t offset, uint64_t size_bytes)
{
    int result = covei_os->file_reserve(region->file, offset, size_bytes);
    if (result == 0)
        return 0;
    if (result == -ENOSPC)
        return covei_region_no_room(region, name, size_bytes);
    if (result == -EFBIG)
        return covei_error(result,
                           "%s: %" PRIu64 " bytes are more than this process may write to a file; raise ulimit -f",
                           name, offset + size_bytes);
    if (result == -EOPNOTSUPP)
        return covei_error(result, "%s: its file system cannot reserve memory (fallocate); use another one", name);
    if (result == -ENOSYS || result == -EPERM)
        return covei_error(result, "%s: reserving memory failed: a sandbox (seccomp) forbids fallocate; allow it",
                           name);
    return covei_error(result, "%s: reserving %" PRIu64 " bytes failed: %s", name, size_bytes, cove_strerror(result));
}

int covei_file_map(const struct covei_region *region, void **address, uint64_t offset, uint64_t size_bytes,
                   enum covei_access access)
{
    return covei_os->map(address, region->file, offset, size_bytes, access, false);
}

void covei_file_unmap(void *address, uint64_t size_bytes)
{
    covei_os->unmap(address, size_bytes);
}

int64_t covei_file_read(const struct covei_region *region, void *data, size_t size_bytes, uint64_t offset)
{
    return covei_os->file_read_at(region->file, data, size_bytes, offset);
}

int covei_file_write(const struct covei_region *region, const void *data, size_t size_bytes, uint64_t offset)
{
    int64_t count = covei_os->file_write_at(region->file, data, size_bytes, offset);
    return count == (int64_t)size_bytes ? 0 : count < 0 ? (int)count : -EIO;
}

uint64_t covei_file_page_bytes(const struct covei_region *region)
{
    (void)region;
    return covei_os->page_bytes();
}

/* Through a mapping of the pages that hold the bytes. A file that is shorter is not touched beyond its end. */
static int64_t mapped_copy(const struct covei_region *region, void *to, const void *from, size_t size_bytes,
                           uint64_t offset)
{
    struct covei_region_stat stat;
    int result = region->backend->stat(region, &stat);
    if (result < 0)
        return result;
    if (offset >= stat.size_bytes)
        return 0;
    uint64_t count = covei_min(size_bytes, stat.size_bytes - offset);
    uint64_t page = region->backend->page_bytes(region), begin = offset / page * page;
    uint64_t length = covei_round_up(offset + count - begin, page);
    void *address = NULL;
    result = region->backend->map(region, &address, begin, length, to ? COVEI_ACCESS_READ : COVEI_ACCESS_WRITE);
    if (result < 0)
        return result;
    unsigned char *bytes = (unsigned char *)address + (offset - begin);
    memcpy(to ? to : bytes, to ? bytes : from, (size_t)count);
    region->backend->unmap(address, length);
    return (int64_t)count;
}

int64_t covei_mapped_read(const struct covei_region *region, void *data, size_t size_bytes, uint64_t offset)
{
    return mapped_copy(region, data, NULL, size_bytes, offset);
}

int covei_mapped_write(const struct covei_region *region, const void *data, size_t size_bytes, uint64_t offset)
{
    int64_t count = mapped_copy(region, NULL, data, size_bytes, offset);
    return count == (int64_t)size_bytes ? 0 : count < 0 ? (int)count : -EIO;
}
