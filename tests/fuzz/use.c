/* use.c - what a program does with a segment, of any bytes. Contract: use.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "use.h"

#include "ground.h"
#include "image.h"
#include "segment/segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whatever the answer is, it is right. */
static void any(int64_t result)
{
    (void)result;
}

/* ---- looking */

enum { MEMBERS = 4, OBJECTS = 8 };

static void take_sentence(const char *sentence, void *context)
{
    *(size_t *)context += strlen(sentence);
}

void use_look(cove_segment *segment, uint64_t place)
{
    struct cove_segment_info info;
    struct cove_member_info members[MEMBERS], holder;
    struct cove_object_info objects[OBJECTS];
    size_t letters = 0;
    any(cove_segment_stat(segment, &info));
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

/* ---- using */

static void use_objects(cove_segment *segment)
{
    struct cove_type type = {.name = "struct", .version = 1, .size_bytes = 200};
    struct cove_type other = {.name = "other", .version = 1, .size_bytes = 100};
    struct cove_object_info objects[4];
    void *object = NULL;
    if (cove_object_open(&object, segment, IMAGE_STRUCT, &type, COVE_EXISTING) >= 0)
        memset((char *)object + 8, 1, 192); /* the address is good for as much as was asked for */
    if (object && cove_mutex_lock(segment, object, COVE_NOWAIT) >= 0)
        (void)cove_mutex_unlock(segment, object);
    any(cove_object_open(&object, segment, "other", &other, 0));
    (void)cove_objects(segment, objects, 4);
    (void)cove_object_remove(segment, "other");
    (void)cove_object_remove(segment, IMAGE_STREAM);
}

static void read_stream(cove_segment *segment)
{
    cove_stream *stream = NULL;
    struct cove_stream_info info;
    unsigned char bytes[700];
    const void *peeked = NULL;
    if (cove_stream_open_in(&stream, segment, IMAGE_STREAM, COVE_READER, NULL) < 0)
        return;
    any(cove_stream_stat(stream, &info));
    for (int i = 0; i < 8; i++) {
        (void)cove_stream_read(stream, bytes, sizeof bytes, i % 4 ? COVE_NOWAIT : 1000000);
        int64_t count = cove_stream_peek(stream, &peeked, COVE_NOWAIT);
        if (count > 0)
            memcpy(bytes, peeked, (size_t)count < sizeof bytes ? (size_t)count : sizeof bytes);
        (void)cove_stream_consume(stream, count > 2 ? (size_t)count / 2 : 0);
    }
    (void)cove_stream_close(stream);
}

static void write_stream(cove_segment *segment)
{
    cove_stream *stream = NULL;
    unsigned char bytes[2000];
    void *room = NULL;
    memset(bytes, 'w', sizeof bytes);
    if (cove_stream_open_in(&stream, segment, IMAGE_STREAM, COVE_WRITER, NULL) < 0)
        return;
    for (size_t size = 1; size < sizeof bytes; size += 333)
        (void)cove_stream_write(stream, bytes, size, size % 2 ? COVE_NOWAIT : 1000000);
    (void)cove_stream_write_many(stream, bytes, 10, 20, COVE_NOWAIT);
    if (cove_stream_reserve(stream, &room, 500, COVE_NOWAIT) == 0) {
        memset(room, 'r', 500);
        (void)cove_stream_commit(stream, 400);
    }
    (void)cove_stream_close(stream);
}

static void use_heap(cove_segment *segment, uint64_t place)
{
    cove_ref refs[5] = {0};
    for (size_t i = 0; i < 5; i++) {
        size_t size = 24 + i * i * 400;
        refs[i] = cove_alloc(segment, size);
        void *memory = cove_at(segment, refs[i], size);
        if (memory)
            memset(memory, 0x5a, size);
    }
    (void)cove_free(segment, place);
    (void)cove_usable_size(segment, place & ~UINT64_C(15));
    for (size_t i = 0; i < 5; i += 2)
        (void)cove_free(segment, refs[i]);
    (void)cove_keep(segment, refs[1]);
}

static void transact(cove_segment *segment)
{
    cove_ref block = cove_alloc(segment, 64);
    unsigned char *memory = cove_at(segment, block, 64);
    if (!memory || cove_begin(segment) < 0)
        return;
    memset(memory, 0, 64);
    any(cove_mutex_lock(segment, (cove_mutex *)(void *)memory, COVE_NOWAIT));
    for (int i = 0; i < 40 && cove_save(segment, memory + 8, 40) == 0; i++)
        memory[8 + i] = 1;
    any(cove_alloc_into(segment, (cove_ref *)(void *)(memory + 48), 32));
    (void)cove_free(segment, block);
    (void)(block & 16 ? cove_abort(segment) : cove_commit(segment));
}

void use_segment(cove_segment *segment, uint64_t place)
{
    use_objects(segment);
    read_stream(segment);
    write_stream(segment);
    use_heap(segment, place);
    transact(segment);
    (void)cove_recover(segment);
}

bool use_close(cove_segment *segment)
{
    if (cove_close(segment) != -EBUSY)
        return true;
    (void)cove_abort(segment);
    for (uint32_t i = 0; i < segment->max_lanes; i++) {
        atomic_store(&segment->lanes[i].tails, 0);
        for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
            atomic_store(&segment->lanes[i].held[place], 0);
    }
    return cove_close(segment) >= 0;
}

uint64_t use_place(const uint8_t *data, size_t size)
{
    uint64_t place = 0;
    memcpy(&place, data, size < 3 ? size : 3);
    return place;
}
