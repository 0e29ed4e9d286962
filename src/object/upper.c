/* upper.c - what the segment layer needs of heap and objects.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "object/directory.h"

#define FOLD(signature, part) (((uint32_t)(signature) ^ (uint32_t)(part)) * 16777619u) /* FNV-1a, a word at a time */

static void format(struct cove_segment *segment)
{
    covei_heap_format(segment); /* an empty directory is all zeros */
}

const struct covei_upper covei_upper = {
    .signature = FOLD(FOLD(FOLD(FOLD(2166136261u, sizeof(struct covei_heap_shm)), sizeof(struct covei_block_shm)),
                           sizeof(struct covei_directory_shm)),
                      sizeof(struct covei_entry_shm)),
    .features = (UINT64_C(1) << COVEI_TYPE_COUNT) - 2,
    .format = format,
    .settle_lane = covei_settle_lane,
    .settle_row = covei_settle_row,
    .settle_objects = covei_settle_objects,
    .mark_gone = covei_marks_gone,
    .objects_quiet = covei_objects_quiet,
};
