/* image.c - the segment that the kill table's trials begin with, and the looks that its processes take at it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * It is built once for a scenario, by the library itself, in a process that then closes it; each trial begins with a
 * copy of the file. It is small, so that every byte of it can be compared after every instruction, and dirty: blocks
 * were taken, filled and freed in a jumble, journals hold what was undone, the stream's ring has been around. A
 * structure that trusts memory to be zero, or reads a journal's stale end, shows here. */
#include "hall.h"

#include <stdlib.h>
#include <string.h>

enum { DIRTY_BLOCKS = 24, DIRTY_ROUNDS = 160 };

static const struct cove_type account_type = {"account", 1, 0, sizeof(struct account)};
static const struct cove_type root_type = {"root", 1, 0, sizeof(struct root)};
static const struct cove_type wide_type = {"wide", 1, 0, sizeof(struct wide)};
static const struct cove_type hall_type = {"hall", 1, 0, sizeof(struct hall)};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27;
    x *= UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

void fill_pattern(void *memory, size_t size_bytes, uint64_t seed)
{
    unsigned char *bytes = memory;
    for (size_t i = 0; i < size_bytes; i++)
        bytes[i] = (unsigned char)(mix(seed + i / 8) >> i % 8 * 8 | 1); /* never 0: a zeroed byte shows */
}

int pattern_holds(const void *memory, size_t size_bytes, uint64_t seed)
{
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size_bytes; i++)
        if (bytes[i] != (unsigned char)(mix(seed + i / 8) >> i % 8 * 8 | 1))
            return 0;
    return 1;
}

static void dirty_heap(struct stage *stage)
{
    cove_ref live[DIRTY_BLOCKS] = {0};
    for (uint64_t i = 0; i < DIRTY_ROUNDS; i++) {
        cove_ref *slot = &live[mix(i) % DIRTY_BLOCKS];
        size_t size_bytes = 1 + mix(i + 1000) % 700;
        if (*slot != 0)
            must(stage, cove_free(stage->segment, *slot) == 0, "building: free");
        *slot = cove_alloc(stage->segment, size_bytes);
        if (must(stage, *slot != 0, "building: alloc"))
            fill_pattern(cove_at(stage->segment, *slot, size_bytes), size_bytes, i);
    }
    for (size_t i = 0; i < DIRTY_BLOCKS; i++)
        must(stage, cove_free(stage->segment, live[i]) == 0, "building: free");
}

static void dirty_journal(struct stage *stage)
{
    uint64_t *cell = stage->wide->cell;
    for (size_t round = 0; round < 3; round++) {
        int good = cove_begin(stage->segment) == 0 &&
                   cove_mutex_lock(stage->segment, &stage->wide->lock, PATIENCE_NS) == 0;
        for (size_t i = 0; good && i < 32; i++) {
            good = cove_save(stage->segment, &cell[i * 7], 24 + round * 8) == 0;
            memset(&cell[i * 7], 0xa5, 24 + round * 8);
        }
        must(stage, good && cove_abort(stage->segment) == 0, "building: an aborted transaction");
    }
}

static void dirty_stream(struct stage *stage)
{
    unsigned char bytes[700];
    cove_stream *writer = NULL, *reader = NULL;
    struct cove_stream_options options = {.capacity_bytes = STREAM_BYTES};
    int good = cove_stream_open_in(&writer, stage->segment, STREAM_NAME, COVE_WRITER, &options) >= 0 &&
               cove_stream_open_in(&reader, stage->segment, STREAM_NAME, COVE_READER, &options) >= 0;
    must(stage, good, "building: opening the stream");
    for (uint64_t i = 0; good && i < 23; i++) {
        size_t length = 100 + i * 23 % 600;
        fill_pattern(bytes, length, i);
        good = cove_stream_write(writer, bytes, length, PATIENCE_NS) == (int64_t)length;
        for (size_t got = 0; good && got < length;) {
            int64_t now = cove_stream_read(reader, bytes, length - got, PATIENCE_NS);
            good = now > 0;
            got += good ? (size_t)now : 0;
        }
    }
    must(stage, good, "building: a lap of the stream");
    if (writer != NULL)
        cove_stream_close(writer);
    /* The reader meets the end of the stream, so that the next one begins afresh. */
    if (reader != NULL)
        must(stage, cove_stream_read(reader, bytes, sizeof bytes, PATIENCE_NS) == 0, "building: end of stream");
    if (reader != NULL)
        cove_stream_close(reader);
}

static void *open_object(struct stage *stage, const char *name, const struct cove_type *type)
{
    void *object = NULL;
    uint32_t flags = stage->role == ROLE_BUILDER ? 0 : COVE_EXISTING;
    if (!must(stage, cove_object_open(&object, stage->segment, name, type, flags) >= 0, "opening an object"))
        exit(4);
    return object;
}

static void open_objects(struct stage *stage)
{
    stage->alice = open_object(stage, "alice", &account_type);
    stage->bob = open_object(stage, "bob", &account_type);
    stage->carol = open_object(stage, "carol", &account_type);
    stage->root = open_object(stage, "root", &root_type);
    stage->wide = open_object(stage, "wide", &wide_type);
    if (stage->scenario->traits & IN_HALL)
        stage->hall = open_object(stage, "hall", &hall_type);
}

void stage_open_at(struct stage *stage, const char *name)
{
    struct cove_options options = {.flags = COVE_EXISTING};
    if (!must(stage, cove_open(&stage->segment, name, &options) >= 0, "opening the segment"))
        exit(4);
    open_objects(stage);
}

void stage_open(struct stage *stage)
{
    stage_open_at(stage, stage_name(stage));
}

void stage_close(struct stage *stage)
{
    if (stage->segment == NULL)
        return;
    must(stage, cove_close(stage->segment) == 0, "closing the segment");
    stage->segment = NULL;
}

void image_fill(struct stage *stage)
{
    struct cove_options options = {
        .flags = COVE_EXCLUSIVE, .size_bytes = 40 * 1024, .max_size_bytes = 16 << 20, .max_members = 6};
    if (!must(stage, cove_open(&stage->segment, stage_name(stage), &options) == COVE_CREATED, "building: create"))
        exit(4);
    open_objects(stage);
    stage->alice->cents = stage->bob->cents = stage->carol->cents = START_CENTS;
    dirty_heap(stage);
    dirty_journal(stage);
    dirty_stream(stage);
    if (stage->hall != NULL)
        hall_fill(stage);
    if (stage->scenario->build != NULL)
        stage->scenario->build(stage);
}

static void note_finding(const char *sentence, void *context)
{
    finding(context, VERDICT_CORRUPT, "check: %s", sentence);
}

int stage_check(struct stage *stage)
{
    int64_t found = cove_segment_check(stage->segment, note_finding, stage);
    must(stage, found >= 0, "cove_segment_check");
    return (int)found;
}
