/* segment_stream.c - streams between two processes, in each way of waiting; full names of objects.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <signal.h>
#include <unistd.h>

#define TOTAL_BYTES 200000
#define RING_BYTES 16384

static uint8_t byte_at(uint64_t position)
{
    return (uint8_t)(position * 31 % 251);
}

struct stream_part {
    uint32_t flags; /* how it waits */
    const char *name; /* the full name of the stream; NULL: "pipe" in the subject's segment */
    cove_segment *segment;
};

static cove_stream *end_of(struct subject *s, struct stream_part *given, enum cove_end end)
{
    cove_stream *stream = NULL;
    struct cove_stream_options options = {.flags = given->flags, .capacity_bytes = RING_BYTES};
    if (given->name)
        GOOD(cove_stream_open(&stream, given->name, end, &options));
    else {
        given->segment = segment_open(s, 0);
        GOOD(cove_stream_open_in(&stream, given->segment, "pipe", end, &options));
    }
    return stream;
}

/* Pieces of changing length, which do not divide the ring. */
static void write_all(struct subject *s, void *context)
{
    struct stream_part given = *(struct stream_part *)context;
    cove_stream *stream = end_of(s, &given, COVE_WRITER);
    uint8_t piece[997];
    for (uint64_t at = 0; at < TOTAL_BYTES;) {
        size_t count = (size_t)(at % 991) + 7;
        count = count < TOTAL_BYTES - at ? count : (size_t)(TOTAL_BYTES - at);
        for (size_t i = 0; i < count; i++)
            piece[i] = byte_at(at + i);
        EQUAL((int64_t)count, cove_stream_write(stream, piece, count, PATIENCE_NS));
        at += count;
    }
    EQUAL(0, cove_stream_close(stream));
    EQUAL(0, cove_close(given.segment));
}

static void read_all(struct subject *s, struct stream_part *given)
{
    cove_stream *stream = end_of(s, given, COVE_READER);
    uint8_t piece[1500];
    uint64_t at = 0;
    int64_t count;
    while ((count = GOOD(cove_stream_read(stream, piece, sizeof piece, PATIENCE_NS))) > 0)
        for (int64_t i = 0; i < count; i++, at++)
            CHECK(piece[i] == byte_at(at));
    CHECK(at == TOTAL_BYTES);
    EQUAL(0, cove_stream_close(stream));
    EQUAL(0, cove_close(given->segment));
}

static void stream_by(struct subject *s, uint32_t flags)
{
    struct stream_part given = {.flags = flags};
    cove_segment *segment = segment_make(s);
    pid_t writer = start(write_all, s, &given);
    read_all(s, &given);
    join(writer);
    segment_leave(s, segment);
}

static void stream(struct subject *s)
{
    stream_by(s, 0);
}

static void stream_that_sleeps(struct subject *s)
{
    stream_by(s, COVE_STREAM_NOSPIN);
}

static void stream_that_spins(struct subject *s)
{
    stream_by(s, COVE_STREAM_SPIN);
}

/* ---- an end that dies */

static void write_and_wait(struct subject *s, void *context)
{
    struct stream_part given = *(struct stream_part *)context;
    cove_stream *stream_end = end_of(s, &given, COVE_WRITER);
    EQUAL(5, cove_stream_write(stream_end, "hello", 5, PATIENCE_NS));
    reach(STEP_READY);
    wait_for_death();
}

/* The reader is asleep, or spins, when the writer is killed: what was committed comes, then the news. */
static void kill_when_it_waits(struct subject *s, void *writer)
{
    char state = 0;
    char path[64];
    (void)s;
    await(STEP_GO); /* the reader has read all, and waits, or is about to */
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)getppid());
    for (unsigned looks = 0; state != 'S' && looks < 200; looks++) { /* one that spins never sleeps */
        FILE *file = fopen(path, "re");
        CHECK(file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
        (void)fclose(file);
    }
    CHECK(kill(*(pid_t *)writer, SIGKILL) == 0);
}

static void killed_writer_by(struct subject *s, uint32_t flags)
{
    struct stream_part given = {.flags = flags};
    char text[16];
    cove_segment *segment = segment_make(s);
    pid_t writer = start(write_and_wait, s, &given);
    await(STEP_READY);
    cove_stream *reader = end_of(s, &given, COVE_READER);
    pid_t killer = start(kill_when_it_waits, s, &writer);
    EQUAL(5, cove_stream_read(reader, text, sizeof text, PATIENCE_NS));
    CHECK(memcmp(text, "hello", 5) == 0);
    reach(STEP_GO);
    EQUAL(COVE_EPEER, cove_stream_read(reader, text, sizeof text, PATIENCE_NS));
    join(killer);
    killed(writer);
    EQUAL(-EAGAIN, cove_stream_read(reader, text, sizeof text, COVE_NOWAIT)); /* told once */
    EQUAL(0, cove_stream_close(reader));
    EQUAL(0, cove_close(given.segment));
    segment_leave(s, segment);
}

static void killed_writer(struct subject *s)
{
    killed_writer_by(s, COVE_STREAM_NOSPIN);
}

static void killed_writer_spinning(struct subject *s)
{
    killed_writer_by(s, COVE_STREAM_SPIN);
}

static void read_and_wait(struct subject *s, void *context)
{
    struct stream_part given = *(struct stream_part *)context;
    char text[16];
    cove_stream *reader = end_of(s, &given, COVE_READER);
    EQUAL(5, cove_stream_read(reader, text, sizeof text, PATIENCE_NS));
    reach(STEP_READY);
    wait_for_death();
}

static void killed_reader_by(struct subject *s, uint32_t flags)
{
    struct stream_part given = {.flags = flags};
    static uint8_t much[2 * RING_BYTES];
    cove_segment *segment = segment_make(s);
    cove_stream *writer = end_of(s, &given, COVE_WRITER);
    pid_t reader = start(read_and_wait, s, &given);
    EQUAL(5, cove_stream_write(writer, "hello", 5, PATIENCE_NS));
    await(STEP_READY);
    killed(reader);
    int64_t count = cove_stream_write(writer, much, sizeof much, PATIENCE_NS); /* more than there is room for */
    if (count >= 0)
        count = cove_stream_write(writer, much, 1, PATIENCE_NS);
    EQUAL(COVE_EPEER, count);
    EQUAL(0, cove_stream_close(writer));
    EQUAL(0, cove_close(given.segment));
    segment_leave(s, segment);
}

static void killed_reader(struct subject *s)
{
    killed_reader_by(s, COVE_STREAM_NOSPIN);
}

static void killed_reader_spinning(struct subject *s)
{
    killed_reader_by(s, COVE_STREAM_SPIN);
}

/* ---- full names */

/* SEGMENT/OBJECT, with two slashes where the segment's part holds some; the other way is told. */
static void full_name(struct subject *s)
{
    char name[NAME_BYTES + 16], other[NAME_BYTES + 16];
    struct stream_part given = {.name = name};
    cove_segment *segment = segment_make(s);
    bool has_slash = strchr(s->other, '/') != NULL;
    (void)snprintf(name, sizeof name, "%s%s/in/pipe", s->other, has_slash ? "/" : "");
    (void)snprintf(other, sizeof other, "%s%s/in/pipe", s->other, has_slash ? "" : "/");
    pid_t writer = start(write_all, s, &given);
    read_all(s, &given);
    join(writer);
    cove_stream *one = NULL;
    struct cove_object_info object;
    EQUAL(COVE_ENAME, cove_stream_open(&one, other, COVE_WRITER, NULL));
    EQUAL(1, cove_objects(segment, &object, 1));
    CHECK(strcmp(object.name, "in/pipe") == 0 && strcmp(object.type, "stream") == 0);
    segment_leave(s, segment);
}

static const struct row table[] = {
    {"stream", stream, NO_FEATURE},
    {"stream.sleeping", stream_that_sleeps, NO_FEATURE},
    {"stream.spinning", stream_that_spins, NO_FEATURE},
    {"stream.killed-writer", killed_writer, NO_FEATURE},
    {"stream.killed-writer-spins", killed_writer_spinning, NO_FEATURE},
    {"stream.killed-reader", killed_reader, NO_FEATURE},
    {"stream.killed-reader-spins", killed_reader_spinning, NO_FEATURE},
    {"stream.full-name", full_name, NO_FEATURE},
};
const struct rows segment_stream_rows = ROWS(table);
