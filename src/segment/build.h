/* build.h - what building and opening a segment share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_SEGMENT_BUILD_H
#define COVEI_SEGMENT_BUILD_H

#include "segment/segment.h"

#define COVEI_LIFE_CYCLE_NS INT64_C(5000000000) /* how long others may hold us up who open or remove the segment */
#define COVEI_ROWS_LOOKED_AT 3u /* for dead members, when opening and closing */

/* Build the segment `segment->name` and name it `path`. 0, -EEXIST (somebody was first), or an error. On an error the
 * caller drops the handle; the file is closed. */
int covei_segment_build(struct cove_segment *segment, const char *path, const struct cove_options *options,
                        struct covei_file_stat *stat);

/* Read and verify a copy of the header of a file that is not mapped yet. */
int covei_header_read(int file, const char *name, struct covei_header_shm *header);

/* Become a member: take a row, register for being fenced. */
int covei_segment_join(struct cove_segment *segment);

/* A handle that has nothing yet, and what undoes it whatever it has. */
struct cove_segment *covei_handle_new(const char *name, uint32_t flags);
void covei_handle_drop(struct cove_segment *segment);

/* The description that holds this process's byte locks. */
int covei_handle_open_lock_file(struct cove_segment *segment);

/* Take the life-cycle byte, shared or exclusively, waiting until the deadline. 0, -ETIMEDOUT. */
int covei_life_cycle_lock(int file, const char *name, bool exclusive, int64_t deadline);
void covei_life_cycle_unlock(int file);

/* Does the name still lead to that file? */
bool covei_name_leads_to(const char *path, uint64_t device, uint64_t inode);

/* Mark the segment in `file` removed and take its name away. Under its life-cycle byte, exclusively. */
int covei_remove_name(int file, const char *name, const char *path);

/* Finish what a remover that died between the mark and the name began. */
int covei_finish_removal(const char *name, const char *path, int64_t deadline);

#endif
