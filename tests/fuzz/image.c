/* image.c - the valid segments that the fuzzers damage. Contract: image.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "image.h"

#include "channel/stream_shm.h"
#include "ground.h"
#include "segment/lane_shm.h"
#include "segment/segment_shm.h"

#include <cove.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CAPACITY_BYTES 4096
#define SYNC_NS INT64_C(1000000000)

/* ---- where they lie */

static const char *in_directory(char path[300], const char *format)
{
    (void)snprintf(path, 300, format, ground_directory());
    return path;
}

const char *image_path(void)
{
    static char path[300];
    return in_directory(path, "%s/" IMAGE_SEGMENT ".cove");
}

const char *image_durable_name(void)
{
    static char name[300];
    return in_directory(name, "file:%s/state");
}

const char *image_durable_path(void)
{
    return image_durable_name() + sizeof "file:" - 1;
}

const char *image_synced_path(void)
{
    static char path[300];
    return in_directory(path, "%s/state.synced");
}

/* ---- what is in them */

static void fill_stream(cove_segment *segment)
{
    struct cove_stream_options options = {.capacity_bytes = CAPACITY_BYTES};
    cove_stream *writer = NULL, *reader = NULL;
    unsigned char bytes[300];
    memset(bytes, 'x', sizeof bytes);
    ground_demand(cove_stream_open_in(&writer, segment, IMAGE_STREAM, COVE_WRITER, &options), "writer");
    ground_demand(cove_stream_open_in(&reader, segment, IMAGE_STREAM, COVE_READER, &options), "reader");
    for (size_t size = 1; size < sizeof bytes; size += 60)
        ground_demand(cove_stream_write(writer, bytes, size, COVE_NOWAIT), "write");
    ground_demand(cove_stream_read(reader, bytes, 100, COVE_NOWAIT), "read");
    ground_demand(cove_stream_close(writer), "close");
    ground_demand(cove_stream_close(reader), "close");
}

/* Objects, blocks in use and free, a pending block. Returns a block that is kept. */
static cove_ref fill(cove_segment *segment, void **object)
{
    struct cove_type type = {.name = "struct", .version = 1, .size_bytes = 200};
    fill_stream(segment);
    ground_demand(cove_object_open(object, segment, IMAGE_STRUCT, &type, 0), "object");
    cove_ref first = cove_alloc(segment, 100), second = cove_alloc(segment, 500);
    ground_demand(cove_keep(segment, second), "keep");
    ground_demand(cove_free(segment, first), "free");
    ground_demand(cove_alloc(segment, 40) ? 0 : -1, "alloc");
    return second;
}

/* In the middle of a transaction. */
static void begin(cove_segment *segment, void *object, cove_ref kept)
{
    ground_demand(cove_begin(segment), "begin");
    ground_demand(cove_mutex_lock(segment, object, COVE_NOWAIT), "lock");
    ground_demand(cove_save(segment, (char *)object + 8, 64), "save");
    ground_demand(cove_free(segment, kept), "free in a transaction");
    ground_demand(cove_alloc(segment, 24) ? 0 : -1, "alloc in a transaction");
}

/* ---- words that are worth damaging */

static void add_word(struct image *image, uint64_t place)
{
    image->words[image->word_count++] = (uint32_t)place & ~7u;
}

/* The fields of its streams that are 0 as a rule: a stream begins with its capacity, behind which nothing stands. */
static void add_stream_words(struct image *image, uint32_t at)
{
    static const size_t fields[] = {
        offsetof(struct covei_stream_shm, writer_claim),   offsetof(struct covei_stream_shm, reader_claim),
        offsetof(struct covei_stream_shm, reader_session), offsetof(struct covei_stream_shm, reader_busy),
        offsetof(struct covei_stream_shm, writer_busy),    offsetof(struct covei_stream_shm, turn),
    };
    static const unsigned char zeros[sizeof((struct covei_stream_shm *)0)->reserved];
    if (at + sizeof(struct covei_stream_shm) > image->size || image_word(image, at) != CAPACITY_BYTES ||
        memcmp(image->bytes + at + 8, zeros, sizeof zeros) != 0)
        return;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        add_word(image, at + fields[i]);
}

static void add_zero_words(struct image *image)
{
    static const size_t of_header[] = {
        offsetof(struct covei_header_shm, durable),   offsetof(struct covei_header_shm, must_fence),
        offsetof(struct covei_header_shm, grow_lock), offsetof(struct covei_header_shm, gate_lock),
        offsetof(struct covei_header_shm, lifetime),  offsetof(struct covei_header_shm, sync_lock),
    };
    static const size_t of_lane[] = {
        offsetof(struct covei_lane_shm, tails),
        offsetof(struct covei_lane_shm, inside),
        offsetof(struct covei_lane_shm, journal_block),
        offsetof(struct covei_lane_shm, journal_next),
        offsetof(struct covei_lane_shm, journal_old),
        offsetof(struct covei_lane_shm, life_at),
        offsetof(struct covei_lane_shm, life),
        offsetof(struct covei_lane_shm, held),
        offsetof(struct covei_lane_shm, held) + 8 * (COVEI_LANE_LOCKS - 1),
    };
    struct covei_header_shm header;
    memcpy(&header, image->bytes, sizeof header);
    if (header.magic != COVEI_MAGIC)
        return; /* something else than a segment */
    for (size_t i = 0; i < sizeof of_header / sizeof *of_header; i++)
        add_word(image, of_header[i]);
    /* One page each for states, owners and rows, of so few members; then the lanes. */
    uint64_t lanes_at = COVEI_TABLES_AT + 3 * UINT64_C(4096);
    for (uint32_t lane = 0; lane < header.max_lanes; lane++)
        for (size_t i = 0; i < sizeof of_lane / sizeof *of_lane; i++)
            add_word(image, lanes_at + lane * sizeof(struct covei_lane_shm) + of_lane[i]);
    for (uint32_t at = 0; at < image->size; at += 8)
        add_stream_words(image, at);
}

uint64_t image_word(const struct image *image, uint32_t place)
{
    uint64_t word;
    memcpy(&word, image->bytes + place, 8);
    return word;
}

/* ---- making them */

void image_take(struct image *image, const char *path)
{
    image->size = (uint32_t)ground_read(path, image->bytes, IMAGE_LARGEST);
    if (image->size == 0 || image->size == IMAGE_LARGEST) {
        (void)fprintf(stderr, "%s: an image of %u bytes\n", path, image->size);
        exit(1);
    }
    image->word_count = 0;
    for (uint32_t at = 0; at + 8 <= image->size; at += 8)
        if (image_word(image, at) != 0)
            add_word(image, at);
    add_zero_words(image);
}

static const struct cove_options sizes = {.size_bytes = 16384, .max_size_bytes = 65536, .max_members = 2};

void image_fill(cove_segment *segment)
{
    void *object = NULL;
    cove_ref kept = fill(segment, &object);
    begin(segment, object, kept);
}

void image_make(struct image *image)
{
    cove_segment *segment = NULL;
    ground_demand(cove_open(&segment, IMAGE_SEGMENT, &sizes), "create");
    image_fill(segment);
    image_take(image, image_path());
    ground_demand(cove_abort(segment), "abort");
    ground_demand(cove_close(segment), "close");
    ground_clear();
}

void image_make_durable(struct image *image, struct image *synced)
{
    cove_segment *segment = NULL;
    void *object = NULL;
    ground_demand(cove_open(&segment, image_durable_name(), &sizes), "create");
    cove_ref kept = fill(segment, &object);
    ground_demand(cove_sync(segment, SYNC_NS), "sync");
    image_take(synced, image_synced_path());
    begin(segment, object, kept);
    image_take(image, image_durable_path());
    ground_demand(cove_abort(segment), "abort");
    ground_demand(cove_close(segment), "close");
    ground_clear();
}

/* ---- damage */

#define WHICH (UINT32_C(1) << 23)

/* Returns the file's length. */
static uint32_t damage(const struct image *image, unsigned which, unsigned char *bytes, const uint8_t *data,
                       size_t size)
{
    uint32_t length = image->size;
    while (size >= IMAGE_PATCH_BYTES) {
        uint32_t place = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16, count = data[3] % 33u;
        bool ours = (place & WHICH ? 1u : 0u) == which;
        data += IMAGE_PATCH_BYTES, size -= IMAGE_PATCH_BYTES;
        place &= WHICH - 1;
        if (count == 0 && ours)
            length = place & 1 ? image->size + (place & 0xffff) : place % image->size;
        if (count > size)
            count = (uint32_t)size;
        place %= image->size;
        uint32_t fits = count > image->size - place ? image->size - place : count;
        if (ours)
            memcpy(bytes + place, data, fits);
        data += count, size -= count;
    }
    return length;
}

void image_put(const struct image *image, unsigned which, const char *path, const uint8_t *data, size_t size)
{
    static unsigned char bytes[IMAGE_LARGEST];
    memcpy(bytes, image->bytes, image->size);
    uint32_t length = damage(image, which, bytes, data, size);
    ground_write(path, bytes, image->size, length);
}

size_t image_patch(uint8_t to[IMAGE_PATCH_BYTES + 8], unsigned which, uint32_t place, uint64_t word)
{
    place |= which ? WHICH : 0;
    to[0] = (uint8_t)place, to[1] = (uint8_t)(place >> 8), to[2] = (uint8_t)(place >> 16);
    to[3] = 8;
    memcpy(to + IMAGE_PATCH_BYTES, &word, 8);
    return IMAGE_PATCH_BYTES + 8;
}
