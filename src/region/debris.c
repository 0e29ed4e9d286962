/* debris.c - clearing up after builders that died.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Debris is known by its name, which nobody gives a file that he wants to keep, and by its first byte, whose lock its
 * builder held and the kernel dropped. We hold that lock while we remove it, so that a builder who has only just made
 * his file finds it locked and takes another name. */
#include "region/region.h"

#include <stdio.h>
#include <string.h>

bool covei_debris_clear_one(const char *directory, const char *file_name, bool dry_run)
{
    struct covei_place place = {.backend = COVEI_POSIX, .raw = true};
    struct covei_region region = {.backend = &covei_backend_posix, .file = -1, .system_id = -1};
    if (strncmp(file_name, COVEI_DEBRIS_PREFIX, sizeof COVEI_DEBRIS_PREFIX - 1) != 0)
        return false;
    int length = snprintf(place.path, sizeof place.path, "%s/%s", directory, file_name);
    (void)snprintf(place.name, sizeof place.name, "%s", file_name);
    if (length < 0 || (size_t)length >= sizeof place.path || covei_file_find(&region, &place, 0) < 0)
        return false;
    bool dead = covei_os->lock_try(region.file, COVEI_DEBRIS_BYTE, true) == 0;
    if (dead && !dry_run)
        (void)covei_os->path_remove(place.path);
    covei_region_close(&region);
    return dead;
}

struct clearing {
    const char *directory;
    bool dry_run;
    int64_t count;
};

static int clear_one(const char *file_name, void *context)
{
    struct clearing *clearing = context;
    clearing->count += covei_debris_clear_one(clearing->directory, file_name, clearing->dry_run);
    return 0;
}

int64_t covei_debris_clear(const struct covei_place *place, bool dry_run)
{
    char directory[COVEI_PATH_MAX];
    covei_place_directory(place, directory);
    struct clearing clearing = {.directory = directory, .dry_run = dry_run};
    int result = covei_os->directory_each(directory, clear_one, &clearing);
    return result < 0 ? result : clearing.count;
}
