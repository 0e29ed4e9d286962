/* memfd.c - nameless memory: made here, or inherited or received as a descriptor.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What is made here is sealed before anybody else can have it: a region against any change of its size, a segment,
 * which grows, against shrinking. It goes with its last descriptor and mapping, whoever dies. */
#include "region/region.h"

#include "base/error.h"

#include <errno.h>

static int no_name(const struct covei_place *place)
{
    return covei_error(-EOPNOTSUPP,
                       "%s: nameless memory has nothing to find, remove or replace; it goes with its last descriptor "
                       "and mapping",
                       place->name);
}

static int find_nothing(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    (void)region;
    (void)flags;
    return covei_error(-ENOENT, "%s: nameless memory cannot be found by a name; pass its descriptor on, and open fd:N",
                       place->name);
}

static int build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    (void)size_bytes;
    int file = covei_os->file_make_memory(false);
    if (file < 0)
        return covei_error(file == -ENOSYS ? -EOPNOTSUPP : file, "%s: making nameless memory failed: %s", place->name,
                           cove_strerror(file));
    building->region.file = file;
    int result = covei_file_adopt(&building->region, place, COVE_ANY_OWNER);
    if (result < 0)
        covei_file_abandon(building, place);
    return result;
}

static int publish(struct covei_building *building, const struct covei_place *place)
{
    int result = covei_os->file_seal(building->region.file, place->raw);
    return result < 0 ? covei_error(result, "%s: sealing it failed: %s", place->name, cove_strerror(result)) : 0;
}

static bool leads_to(const struct covei_region *region, const struct covei_place *place)
{
    (void)region;
    (void)place;
    return true;
}

static int remove_nothing(const struct covei_region *region, const struct covei_place *place)
{
    (void)region;
    return no_name(place);
}

/* A description of our own: the descriptor's owner may close it, and its position and locks are not ours. Where there
 * is no /proc a copy must do (a segment needs one for its locks and says so). */
static int find_fd(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    struct covei_file_stat stat;
    if (covei_os->file_stat(place->fd, &stat) == 0 && stat.kind != COVEI_FILE_REGULAR) /* a FIFO would make us wait */
        return covei_error(COVE_ENOTCOVE,
                           "%s: the descriptor is not that of a regular file; give that of a memory file", place->name);
    int file = covei_os->file_reopen(place->fd, flags & COVE_READONLY ? COVEI_OPEN_READ : COVEI_OPEN_WRITE);
    if (file == -ENOENT || file == -ENXIO)
        file = covei_os->file_copy(place->fd);
    if (file == -EBADF)
        return covei_error(file, "%s: there is no descriptor of that number here", place->name);
    if (file < 0)
        return covei_error(file, "%s: opening its memory anew failed: %s", place->name, cove_strerror(file));
    region->file = file;
    int result = covei_file_adopt(region, place, flags);
    if (result < 0)
        covei_region_close(region);
    return result;
}

static int build_fd(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    (void)building;
    (void)size_bytes;
    return covei_error(-EOPNOTSUPP,
                       "%s: a descriptor leads to memory that is there; make new memory with memfd:", place->name);
}

static bool usable(const struct covei_place *place)
{
    (void)place;
    int file = covei_os->file_make_memory(false);
    if (file >= 0)
        covei_os->file_close(file);
    return file >= 0;
}

static bool usable_fd(const struct covei_place *place)
{
    struct covei_file_stat stat;
    return covei_os->file_stat(place->fd, &stat) == 0 && stat.kind == COVEI_FILE_REGULAR;
}

#define NAMELESS                                                                                                  \
    .leads_to = leads_to, .remove = remove_nothing, .set_rights = covei_file_set_rights, .stat = covei_file_stat, \
    .reserve = covei_file_reserve, .room = covei_file_room, .map = covei_file_map, .unmap = covei_file_unmap,     \
    .read = covei_file_read, .write = covei_file_write, .page_bytes = covei_file_page_bytes,                      \
    .abandon = covei_file_abandon, .publish = publish

const struct covei_backend covei_backend_memfd = {
    .name = "memfd",
    .features = COVEI_FEATURE(COVE_CAN_HIDE) | COVEI_FEATURE(COVE_CAN_GROW) | COVEI_FEATURE(COVE_CAN_SEAL) |
                COVEI_FEATURE(COVE_CAN_PASS) | COVEI_FEATURE(COVE_CAN_RESERVE),
    .usable = usable,
    .find = find_nothing,
    .build = build,
    NAMELESS,
};

const struct covei_backend covei_backend_fd = {
    .name = "fd",
    .features = COVEI_FEATURE(COVE_CAN_GROW) | COVEI_FEATURE(COVE_CAN_PASS) | COVEI_FEATURE(COVE_CAN_RESERVE),
    .usable = usable_fd,
    .find = find_fd,
    .build = build_fd,
    NAMELESS,
};
