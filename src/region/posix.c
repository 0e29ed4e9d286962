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
    COVEI_NAMED_FILE,
};
