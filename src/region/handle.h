/* handle.h - one process's handle to a public region.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_REGION_HANDLE_H
#define COVEI_REGION_HANDLE_H

#include "region/region.h"

#include <stdatomic.h>

struct cove_region {
    struct covei_region region;
    void *mapped; /* whole pages; NULL: nothing is mapped */
    uint64_t mapped_bytes;
    unsigned char *data; /* the part in them */
    uint64_t offset, length; /* of the part */
    uint32_t flags;
    /* From opening with COVE_GUARD, or from the truncation that a guarded access met, to closing; NULL: not so. */
    struct covei_guarded *_Atomic guarded;
    struct covei_place place;
};

#endif
