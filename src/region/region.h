/* region.h - named stretches of raw shared bytes: finding, building and naming them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One backend so far: files in the directory of POSIX shared memory. */
#ifndef COVEI_REGION_REGION_H
#define COVEI_REGION_REGION_H

#include "os/os.h"
#include "region/name.h"

#include <cove/segment.h>

#define COVEI_DEBRIS_PREFIX ".cove-new-" /* files that are being built where the system has no nameless ones */
#define COVEI_DEBRIS_BYTE UINT64_C(0) /* locked by the builder while it lives */

/* Open the file of an existing region and look at it before anything is believed: a regular file, of this user unless
 * COVE_ANY_OWNER. Returns a descriptor, -ENOENT, COVE_ENOTCOVE, COVE_EOWNER, -EACCES, ..., with a sentence. */
int covei_region_open(const char *name, const char *path, uint32_t flags, struct covei_file_stat *stat);

/* A region that is being built and has no name yet. */
struct covei_building {
    int file;
    char path[COVEI_PATH_MAX]; /* of the temporary file; "" where the file is nameless */
};

/* Begin one in the directory that segments live in. 0 or an error with a sentence. */
int covei_region_build(struct covei_building *building, const char *name);

/* Give it its name, in one step that fails with -EEXIST if somebody was first. The file then belongs to the caller.
 * */
int covei_region_publish(struct covei_building *building, const char *name, const char *path);

/* Drop it; nothing stays. The file is closed. */
void covei_region_abandon(struct covei_building *building);

/* -ENOSPC, with a sentence that gives the bytes needed, those free, and the fix. */
int covei_region_no_room(const char *name, uint64_t needed_bytes, uint64_t free_bytes, uint64_t total_bytes);

/* Memory for [offset, offset + size) of the file, or an error with a sentence. */
int covei_region_reserve(int file, const char *name, uint64_t offset, uint64_t size_bytes);

#endif
