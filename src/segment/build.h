/* build.h - what building, opening, closing and removing a segment share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_SEGMENT_BUILD_H
#define COVEI_SEGMENT_BUILD_H

#include "segment/segment.h"

#define COVEI_ROWS_LOOKED_AT 3u /* for dead members, when opening and closing */

/* Build the segment of segment->place and give it its name. 0, -EEXIST (somebody was first), or an error. On an error
 * the caller drops the handle; the memory is gone. */
int covei_segment_build(struct cove_segment *segment, const struct cove_options *options);

/* Read and verify a copy of the header of memory that is not mapped yet. */
int covei_header_read(const struct covei_region *region, const char *name, struct covei_header_shm *header);

/* Become a member: take a row, register for being fenced. */
int covei_segment_join(struct cove_segment *segment);

/* A handle that has nothing yet, and what undoes it whatever it has. */
struct cove_segment *covei_handle_new(const struct covei_place *place, uint32_t flags);
void covei_handle_drop(struct cove_segment *segment);

/* The description that holds this process's byte locks. */
int covei_handle_open_lock_file(struct cove_segment *segment, const char *path);

/* Mark the segment removed and take its name away. Under its life-cycle byte, exclusively. */
int covei_remove_name(const struct covei_region *region, const struct covei_place *place);

/* Finish what a remover that died between the mark and the name began. */
int covei_finish_removal(const struct covei_place *place, int64_t deadline);

/* ---- durable.c: segments that outlive the machine */

/* Is it of another run, and was it in use then, so that nothing in it need agree? With a sentence. */
bool covei_durable_torn(const struct covei_header_shm *header, const struct covei_place *place);
/* Under the life-cycle byte, exclusively, with or without living members: may what the file holds be believed? Marks
 * it as in use if so. 0, COVE_EUNCLEAN, or an error. */
int covei_durable_begin(struct cove_segment *segment, bool has_members);
/* Likewise, when the last member goes: write it back, and mark it clean. */
void covei_durable_end(struct cove_segment *segment);
/* Where the copy of a segment that cove_sync wrote lies. */
int covei_durable_synced(struct covei_place *place, const struct covei_place *of);
/* Remove the copy of a segment that goes. */
void covei_durable_forget(const struct covei_place *place);
/* Was the segment last begun with in this run of the system? 1, 0, or -1: nobody can tell. */
int covei_same_run(const struct covei_header_shm *header);
/* Put the synced copy in the place of an unclean file. 0, or COVE_EUNCLEAN where there is none. */
int covei_durable_restore(const struct covei_place *place, uint32_t flags, int64_t deadline);

#endif
