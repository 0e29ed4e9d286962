/* posix.c - regions as files in the directory of POSIX shared memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * I1  A name leads to a whole region or to none: a region is built in a nameless file (O_TMPFILE), which the kernel
 *     frees when its builder dies, and gets its name by linkat, which never replaces. So a killed builder leaves
 *     nothing.
 * I2  Where the file system has no nameless files the region is built under a name of its own, whose first byte its
 *     builder keeps locked, and renamed without replacing. A killed builder leaves that file; cove_gc knows it by its
 *     name and its free lock.
 * I3  Existing files are opened without following links, creating or waiting, and looked at before they are mapped.
 *     */
#include "region/region.h"

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int explain_open(int result, const char *name, const char *path)
{
    switch (result) {
    case -ENOENT:
        return covei_error(result, "%s: there is no such segment (no file %s)", name, path);
    case -ELOOP:
        return covei_error(COVE_ENOTCOVE, "%s: %s is a symbolic link, which is never followed; remove it", name, path);
    case -EISDIR:
        return covei_error(COVE_ENOTCOVE, "%s: %s is a directory, not a segment; remove it", name, path);
    case -ENXIO:
        return covei_error(COVE_ENOTCOVE, "%s: %s is not a regular file; remove it", name, path);
    case -EACCES:
        return covei_error(result, "%s: no right to open %s; ask its owner for mode or group", name, path);
    case -EMFILE:
    case -ENFILE:
        return covei_error(result, "%s: no descriptor left (a segment needs two); raise ulimit -n", name);
    default:
        return covei_error(result, "%s: opening %s failed: %s", name, path, cove_strerror(result));
    }
}

static int check_file(const char *name, const char *path, uint32_t flags, const struct covei_file_stat *stat)
{
    if (stat->kind != COVEI_FILE_REGULAR)
        return covei_error(COVE_ENOTCOVE, "%s: %s is not a regular file; remove it", name, path);
    uint32_t self = covei_os->user_id();
    if (stat->uid != self && !(flags & COVE_ANY_OWNER))
        return covei_error(COVE_EOWNER,
                           "%s: it belongs to user %" PRIu32 ", not to you (%" PRIu32
                           "); open it with COVE_ANY_OWNER if "
                           "you trust that user",
                           name, stat->uid, self);
    return 0;
}

int covei_region_open(const char *name, const char *path, uint32_t flags, struct covei_file_stat *stat)
{
    int file = covei_os->file_open(path, flags & COVE_READONLY ? COVEI_OPEN_READ : COVEI_OPEN_WRITE);
    if (file < 0)
        return explain_open(file, name, path);
    int result = covei_os->file_stat(file, stat);
    if (result < 0)
        (void)covei_error(result, "%s: looking at %s failed: %s", name, path, cove_strerror(result));
    else
        result = check_file(name, path, flags, stat);
    if (result < 0) {
        covei_os->file_close(file);
        return result;
    }
    return file;
}

/* Lock the new file's byte, and see that nobody who took it for debris removed it first. */
static int lock_and_look(struct covei_building *building)
{
    int result = covei_os->lock_try(building->file, COVEI_DEBRIS_BYTE, true);
    struct covei_file_stat ours, named;
    if (result == 0)
        result = covei_os->file_stat(building->file, &ours);
    if (result == 0 && (covei_os->path_stat(building->path, &named) < 0 || named.inode != ours.inode))
        result = -EAGAIN;
    return result;
}

/* I2: under a name of its own. The process and thread number make it unique among the living; a dead one's file is
 * skipped. */
static int build_named(struct covei_building *building, const char *name)
{
    int result = -EAGAIN;
    for (int attempt = 0; attempt < 100 && (result == -EAGAIN || result == -EEXIST); attempt++) {
        int length = snprintf(building->path, sizeof building->path, "%s/" COVEI_DEBRIS_PREFIX "%d-%" PRIx64 "-%d",
                              cove_directory(), (int)covei_os->thread_id(), (uint64_t)covei_os->now(), attempt);
        if (length < 0 || (size_t)length >= sizeof building->path)
            return covei_error(-ENAMETOOLONG, "%s: COVE_DIR is too long a path", name);
        result = covei_os->file_make(building->path);
        if (result < 0)
            continue;
        building->file = result;
        result = lock_and_look(building);
        if (result < 0)
            covei_region_abandon(building);
    }
    return result;
}

int covei_region_build(struct covei_building *building, const char *name)
{
    building->path[0] = '\0';
    int file = covei_os->file_make_nameless(cove_directory());
    if (file >= 0) {
        building->file = file;
        return 0;
    }
    int result = file == -EOPNOTSUPP || file == -EISDIR ? build_named(building, name) : file;
    if (result == -ENOENT || result == -ENOTDIR)
        return covei_error(result, "%s: there is no directory %s for segments; make it, or set COVE_DIR", name,
                           cove_directory());
    if (result == -EACCES || result == -EROFS)
        return covei_error(result,
                           "%s: %s cannot be written to; mend its rights, or set COVE_DIR to a directory of yours",
                           name, cove_directory());
    if (result < 0)
        return covei_error(result, "%s: making a file in %s failed: %s", name, cove_directory(), cove_strerror(result));
    return 0;
}

int covei_region_publish(struct covei_building *building, const char *name, const char *path)
{
    int result = building->path[0] ? covei_os->file_rename_new(building->path, path)
                                   : covei_os->file_publish(building->file, path);
    if (result == -EEXIST)
        return covei_error(result, "%s: it exists already (%s)", name, path);
    if (result < 0)
        return covei_error(result, "%s: naming it %s failed: %s", name, path, cove_strerror(result));
    if (building->path[0])
        (void)covei_os->lock_drop(building->file, COVEI_DEBRIS_BYTE);
    building->path[0] = '\0';
    return 0;
}

void covei_region_abandon(struct covei_building *building)
{
    if (building->path[0])
        (void)covei_os->path_remove(building->path);
    covei_os->file_close(building->file);
}

int covei_region_no_room(const char *name, uint64_t needed_bytes, uint64_t free_bytes, uint64_t total_bytes)
{
    return covei_error(
        -ENOSPC,
        "%s: %s is full: %" PRIu64 " bytes are needed, %" PRIu64 " of %" PRIu64
        " are free; remove what is stale (cove ls, cove gc) or make it larger (mount -o remount,size=...)",
        name, cove_directory(), needed_bytes, free_bytes, total_bytes);
}

int covei_region_reserve(int file, const char *name, uint64_t offset, uint64_t size_bytes)
{
    int result = covei_os->file_reserve(file, offset, size_bytes);
    if (result == 0)
        return 0;
    uint64_t free_bytes = 0, total_bytes = 0;
    if (result == -ENOSPC && covei_os->file_space(file, &free_bytes, &total_bytes) == 0)
        return covei_region_no_room(name, size_bytes, free_bytes, total_bytes);
    if (result == -EFBIG)
        return covei_error(result,
                           "%s: %" PRIu64 " bytes are more than this process may write to a file; raise ulimit -f",
                           name, offset + size_bytes);
    return covei_error(result, "%s: reserving %" PRIu64 " bytes failed: %s", name, size_bytes, cove_strerror(result));
}
