/* fuzz_use.c - joining a segment of any bytes and using it: recovery of what lies in it, objects, streams, blocks,
 * transactions.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Head: one byte; bit 0: COVE_GUARD. */
#include "ground.h"
#include "target.h"
#include "use.h"

#include <cove.h>

#include <stdlib.h>

#define OPEN_NS INT64_C(1000000)

static struct image image;

static void begin(void)
{
    ground_begin();
    image_make(&image);
}

const struct target target = {.head_bytes = 1, .images = {&image}, .begin = begin};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cove_segment *segment = NULL;
    uint32_t guard = size > 0 && data[0] & 1 ? COVE_GUARD : 0;
    ground_clear();
    image_put(&image, 0, image_path(), data + (size > 0), size - (size > 0));
    struct cove_options options = {.flags = COVE_EXISTING | guard, .timeout_ns = OPEN_NS};
    if (cove_open(&segment, IMAGE_SEGMENT, &options) < 0)
        return 0;
    (void)cove_segment_check(segment, NULL, NULL);
    use_segment(segment, use_place(data, size));
    (void)cove_segment_check(segment, NULL, NULL);
    if (!use_close(segment))
        ground_fail("it cannot be closed");
    (void)cove_gc(0, NULL, NULL);
    (void)cove_unlink(IMAGE_SEGMENT, 1);
    return 0;
}
