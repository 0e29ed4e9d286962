/* posix.c - regions as files of the directory of POSIX shared memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "region/region.h"

static bool usable(const struct covei_place *place)
{
    struct covei_file_stat stat;
    (void)place;
    return covei_os->path_follow(cove_directory(), &stat) == 0 && stat.kind == COVEI_FILE_DIRECTORY;
}

const struct covei_backend covei_backend_posix = {
    .name = "posix",
    .features = COVEI_FEATURE(COVE_CAN_NAME) | COVEI_FEATURE(COVE_CAN_HIDE) | COVEI_FEATURE(COVE_CAN_GROW) |
                COVEI_FEATURE(COVE_CAN_PASS) | COVEI_FEATURE(COVE_CAN_REPLACE) | COVEI_FEATURE(COVE_CAN_RESERVE),
    .usable = usable,
    .find = covei_file_find,
    .build = covei_file_build,
    .publish = covei_file_publish,
    .abandon = covei_file_abandon,
    .leads_to = covei_file_leads_to,
    .remove = covei_file_remove,
    .set_rights = covei_file_set_rights,
    .stat = covei_file_stat,
    .reserve = covei_file_reserve,
    .room = covei_file_room,
    .map = covei_file_map,
    .unmap = covei_file_unmap,
    .read = covei_file_read,
    .write = covei_file_write,
    .page_bytes = covei_file_page_bytes,
};
