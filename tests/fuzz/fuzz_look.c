/* fuzz_look.c - looking at a segment of any bytes, read-only: stat, members, objects, check. No crash, no hang, no step beside the mapping.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "image.h"

#include <cove.h>

#include <string.h>

enum { MEMBERS = 4, OBJECTS = 8 };

static void take_sentence(const char *sentence, void *context)
{
    *(size_t *)context += strlen(sentence);
}

static void look(cove_segment *segment, uint64_t place)
{
    struct cove_segment_info info;
    struct cove_member_info members[MEMBERS], holder;
    struct cove_object_info objects[OBJECTS];
    size_t letters = 0;
    (void)cove_segment_stat(segment, &info);
    int64_t count = cove_segment_members(segment, members, MEMBERS);
    for (int64_t i = 0; i < count && i < MEMBERS; i++)
        letters += strlen(members[i].command);
    count = cove_objects(segment, objects, OBJECTS);
    for (int64_t i = 0; i < count && i < OBJECTS; i++)
        letters += strlen(objects[i].name) + strlen(objects[i].type) + strlen(objects[i].figures);
    (void)cove_segment_check(segment, take_sentence, &letters);
    const cove_mutex *mutex = cove_at(segment, place & ~UINT64_C(7), sizeof *mutex);
    if (mutex)
        (void)cove_mutex_holder(segment, mutex, &holder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    uint64_t place = 0;
    image_put(data, size);
    memcpy(&place, data, size < 3 ? size : 3);
    (void)cove_stat(IMAGE_SEGMENT, &info);
    if (cove_open(&segment, IMAGE_SEGMENT, &(struct cove_options){.flags = COVE_READONLY}) == 0) {
        look(segment, place);
        (void)cove_close(segment);
    }
    (void)cove_gc(1, NULL, NULL);
    return 0;
}
