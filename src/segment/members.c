/* members.c - the public view of a segment's members.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "segment/segment.h"

#include <errno.h>

int64_t cove_segment_members(cove_segment *segment, struct cove_member_info *members, size_t capacity)
{
    int result = covei_segment_usable(segment);
    if (result == 0 && !members && capacity > 0)
        result = covei_error(-EINVAL, "%s: there is no place for %zu members", segment->name, capacity);
    if (result < 0)
        return result;
    int64_t count = 0;
    for (uint32_t row = 0; row < segment->max_members; row++) {
        if (!covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)))
            continue;
        if ((size_t)count < capacity)
            covei_row_describe(segment, row, &members[count]);
        count++;
    }
    return count;
}

const char *cove_segment_name(const cove_segment *segment)
{
    return segment ? segment->name : "";
}

int64_t cove_recover(cove_segment *segment)
{
    int result = covei_segment_usable(segment);
    return result < 0 ? result : covei_recover_all(segment, COVEI_PATIENCE_NS);
}

int cove_segment_fd(const cove_segment *segment)
{
    int result = covei_segment_usable(segment);
    if (result < 0)
        return result;
    if (segment->region.system_id >= 0)
        return covei_error(-EOPNOTSUPP, "%s: System V memory has no descriptor", segment->name);
    int file = covei_os->file_copy(segment->region.file);
    return file < 0 ? covei_error(file, "%s: no descriptor can be had: %s; raise ulimit -n", segment->name,
                                  cove_strerror(file))
                    : file;
}
