/* fuzz_look.c - looking at a segment of any bytes, read-only: stat, members, objects, check, as a region, what gc
 * would do.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Head: one byte; bit 0: COVE_GUARD. Looking changes nothing: the file is compared afterwards. */
#include "ground.h"
#include "target.h"
#include "use.h"

#include <cove.h>

#include <string.h>

static struct image image;

static void begin(void)
{
    ground_begin();
    image_make(&image);
}

const struct target target = {.head_bytes = 1, .images = {&image}, .begin = begin};

static void look(const uint8_t *data, size_t size)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    struct cove_region_info region;
    uint32_t guard = size > 0 && data[0] & 1 ? COVE_GUARD : 0;
    (void)cove_stat(IMAGE_SEGMENT, &info);
    (void)cove_region_look(IMAGE_SEGMENT, &region);
    if (cove_open(&segment, IMAGE_SEGMENT, &(struct cove_options){.flags = COVE_READONLY | guard}) == 0) {
        use_look(segment, use_place(data, size));
        (void)cove_close(segment);
    }
    (void)cove_gc(1, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char before[2 * IMAGE_LARGEST], after[2 * IMAGE_LARGEST];
    ground_clear();
    image_put(&image, 0, image_path(), data + (size > 0), size - (size > 0));
    size_t length = ground_read(image_path(), before, sizeof before);
    look(data, size);
    if (ground_read(image_path(), after, sizeof after) != length || memcmp(before, after, length) != 0)
        ground_fail("looking changed the segment");
    return 0;
}
