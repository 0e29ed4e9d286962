/* mapped.c - regions as mapped files, anywhere but on file systems that other machines change too.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What makes them outlive the machine, and what must not be believed after a power cut, stands in segment/durable.c.
 * */
#include "region/region.h"

#include "base/error.h"

#include <errno.h>

static int refuse_network(const struct covei_region *region, const struct covei_place *place)
{
    struct covei_file_system system;
    int result = covei_os->file_system(region->file, &system);
    if (result < 0)
        return covei_error(result, "%s: looking at its file system failed: %s", place->name, cove_strerror(result));
    return system.network ? covei_error(-EOPNOTSUPP,
                                        "%s: %s lies on a network file system, where mapped bytes are not shared "
                                        "memory and locks do not tell who lives; use a local one",
                                        place->name, place->path)
                          : 0;
}

static int find(struct covei_region *region, const struct covei_place *place, uint32_t flags)
{
    int result = covei_file_find(region, place, flags);
    if (result < 0)
        return result;
    result = refuse_network(region, place);
    if (result < 0)
        covei_region_close(region);
    return result;
}

static int build(struct covei_building *building, const struct covei_place *place, uint64_t size_bytes)
{
    int result = covei_file_build(building, place, size_bytes);
    if (result < 0)
        return result;
    result = refuse_network(&building->region, place);
    if (result < 0)
        covei_file_abandon(building, place);
    return result;
}

const struct covei_backend covei_backend_file = {
    .name = "file",
    .features = COVEI_FEATURE(COVE_CAN_USE) | COVEI_FEATURE(COVE_CAN_NAME) | COVEI_FEATURE(COVE_CAN_HIDE) |
                COVEI_FEATURE(COVE_CAN_GROW) | COVEI_FEATURE(COVE_CAN_SYNC) | COVEI_FEATURE(COVE_CAN_PASS) |
                COVEI_FEATURE(COVE_CAN_REPLACE) | COVEI_FEATURE(COVE_CAN_RESERVE),
    .find = find,
    .build = build,
    COVEI_NAMED_FILE,
};
