/* passing.c - streams: writers and readers take turns, are killed in the middle, and others go on where they stopped.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The byte at place p of stream s is f(s, p): a byte that is lost, doubled, or out of order shows wherever it is. The ledger's places are
 * changed only by who has the end. Their order is what makes them exact after a kill:
 *     writer   writing = end of the write; the write; written = what it acknowledged; writing = written
 *     reader   reading = the most that it may take; the read; compare; read = the place behind; reading = read
 * So a successor finds written <= committed <= writing, and read <= consumed <= reading. */
#include "storm.h"

#include <errno.h>
#include <string.h>

#define WAIT_NS INT64_C(2000000)
#define LONGEST (3 * STREAM_CAPACITY)

struct passing {
    struct worker *worker;
    cove_stream *stream;
    struct stream_ledger *ledger;
    uint32_t number;
    uint64_t place; /* of the next byte */
    unsigned char bytes[LONGEST];
};

static unsigned char byte_at(uint32_t stream, uint64_t place)
{
    uint64_t state = (place / 8) * 8 + stream;
    return (unsigned char)(next_random(&state) >> (8 * (place % 8)));
}

static void fill(const struct passing *passing, unsigned char *to, uint64_t place, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        to[i] = byte_at(passing->number, place + i);
}

static void compare(const struct passing *passing, const unsigned char *bytes, uint64_t size)
{
    if (passing->place + size > atomic_load(&passing->ledger->writing))
        fault("stream %u: %llu bytes read at %llu, more than anybody wrote", passing->number, (unsigned long long)size,
              (unsigned long long)passing->place);
    for (uint64_t i = 0; i < size; i++)
        if (bytes[i] != byte_at(passing->number, passing->place + i))
            fault("stream %u: the byte at %llu (%llu of a piece of %llu) is not the one that belongs there",
                  passing->number, (unsigned long long)(passing->place + i), (unsigned long long)i,
                  (unsigned long long)size);
}

static void stream_name(char name[16], uint32_t number)
{
    (void)snprintf(name, 16, "stream/%u", number);
}

/* False where another has that end. */
static bool open_end(struct passing *passing, struct worker *worker, uint32_t number, enum cove_end end)
{
    static const uint32_t flags[] = {0, COVE_STREAM_NOSPIN, COVE_STREAM_STAY};
    char name[16];
    stream_name(name, number);
    passing->worker = worker;
    passing->number = number;
    passing->ledger = &ledger->streams[number];
    struct cove_stream_options options = {.flags = flags[below(&worker->random, 3)], .capacity_bytes = STREAM_CAPACITY};
    int result = cove_stream_open_in(&passing->stream, worker->segment, name, end, &options);
    if (result != -EBUSY)
        must(result, end == COVE_WRITER ? "open a writer" : "open a reader");
    return result != -EBUSY;
}

/* ---- writing */

static void take_up_writing(struct passing *passing)
{
    struct stream_ledger *ours = passing->ledger;
    struct cove_stream_info info;
    must(cove_stream_stat(passing->stream, &info), "stat of a writer");
    uint64_t committed = info.bytes_read + info.bytes_unread;
    uint64_t written = atomic_load(&ours->written), writing = atomic_load(&ours->writing);
    if (committed < written || committed > writing)
        fault("stream %u: %llu bytes are committed (%llu read), but %llu were acknowledged and %llu begun",
              passing->number, (unsigned long long)committed, (unsigned long long)info.bytes_read,
              (unsigned long long)written, (unsigned long long)writing);
    if (atomic_load(&ours->whole) && committed != written && committed != writing)
        fault("stream %u: a killed write from %llu to %llu is there up to %llu: neither whole nor not at all",
              passing->number, (unsigned long long)written, (unsigned long long)writing, (unsigned long long)committed);
    atomic_store(&ours->written, committed);
    atomic_store(&ours->writing, committed);
    passing->place = committed;
}

static void announce(struct passing *passing, uint64_t size, bool whole)
{
    atomic_store(&passing->ledger->whole, whole);
    atomic_store(&passing->ledger->writing, passing->place + size);
}

/* What was acknowledged; false when it is time to leave. */
static bool acknowledge(struct passing *passing, int64_t result)
{
    bool news = result == -ETIMEDOUT || result == -EAGAIN || result == -EPIPE || result == COVE_EPEER;
    if (!news)
        must(result, "write");
    passing->place += result > 0 ? (uint64_t)result : 0;
    atomic_store(&passing->ledger->written, passing->place);
    atomic_store(&passing->ledger->writing, passing->place);
    return result > 0;
}

static bool write_plain(struct passing *passing, uint64_t size, int64_t timeout_ns)
{
    fill(passing, passing->bytes, passing->place, size);
    announce(passing, size, size <= STREAM_CAPACITY / 4);
    return acknowledge(passing, cove_stream_write(passing->stream, passing->bytes, (size_t)size, timeout_ns));
}

static bool write_batch(struct passing *passing, int64_t timeout_ns)
{
    uint64_t size = 1 + below(&passing->worker->random, 60), count = 1 + below(&passing->worker->random, 12);
    fill(passing, passing->bytes, passing->place, size * count);
    announce(passing, size * count, true);
    int64_t sent = cove_stream_write_many(passing->stream, passing->bytes, (size_t)size, (size_t)count, timeout_ns);
    return acknowledge(passing, sent > 0 ? sent * (int64_t)size : sent);
}

static bool write_in_place(struct passing *passing, int64_t timeout_ns)
{
    uint64_t size = 1 + below(&passing->worker->random, STREAM_CAPACITY / 4);
    uint64_t used = below(&passing->worker->random, size + 1); /* 0: dropped again */
    void *room = NULL;
    int result = cove_stream_reserve(passing->stream, &room, (size_t)size, timeout_ns);
    if (result < 0)
        return acknowledge(passing, result);
    memset(room, 0xee, (size_t)size); /* what is not committed may hold anything */
    fill(passing, room, passing->place, used);
    announce(passing, used, true);
    must(cove_stream_commit(passing->stream, (size_t)used), "commit to a stream");
    return acknowledge(passing, (int64_t)used) || used == 0;
}

void do_write(struct worker *worker)
{
    static _Thread_local struct passing passing;
    begin_doing(worker, DOING_WRITE);
    if (open_end(&passing, worker, (uint32_t)below(&worker->random, STREAMS), COVE_WRITER)) {
        take_up_writing(&passing);
        bool going = true;
        for (uint64_t i = below(&worker->random, 30); i > 0 && going; i--) {
            int64_t timeout = one_in(&worker->random, 4) ? COVE_NOWAIT : WAIT_NS;
            uint64_t kind = below(&worker->random, 10);
            if (kind < 2)
                going = write_batch(&passing, timeout);
            else if (kind < 4)
                going = write_in_place(&passing, timeout);
            else
                going = write_plain(&passing, 1 + below(&worker->random, kind < 9 ? 300 : LONGEST), timeout);
        }
        must(cove_stream_close(passing.stream), "close a writer");
    }
    end_doing(worker, DOING_WRITE);
}

/* ---- reading */

static void take_up_reading(struct passing *passing)
{
    struct stream_ledger *ours = passing->ledger;
    struct cove_stream_info info;
    must(cove_stream_stat(passing->stream, &info), "stat of a reader");
    uint64_t read = atomic_load(&ours->read), reading = atomic_load(&ours->reading);
    if (info.bytes_read < read || info.bytes_read > reading)
        fault("stream %u: the cursor is at %llu, but %llu were read and at most %llu begun", passing->number,
              (unsigned long long)info.bytes_read, (unsigned long long)read, (unsigned long long)reading);
    atomic_store(&ours->read, info.bytes_read);
    atomic_store(&ours->reading, info.bytes_read);
    passing->place = info.bytes_read;
}

static void note_read(struct passing *passing, uint64_t size)
{
    passing->place += size;
    atomic_store(&passing->ledger->read, passing->place);
    atomic_store(&passing->ledger->reading, passing->place);
}

/* Ends of sessions, deaths of writers, and silence are news, not data. False: nothing more for now. */
static bool had_news(int64_t result, const char *what)
{
    if (result == -ETIMEDOUT || result == -EAGAIN)
        return false;
    if (result != COVE_EPEER)
        must(result, what);
    return true;
}

static bool read_copy(struct passing *passing, uint64_t most, int64_t timeout_ns)
{
    atomic_store(&passing->ledger->reading, passing->place + most);
    int64_t result = cove_stream_read(passing->stream, passing->bytes, (size_t)most, timeout_ns);
    if (result > 0)
        compare(passing, passing->bytes, (uint64_t)result);
    note_read(passing, result > 0 ? (uint64_t)result : 0);
    return had_news(result, "read");
}

static bool read_in_place(struct passing *passing, int64_t timeout_ns)
{
    const void *bytes = NULL;
    int64_t shown = cove_stream_peek(passing->stream, &bytes, timeout_ns);
    if (shown <= 0)
        return had_news(shown, "peek");
    compare(passing, bytes, (uint64_t)shown);
    uint64_t taken = one_in(&passing->worker->random, 4) ? below(&passing->worker->random, (uint64_t)shown + 1)
                                                         : (uint64_t)shown;
    atomic_store(&passing->ledger->reading, passing->place + taken);
    must(cove_stream_consume(passing->stream, (size_t)taken), "consume");
    note_read(passing, taken);
    return true;
}

void do_read(struct worker *worker)
{
    static _Thread_local struct passing passing;
    begin_doing(worker, DOING_READ);
    if (open_end(&passing, worker, (uint32_t)below(&worker->random, STREAMS), COVE_READER)) {
        take_up_reading(&passing);
        bool going = true;
        for (uint64_t i = below(&worker->random, 60); i > 0 && going; i--) {
            int64_t timeout = one_in(&worker->random, 4) ? COVE_NOWAIT : WAIT_NS;
            going = one_in(&worker->random, 3) ? read_in_place(&passing, timeout)
                                               : read_copy(&passing, 1 + below(&worker->random, LONGEST), timeout);
        }
        must(cove_stream_close(passing.stream), "close a reader");
    }
    end_doing(worker, DOING_READ);
}

/* ---- in a copy */

void mark_streams(struct stream_marks *marks)
{
    for (uint32_t i = 0; i < STREAMS; i++) {
        marks->read[i] = atomic_load(&ledger->streams[i].read);
        marks->written[i] = atomic_load(&ledger->streams[i].written);
    }
}

/* All that is left to read. Ends of sessions and deaths of writers are news between. */
static void read_up(struct passing *passing)
{
    for (;;) {
        int64_t result = cove_stream_read(passing->stream, passing->bytes, LONGEST, COVE_NOWAIT);
        if (result > 0)
            compare(passing, passing->bytes, (uint64_t)result);
        passing->place += result > 0 ? (uint64_t)result : 0;
        if (!had_news(result, "read of a copy"))
            return;
    }
}

static void check_stream(struct worker *worker, uint32_t number, const struct stream_marks *since)
{
    static struct passing reader;
    char name[16];
    struct cove_stream_info info;
    struct cove_stream_options options = {.flags = COVE_EXISTING};
    stream_name(name, number);
    reader = (struct passing){.worker = worker, .number = number, .ledger = &ledger->streams[number]};
    int result = cove_stream_open_in(&reader.stream, worker->segment, name, COVE_READER, &options);
    if (result == -ENOENT && since->written[number] == 0)
        return; /* nobody had made it yet */
    must(result, "open a reader in a copy");
    must(cove_stream_stat(reader.stream, &info), "stat of a reader in a copy");
    reader.place = info.bytes_read;
    read_up(&reader);
    if (info.bytes_read < since->read[number] || reader.place < since->written[number])
        fault("stream %u: the copy goes from %llu to %llu, but %llu were read and %llu written before it was made",
              number, (unsigned long long)info.bytes_read, (unsigned long long)reader.place,
              (unsigned long long)since->read[number], (unsigned long long)since->written[number]);
    must(cove_stream_close(reader.stream), "close a reader in a copy");
}

void check_streams(struct worker *worker, const struct stream_marks *since)
{
    for (uint32_t number = 0; number < STREAMS; number++)
        check_stream(worker, number, since);
}

/* ---- the end */

static void drain(struct worker *worker, uint32_t number)
{
    static struct passing writer, reader;
    if (!open_end(&writer, worker, number, COVE_WRITER) || !open_end(&reader, worker, number, COVE_READER))
        fault("stream %u: an end is taken, and everybody is gone: %s", number, cove_last_error());
    take_up_writing(&writer);
    take_up_reading(&reader);
    while (read_copy(&reader, LONGEST, COVE_NOWAIT))
        ;
    if (reader.place != writer.place)
        fault("stream %u: %llu bytes arrived of %llu", number, (unsigned long long)reader.place,
              (unsigned long long)writer.place);
    must(cove_stream_close(reader.stream), "close a reader");
    must(cove_stream_close(writer.stream), "close a writer");
}

void drain_streams(struct worker *worker)
{
    for (uint32_t number = 0; number < STREAMS; number++)
        drain(worker, number);
}
