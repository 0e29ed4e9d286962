/* ops_stream.c - the kill table's scenarios of the stream.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Byte n of what a trial sends is a function of n, so that a byte lost, doubled, torn or stale shows wherever it is read.
 * The ledger keeps how many bytes each side was told to have written and read:
 *
 *   SENT   acknowledged to the writer       all of them are read, once, by this reader or a later one
 *   TAKEN  acknowledged to the reader       none of them is read again
 *   ASKED  the writer is about to have sent no byte beyond this is ever read
 *   GIVEN  the reader is about to have taken
 *
 * A victim that dies between its change and its note of it leaves the two apart: any value from the one to the other is
 * right, but only whole calls. The peer learns of the end once: 0 after a close, COVE_EPEER after a death. */
#include "stage.h"

#include <errno.h>
#include <string.h>

enum { SENT, ASKED, TAKEN, GIVEN, ENDS };
enum {
    PIECE = 300,
    PIECES = 3,
    MANY = 5,
    MANY_PIECE = 60,
    LONG = 3000,
    PART = 250,
    ROOM = 700,
    READ_BYTES = 5000,
    ALL_BYTES = 8192
};

/* Made beforehand, and looked at afterwards: neither is to be stepped. */
static unsigned char outgoing[ALL_BYTES], incoming[ALL_BYTES];
static int64_t incoming_count;

static unsigned char byte_at(uint64_t n)
{
    return (unsigned char)(n * 167 + (n >> 8) * 59 + 1);
}

/* In the harness, before it forks anybody. */
__attribute__((constructor)) static void make_outgoing(void)
{
    for (size_t i = 0; i < sizeof outgoing; i++)
        outgoing[i] = byte_at(i);
}

static void check_bytes(struct stage *stage, const unsigned char *bytes, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != byte_at(from + i)) {
            finding(stage, VERDICT_CORRUPT, "byte %llu of the stream is %u, not %u", (unsigned long long)(from + i),
                    bytes[i], byte_at(from + i));
            return;
        }
}

static uint64_t *number(struct stage *stage, int which)
{
    return &stage->ledger->number[which];
}

static void open_end(struct stage *stage, enum cove_end end)
{
    struct cove_stream_options options = {.flags = COVE_EXISTING | COVE_STREAM_NOSPIN};
    must(stage, cove_stream_open_in(&stage->stream, stage->segment, STREAM_NAME, end, &options) >= 0,
         end == COVE_WRITER ? "opening the writer's end" : "opening the reader's end");
}

static void open_writer(struct stage *stage)
{
    open_end(stage, COVE_WRITER);
}

static void open_reader(struct stage *stage)
{
    open_end(stage, COVE_READER);
}

static void close_end(struct stage *stage)
{
    if (stage->stream != NULL)
        must(stage, cove_stream_close(stage->stream) == 0, "closing the stream");
    stage->stream = NULL;
}

/* Writes what comes next; returns how much went in. */
static int64_t send_next(struct stage *stage, size_t count, int64_t timeout_ns)
{
    uint64_t from = *number(stage, SENT);
    *number(stage, ASKED) = from + count;
    int64_t got = cove_stream_write(stage->stream, outgoing + from, count, timeout_ns);
    if (got > 0)
        *number(stage, SENT) = from + (uint64_t)got;
    return got;
}

/* Reads at most `count` bytes and checks them against `*at`, where the reader stands; moves it. */
static int64_t receive(struct stage *stage, uint64_t *at, size_t count, int64_t timeout_ns)
{
    unsigned char bytes[READ_BYTES];
    int64_t got = cove_stream_read(stage->stream, bytes, count, timeout_ns);
    if (got > 0) {
        check_bytes(stage, bytes, *at, (size_t)got);
        *at += (uint64_t)got;
    }
    return got;
}

/* ---- the writer is the victim --------------------------------------------------------------------------------- */

static void operate_write(struct stage *stage)
{
    must(stage, send_next(stage, PIECE, PATIENCE_NS) == PIECE, "write");
    acknowledge(stage, 1);
}

static void operate_write_long(struct stage *stage)
{
    must(stage, send_next(stage, LONG, PATIENCE_NS) == LONG, "a long write");
    acknowledge(stage, 1);
}

static void operate_write_many(struct stage *stage)
{
    *number(stage, ASKED) = MANY * MANY_PIECE;
    must(stage, cove_stream_write_many(stage->stream, outgoing, MANY_PIECE, MANY, PATIENCE_NS) == MANY, "write_many");
    *number(stage, SENT) = MANY * MANY_PIECE;
    acknowledge(stage, 1);
}

static void operate_reserve(struct stage *stage)
{
    void *room = NULL;
    if (!must(stage, cove_stream_reserve(stage->stream, &room, PIECE + 50, PATIENCE_NS) == 0, "reserve"))
        return;
    memcpy(room, outgoing, PIECE);
    *number(stage, ASKED) = PIECE;
    must(stage, cove_stream_commit(stage->stream, PIECE) == 0, "commit");
    *number(stage, SENT) = PIECE;
    acknowledge(stage, 1);
}

static void operate_reserve_dropped(struct stage *stage)
{
    void *room = NULL;
    if (!must(stage, cove_stream_reserve(stage->stream, &room, PIECE, PATIENCE_NS) == 0, "reserve"))
        return;
    memset(room, 0x5a, PIECE);
    must(stage, cove_stream_commit(stage->stream, 0) == 0, "dropping a reservation");
    acknowledge(stage, 1);
}

static void operate_close(struct stage *stage)
{
    must(stage, cove_stream_close(stage->stream) == 0, "close");
    stage->stream = NULL;
    acknowledge(stage, 1);
}

/* The sleeper is the reader: it waits for the first byte, then reads to the end. */
static void sleep_read(struct stage *stage)
{
    uint64_t at = *number(stage, TAKEN);
    stage->ledger->result[ROLE_SLEEPER] = receive(stage, &at, READ_BYTES, PATIENCE_NS * 2);
    *number(stage, TAKEN) = at;
}

static int is_end(int64_t got)
{
    return got == 0 || got == COVE_EPEER;
}

static void read_to_the_end(struct stage *stage, int64_t got)
{
    uint64_t at = *number(stage, TAKEN);
    while (got > 0)
        got = receive(stage, &at, READ_BYTES, PATIENCE_NS * 2);
    *number(stage, TAKEN) = at;
    if (!is_end(got))
        finding(stage, got == -ETIMEDOUT ? VERDICT_HANG : VERDICT_CORRUPT, "the end of the stream was told as %lld",
                (long long)got);
    if (at < *number(stage, SENT))
        finding(stage, VERDICT_LOST, "%llu bytes came of %llu that were acknowledged", (unsigned long long)at,
                (unsigned long long)*number(stage, SENT));
    got = receive(stage, &at, READ_BYTES, COVE_NOWAIT);
    if (got != -EAGAIN)
        finding(stage, VERDICT_CORRUPT, "after the end, a read gave %lld", (long long)got);
}

/* Calls of up to a quarter of the ring are there whole or not at all. */
static void sleep_read_after_whole(struct stage *stage)
{
    read_to_the_end(stage, stage->ledger->result[ROLE_SLEEPER]);
    uint64_t taken = *number(stage, TAKEN);
    if (taken != *number(stage, SENT) && taken != *number(stage, ASKED))
        finding(stage, VERDICT_CORRUPT, "%llu bytes came: a part of a call", (unsigned long long)taken);
    close_end(stage);
}

static void sleep_read_after_prefix(struct stage *stage)
{
    read_to_the_end(stage, stage->ledger->result[ROLE_SLEEPER]);
    if (*number(stage, TAKEN) > *number(stage, ASKED))
        finding(stage, VERDICT_CORRUPT, "more bytes came than were ever written");
    close_end(stage);
}

static void prepare_written(struct stage *stage)
{
    open_writer(stage);
    must(stage, send_next(stage, PIECE, PATIENCE_NS) == PIECE, "write");
}

/* A writer that came and went leaves the reader's word of it behind; bytes must not be there any more. */
static void drain_ends(struct stage *stage)
{
    cove_stream *reader = NULL;
    unsigned char bytes[64];
    int64_t got = 0;
    if (!must(stage, cove_stream_open_in(&reader, stage->segment, STREAM_NAME, COVE_READER, NULL) >= 0,
              "opening the reader's end anew"))
        return;
    for (int ends = 0; ends < 4 && is_end(got); ends++)
        got = cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT);
    if (got != -EAGAIN)
        finding(stage, VERDICT_CORRUPT, "a stream that should be empty gave %lld", (long long)got);
    cove_stream_close(reader);
}

/* The ring again, from end to end, by two fresh ends. */
static void verify_works(struct stage *stage)
{
    cove_stream *writer = NULL, *reader = NULL;
    unsigned char bytes[ROOM], back[ROOM];
    memset(bytes, 0x3c, sizeof bytes);
    drain_ends(stage);
    int good = cove_stream_open_in(&writer, stage->segment, STREAM_NAME, COVE_WRITER, NULL) >= 0 &&
               cove_stream_open_in(&reader, stage->segment, STREAM_NAME, COVE_READER, NULL) >= 0;
    if (!must(stage, good, "opening both ends anew"))
        return;
    for (size_t lap = 0; good && lap < 9; lap++) {
        int64_t wrote = cove_stream_write(writer, bytes, sizeof bytes, PATIENCE_NS);
        good = must(stage, wrote == (int64_t)sizeof bytes, "a write of the new ends");
        for (size_t at = 0; good && at < sizeof back;) {
            int64_t got = cove_stream_read(reader, back + at, sizeof back - at, PATIENCE_NS);
            good = must(stage, got > 0, "a read of the new ends");
            at += good ? (size_t)got : 0;
        }
        if (good && memcmp(bytes, back, sizeof back) != 0)
            finding(stage, VERDICT_CORRUPT, "the new reader got other bytes than the new writer wrote");
    }
    cove_stream_close(writer);
    must(stage, cove_stream_read(reader, back, sizeof back, PATIENCE_NS) == 0, "the new end of stream");
    cove_stream_close(reader);
}

/* ---- the reader is the victim --------------------------------------------------------------------------------- */

/* The sleeper is the writer: some pieces are there before the operation, or the ring is full. */
static void ready_some(struct stage *stage)
{
    open_writer(stage);
    for (int i = 0; i < PIECES; i++)
        must(stage, send_next(stage, PIECE, PATIENCE_NS) == PIECE, "write");
}

static void ready_full(struct stage *stage)
{
    open_writer(stage);
    int64_t got;
    for (int i = 0; i < 100 && (got = send_next(stage, ROOM, COVE_NOWAIT)) > 0; i++) {}
}

/* Waits for room, or for word of the reader's end. */
static void sleep_write(struct stage *stage)
{
    stage->ledger->result[ROLE_SLEEPER] = send_next(stage, ROOM, PATIENCE_NS * 2);
}

static void sleep_write_after(struct stage *stage)
{
    int64_t got = stage->ledger->result[ROLE_SLEEPER];
    if (got <= 0 && got != -EPIPE && got != COVE_EPEER)
        finding(stage, got == -ETIMEDOUT ? VERDICT_HANG : VERDICT_CORRUPT,
                "the writer that waited for room was told %lld", (long long)got);
    close_end(stage);
}

/* How much a read gives is the library's to say: the whole trial shows it, and a killed reader has taken that much or
 * nothing.
 * The content is looked at afterwards, if the victim lives. */
static void read_once(struct stage *stage, size_t count)
{
    *number(stage, GIVEN) = stage->ledger->whole;
    incoming_count = cove_stream_read(stage->stream, incoming, count, PATIENCE_NS);
    if (must(stage, incoming_count > 0, "read"))
        *number(stage, TAKEN) = (uint64_t)incoming_count;
    acknowledge(stage, 1);
}

static void after_read(struct stage *stage)
{
    if (incoming_count > 0) {
        check_bytes(stage, incoming, 0, (size_t)incoming_count);
        stage->ledger->whole = (uint64_t)incoming_count;
    }
    close_end(stage);
}

static void operate_read(struct stage *stage)
{
    read_once(stage, PIECE);
}

static void operate_read_part(struct stage *stage)
{
    read_once(stage, PART);
}

static void operate_read_all(struct stage *stage)
{
    read_once(stage, READ_BYTES);
}

static void operate_consume(struct stage *stage)
{
    const void *piece = NULL;
    int64_t got = cove_stream_peek(stage->stream, &piece, PATIENCE_NS);
    if (!must(stage, got >= PART, "peek"))
        return;
    memcpy(incoming, piece, PART);
    incoming_count = PART;
    *number(stage, GIVEN) = PART;
    must(stage, cove_stream_consume(stage->stream, PART) == 0, "consume");
    *number(stage, TAKEN) = PART;
    acknowledge(stage, 1);
}

static void note_end_of_turn(struct stage *stage)
{
    *number(stage, ENDS) = 1;
}

/* Finds where the next byte stands: what a dead reader had surely not, or surely, or perhaps taken. */
static int next_is_right(struct stage *stage, const unsigned char *bytes, size_t count, uint64_t *at)
{
    uint64_t taken = *number(stage, TAKEN), given = *number(stage, GIVEN);
    uint64_t candidate[2] = {taken, given > taken ? given : taken};
    for (int i = 0; i < 2; i++) {
        size_t same = 0;
        while (same < count && bytes[same] == byte_at(candidate[i] + same))
            same++;
        if (same == count) {
            *at = candidate[i];
            return 1;
        }
    }
    uint64_t found = 0;
    while (found < ALL_BYTES &&
           memcmp(bytes, outgoing + found, count < ALL_BYTES - found ? count : ALL_BYTES - found) != 0)
        found++;
    finding(stage, VERDICT_LOST, "the next reader goes on at byte %llu, not %llu or %llu", (unsigned long long)found,
            (unsigned long long)candidate[0], (unsigned long long)candidate[1]);
    return 0;
}

/* A new reader takes up where the dead one stopped, and gets all that was acknowledged to the writer, which has closed. */
static void verify_rest(struct stage *stage)
{
    unsigned char bytes[READ_BYTES];
    uint64_t sent = *number(stage, SENT), at = *number(stage, GIVEN) == sent ? sent : *number(stage, TAKEN);
    open_reader(stage);
    int64_t got = cove_stream_read(stage->stream, bytes, 40, PATIENCE_NS);
    if (got > 0 && next_is_right(stage, bytes, (size_t)got, &at)) {
        at += (uint64_t)got;
        while ((got = receive(stage, &at, READ_BYTES, PATIENCE_NS)) > 0) {}
    }
    if (got > 0 || !is_end(got))
        finding(stage, VERDICT_CORRUPT, "the end of the stream was told as %lld", (long long)got);
    if (at != sent)
        finding(stage, VERDICT_LOST, "the readers got %llu bytes of %llu", (unsigned long long)at,
                (unsigned long long)sent);
    close_end(stage);
    verify_works(stage);
}

/* ---- ends ----------------------------------------------------------------------------------------------------- */

static void operate_open_writer(struct stage *stage)
{
    open_writer(stage);
    acknowledge(stage, 1);
}

static void operate_open_reader(struct stage *stage)
{
    open_reader(stage);
    acknowledge(stage, 1);
}

/* Wants the same end: gets it, or is told that it is taken. */
static void sleep_same_end(struct stage *stage, enum cove_end end)
{
    cove_stream *mine = NULL;
    int got = cove_stream_open_in(&mine, stage->segment, STREAM_NAME, end, NULL);
    must(stage, got == 0 || got == -EBUSY, "wanting the same end");
    if (got == 0)
        must(stage, cove_stream_close(mine) == 0, "closing the same end");
}

static void sleep_writers_end(struct stage *stage)
{
    sleep_same_end(stage, COVE_WRITER);
}

static void sleep_readers_end(struct stage *stage)
{
    sleep_same_end(stage, COVE_READER);
}

static void operate_create(struct stage *stage)
{
    struct cove_stream_options options = {.capacity_bytes = STREAM_BYTES};
    must(stage, cove_stream_open_in(&stage->stream, stage->segment, "fresh", COVE_WRITER, &options) == COVE_CREATED,
         "creating a stream");
    acknowledge(stage, 1);
}

static void verify_no_fresh(struct stage *stage)
{
    int got = cove_object_remove(stage->segment, "fresh");
    must(stage, got == 0 || (got == -ENOENT && !stage->ledger->acknowledged), "removing the new stream");
    verify_works(stage);
}

static void operate_open_by_full_name(struct stage *stage)
{
    struct cove_stream_options options = {.flags = COVE_EXISTING};
    must(stage, cove_stream_open(&stage->stream, "stage/" STREAM_NAME, COVE_WRITER, &options) == 0,
         "opening by the full name");
    acknowledge(stage, 1);
}

/* The ring has gone round to just before its end, so that the operation wraps. A reservation that would wrap lies
 * below the one before it. */
static void build_near_end(struct stage *stage)
{
    cove_stream *writer = NULL, *reader = NULL;
    unsigned char bytes[64] = {0};
    uintptr_t last = 0;
    int good = cove_stream_open_in(&writer, stage->segment, STREAM_NAME, COVE_WRITER, NULL) >= 0 &&
               cove_stream_open_in(&reader, stage->segment, STREAM_NAME, COVE_READER, NULL) >= 0;
    for (int i = 0; good && i < 200; i++) {
        void *room = NULL;
        good = cove_stream_reserve(writer, &room, PIECE, PATIENCE_NS) == 0 && cove_stream_commit(writer, 0) == 0;
        if ((uintptr_t)room < last)
            break;
        last = (uintptr_t)room;
        good = good && cove_stream_write(writer, bytes, sizeof bytes, PATIENCE_NS) == sizeof bytes &&
               cove_stream_read(reader, bytes, sizeof bytes, PATIENCE_NS) == sizeof bytes;
    }
    must(stage, good, "building: bringing the stream near the end of its ring");
    cove_stream_close(writer);
    must(stage, cove_stream_read(reader, bytes, sizeof bytes, PATIENCE_NS) == 0, "building: end of stream");
    cove_stream_close(reader);
}

#define READER_SLEEPS .sleep_ready = open_reader, .sleep = sleep_read, .after = close_end
#define WHOLE .sleep_after = sleep_read_after_whole, .verify = verify_works
#define WRITER_SLEEPS .sleep_ready = ready_full, .sleep = sleep_write, .sleep_after = sleep_write_after
#define WRITER_DONE .sleep_ready = ready_some, .sleep = note_end_of_turn, .sleep_after = close_end

const struct scenario ops_stream[] = {
    {.name = "stream write, reader asleep",
     .traits = SLEEP_FIRST,
     .least = 210,
     .most = 1700,
     .prepare = open_writer,
     .operate = operate_write,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream write at the ring's end",
     .traits = SLEEP_FIRST,
     .least = 210,
     .most = 1800,
     .build = build_near_end,
     .prepare = open_writer,
     .operate = operate_write,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream write, long",
     .least = 670,
     .most = 5200,
     .prepare = open_writer,
     .operate = operate_write_long,
     READER_SLEEPS,
     .sleep_after = sleep_read_after_prefix,
     .verify = verify_works},
    {.name = "stream write_many",
     .traits = SLEEP_FIRST,
     .least = 160,
     .most = 1300,
     .prepare = open_writer,
     .operate = operate_write_many,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream reserve and commit",
     .traits = SLEEP_FIRST,
     .least = 130,
     .most = 1100,
     .prepare = open_writer,
     .operate = operate_reserve,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream reserve, at the ring's end",
     .traits = SLEEP_FIRST,
     .least = 130,
     .most = 1100,
     .build = build_near_end,
     .prepare = open_writer,
     .operate = operate_reserve,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream reserve, dropped",
     .traits = SLEEP_FIRST,
     .least = 82,
     .most = 630,
     .prepare = open_writer,
     .operate = operate_reserve_dropped,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream read",
     .traits = SLEEP_FIRST,
     .least = 97,
     .most = 750,
     .prepare = open_reader,
     .operate = operate_read,
     .after = after_read,
     WRITER_SLEEPS,
     .verify = verify_rest},
    {.name = "stream read of a part",
     .least = 94,
     .most = 720,
     .prepare = open_reader,
     .operate = operate_read_part,
     .after = after_read,
     WRITER_DONE,
     .verify = verify_rest},
    {.name = "stream read of all",
     .traits = SLEEP_FIRST,
     .least = 450,
     .most = 3500,
     .prepare = open_reader,
     .operate = operate_read_all,
     .after = after_read,
     WRITER_SLEEPS,
     .verify = verify_rest},
    {.name = "stream peek and consume",
     .traits = SLEEP_FIRST,
     .least = 100,
     .most = 790,
     .prepare = open_reader,
     .operate = operate_consume,
     .after = after_read,
     WRITER_SLEEPS,
     .verify = verify_rest},
    {.name = "stream created",
     .least = 4200,
     .most = 34000,
     .operate = operate_create,
     .after = close_end,
     .verify = verify_no_fresh},
    {.name = "stream opened for writing",
     .least = 750,
     .most = 5800,
     .operate = operate_open_writer,
     .after = close_end,
     .sleep = sleep_writers_end,
     .verify = verify_works},
    {.name = "stream opened for reading",
     .least = 740,
     .most = 5700,
     .operate = operate_open_reader,
     .after = close_end,
     .sleep = sleep_readers_end,
     .verify = verify_works},
    {.name = "stream opened by full name",
     .traits = EVERY_POINT | VICTIM_OPENS,
     .least = 7800,
     .most = 70000,
     .operate = operate_open_by_full_name,
     .after = close_end,
     .sleep = sleep_writers_end,
     .verify = verify_works},
    {.name = "stream closed by the writer",
     .least = 140,
     .most = 1200,
     .prepare = prepare_written,
     .operate = operate_close,
     READER_SLEEPS,
     WHOLE},
    {.name = "stream closed by the reader",
     .traits = SLEEP_FIRST,
     .least = 240,
     .most = 2000,
     .prepare = open_reader,
     .operate = operate_close,
     WRITER_SLEEPS,
     .verify = verify_rest},
    {0},
};
