/* fuzz_durable.c - a segment that outlives the machine, and its synced copy, of any bytes: what is believed after a
 * power cut, putting the copy back, cove_sync.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Head: one byte, see enum. The patches' bit says whether they are for the segment or for the copy. Opening and
 * syncing end in time, whatever lies there; what cove_sync wrote and called good is opened again after a power
 * cut. */
#include "ground.h"
#include "segment/segment_shm.h"
#include "target.h"
#include "use.h"

#include <cove.h>

#include <stddef.h>
#include <string.h>
#include <unistd.h>

enum head {
    OTHER_RUN = 1, /* the machine stopped, and was started again */
    CLEAN = 2, /* it says that it was left clean */
    NO_COPY = 4,
    READONLY = 8,
    GUARD = 16,
    USE = 32, /* before syncing */
    CUT = 64, /* the power, after syncing */
};

#define TIMEOUT_NS INT64_C(1000000)
/* A call may recover a dead member on its way, with patience for each of its locks (2 s), and an opening waits 5 s by
 * default. */
#define LATE_NS INT64_C(15000000000)

static struct image images[2];

static void begin(void)
{
    ground_begin();
    image_make_durable(&images[0], &images[1]);
}

const struct target target = {.head_bytes = 1, .images = {&images[0], &images[1]}, .begin = begin};

static void store(size_t place, const void *bytes, size_t size)
{
    static unsigned char file[2 * IMAGE_LARGEST];
    size_t length = ground_read(image_durable_path(), file, sizeof file);
    if (place + size > length)
        return;
    memcpy(file + place, bytes, size);
    ground_write(image_durable_path(), file, length, length);
}

static void cut_power(bool clean)
{
    static const uint8_t other_run[16] = "another run";
    uint32_t word = clean;
    store(offsetof(struct covei_header_shm, boot_id), other_run, sizeof other_run);
    store(offsetof(struct covei_header_shm, clean), &word, sizeof word);
}

static int open_it(cove_segment **segment, uint32_t flags)
{
    int64_t before = ground_slept_ns();
    struct cove_options options = {.flags = COVE_EXISTING | flags, .timeout_ns = TIMEOUT_NS};
    int result = cove_open(segment, image_durable_name(), &options);
    ground_in_time(before, LATE_NS, "opening took too long");
    return result;
}

static int sync_it(cove_segment *segment)
{
    int64_t before = ground_slept_ns();
    int result = cove_sync(segment, TIMEOUT_NS);
    ground_in_time(before, LATE_NS, "syncing took too long");
    return result;
}

/* What was written as a whole segment is one. */
static void open_after_cut(void)
{
    cove_segment *segment = NULL;
    cut_power(false);
    int result = open_it(&segment, 0);
    if (result == COVE_EUNCLEAN || result == COVE_ENOTCOVE || result == COVE_ELAYOUT)
        ground_fail("what cove_sync wrote is no segment");
    if (result >= 0 && !use_close(segment))
        ground_fail("it cannot be closed");
}

static void use(cove_segment *segment, uint8_t head, uint64_t place)
{
    if (head & READONLY)
        use_look(segment, place);
    else if (head & USE)
        use_segment(segment, place);
    (void)sync_it(segment);
    bool good = sync_it(segment) == 0; /* the first one may have recovered somebody */
    (void)cove_segment_check(segment, NULL, NULL);
    if (!use_close(segment))
        ground_fail("it cannot be closed");
    if (good && head & CUT)
        open_after_cut();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cove_segment *segment = NULL;
    uint8_t head = size > 0 ? data[0] : 0;
    const uint8_t *patches = data + (size > 0);
    size_t patch_bytes = size - (size > 0);
    ground_clear();
    image_put(&images[0], 0, image_durable_path(), patches, patch_bytes);
    if (!(head & NO_COPY))
        image_put(&images[1], 1, image_synced_path(), patches, patch_bytes);
    if (head & OTHER_RUN)
        cut_power((head & CLEAN) != 0);
    uint32_t flags = (head & READONLY ? COVE_READONLY : 0) | (head & GUARD ? COVE_GUARD : 0);
    if (open_it(&segment, flags) >= 0)
        use(segment, head, use_place(data, size));
    (void)cove_unlink(image_durable_name(), 1);
    return 0;
}
