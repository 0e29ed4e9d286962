/* huge.c - regions in huge pages: files of a hugetlbfs.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A mapping takes address space only (MAP_NORESERVE), and pages are allocated (fallocate) before the bytes in them
 * are used: so a lack of pages is an error when making or growing, and a large max_size costs nothing. Such files can
 * be read but not written, and come in whole pages. */
#include "region/region.h"

#include "base/base.h"
#include "base/error.h"

#include <errno.h>

static int no_mount(const struct covei_place *place)
{
    return covei_error(
        -EOPNOTSUPP,
        "%s: no file system of huge pages is mounted; make one (mount -t hugetlbfs none /dev/hugepages) and "
        "reserve pages (echo NUMBER > /proc/sys/vm/nr_hugepages), or use hugetry:",
        place->name);
}

static uint64_t page_bytes(const struct covei_region *region)
{
    struct covei_file_system system;
    return covei_os->file_system(region->file, &system) == 0 && system.block_bytes > 0 ? system.block_bytes
                                                                                       : UINT64_C(2) << 20;
}

static bool usable(const struct covei_place *place)
{
    struct covei_building building = {.region = {.backend = &covei_backend_huge, .file = -1, .system_id = -1}};
    if (!*place->path || covei_file_build(&building, place, 0) < 0)
        return false;
    uint64_t total = 0, room = covei_file_room(&building.region, &total);
    covei_file_abandon(&building, place);
    return room > 0;
}

static int find(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    return *place->path ? covei_file_find(region, place, flags) : no_mount(place);
}

static int build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    return *place->path ? covei_file_build(building, place, size_bytes) : no_mount(place);
}

/* In whole pages, or a mapping's last bytes would lie beyond the end. */
static int reserve(const struct covei_region *region, const char *name, uint64_t offset, uint64_t size_bytes)
{
    uint64_t page = page_bytes(region), begin = offset / page * page;
    return covei_file_reserve(region, name, begin, covei_round_up(offset + size_bytes, page) - begin);
}

static int map(const struct covei_region *region, void **address, uint64_t offset, uint64_t size_bytes,
               enum covei_access access)
{
    return covei_os->map(address, region->file, offset, size_bytes, access, true);
}

const struct covei_backend covei_backend_huge = {
    .name = "huge",
    .features = COVEI_FEATURE(COVE_CAN_NAME) | COVEI_FEATURE(COVE_CAN_HIDE) | COVEI_FEATURE(COVE_CAN_GROW) |
                COVEI_FEATURE(COVE_CAN_PASS) | COVEI_FEATURE(COVE_CAN_RESERVE) | COVEI_FEATURE(COVE_CAN_REPLACE) |
                COVEI_FEATURE(COVE_HAS_HUGE_PAGES),
    .usable = usable,
    .find = find,
    .build = build,
    .publish = covei_file_publish,
    .abandon = covei_file_abandon,
    .leads_to = covei_file_leads_to,
    .remove = covei_file_remove,
    .set_rights = covei_file_set_rights,
    .stat = covei_file_stat,
    .reserve = reserve,
    .room = covei_file_room,
    .map = map,
    .unmap = covei_file_unmap,
    .read = covei_file_read,
    .write = covei_mapped_write,
    .page_bytes = page_bytes,
};
