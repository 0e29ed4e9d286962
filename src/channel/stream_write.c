/* stream_write.c - the writer's side of the ring.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Order of a write: the bytes; a 0 where the next header will be (I2 of stream.c); the header, release. If it takes
 * several records, the first one's header is stored last, so that all appear at once. After the commit the writer
 * zeroes some of what lies ahead: that brings those lines into its cache while the reader is busy with this message,
 * instead of when the next one has to be written. (64 B round trips cost 1.03 to 1.12 times the cache's own limit
 * this way, 1.9 with counters for head and tail.) */
#include "channel/stream.h"

#include <errno.h>
#include <string.h>

#define ZERO_AHEAD UINT64_C(256)
#define CHUNK_MOST (UINT64_C(64) << 10) /* of a long write: the reader copies one while the next is written */
#define LONG_RECORD UINT64_C(2048) /* from here on the place of a record matters */
#define ALIGN_MOST UINT64_C(72) /* bytes of a PAD that aligns */

/* Zero the ring from `zeroed` up to position `to`. Both are multiples of 8. */
static void zero_to(struct cove_stream *stream, uint64_t to)
{
    while (stream->zeroed < to) {
        uint64_t at = stream->zeroed & stream->mask;
        uint64_t span = covei_min(to - stream->zeroed, stream->capacity - at);
        memset(stream->ring + at, 0, (size_t)span);
        stream->zeroed += span;
    }
}

/* I2: the header at `position`, where the next record will begin, becomes 0 before what lies below it is published.
 * */
static inline void zero_next(struct cove_stream *stream, uint64_t position)
{
    if (stream->zeroed < position + COVEI_STREAM_HEADER) {
        /* relaxed: the release of the record's header orders it. */
        atomic_store_explicit(covei_stream_header(stream, position), 0, memory_order_relaxed);
        stream->zeroed = position + COVEI_STREAM_HEADER;
    }
}

static COVEI_COLD void wake_reader(struct cove_stream *stream)
{
    covei_stream_note_cpu(stream);
    covei_stream_wake(&stream->shm->to_writer);
}

/* The record whose header this is, and those behind it whose headers stand already, are there. Then see whether the
 * reader sleeps. */
static inline void publish(struct cove_stream *stream, uint64_t word, uint64_t new_tail)
{
    struct covei_stream_shm *shm = stream->shm;
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_enter(stream);
    atomic_store_explicit(covei_stream_header(stream, stream->tail), word, memory_order_release); /* edge P */
    covei_stream_fence(stream); /* edge S */
    if (COVEI_UNLIKELY(atomic_load_explicit(&shm->to_writer, memory_order_relaxed) & COVEI_STREAM_SLEEPS))
        wake_reader(stream);
    stream->tail = new_tail;
    stream->wrote = true;
    atomic_store_explicit(&shm->tail, new_tail, memory_order_relaxed); /* for people */
    uint64_t ahead = covei_min(new_tail + ZERO_AHEAD, stream->head_seen + stream->capacity);
    if (stream->zeroed < ahead)
        zero_to(stream, ahead);
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_leave(stream);
}

static inline bool has_room(const struct cove_stream *stream, uint64_t bytes)
{
    return stream->tail + bytes + COVEI_STREAM_SPARE <= stream->head_seen + stream->capacity;
}

/* Room for `bytes`, waiting for it; and the news, if the reader has gone. */
static inline int make_room(struct cove_stream *stream, uint64_t bytes, int64_t timeout_ns)
{
    if (COVEI_UNLIKELY(atomic_load_explicit(&stream->shm->to_writer, memory_order_relaxed) & COVEI_STREAM_GONE)) {
        int result = covei_stream_attend(stream);
        if (result < 0)
            return result;
    }
    return COVEI_LIKELY(has_room(stream, bytes)) ? 0 : covei_stream_wait_room(stream, bytes, timeout_ns);
}

/* Bytes from the place behind the header at `position` to the ring's end. */
static inline uint64_t to_ring_end(const struct cove_stream *stream, uint64_t position)
{
    return stream->capacity - ((position + COVEI_STREAM_HEADER) & stream->mask);
}

static inline void *place(const struct cove_stream *stream, uint64_t position)
{
    return stream->ring + ((position + COVEI_STREAM_HEADER) & stream->mask);
}

static inline uint64_t data_word(const struct cove_stream *stream, uint64_t length)
{
    return covei_header_word((uint32_t)length, COVEI_STREAM_DATA, stream->session);
}

/* Store a header, or keep it back if it is the first of what is being written. */
static void put_header(struct cove_stream *stream, uint64_t position, uint64_t word, uint64_t *first)
{
    if (position == stream->tail)
        *first = word;
    else /* relaxed: the first header's release orders it */
        atomic_store_explicit(covei_stream_header(stream, position), word, memory_order_relaxed);
}

static uint64_t pad_word(const struct cove_stream *stream, uint64_t length)
{
    return covei_header_word((uint32_t)length, COVEI_STREAM_PAD, stream->session);
}

/* Long records begin at a cache line: some processors copy many times slower to a place that lies 8 bytes behind its
 * source, modulo 4096, as the place behind a header does when the source begins a page. Returns where the record
 * goes, behind a PAD if need be. */
static uint64_t align_long(struct cove_stream *stream, uint64_t *first)
{
    uint64_t position = stream->tail, gap = (0 - (position + 2 * COVEI_STREAM_HEADER)) & 63;
    if (((position + COVEI_STREAM_HEADER) & 63) == 0)
        return position;
    gap = gap ? gap : 64;
    if (to_ring_end(stream, position) < gap)
        return position;
    put_header(stream, position, pad_word(stream, gap), first);
    return position + COVEI_STREAM_HEADER + gap;
}

/* One record, or two where the ring ends in between. There is room. */
static void put(struct cove_stream *stream, const unsigned char *data, uint64_t size)
{
    uint64_t first = 0, at = size >= LONG_RECORD ? align_long(stream, &first) : stream->tail;
    uint64_t length = covei_min(size, to_ring_end(stream, at));
    covei_copy(place(stream, at), data, length);
    put_header(stream, at, data_word(stream, length), &first);
    at += COVEI_STREAM_HEADER + covei_pad8(length);
    if (length < size) {
        covei_copy(place(stream, at), data + length, size - length);
        put_header(stream, at, data_word(stream, size - length), &first);
        at += COVEI_STREAM_HEADER + covei_pad8(size - length);
    }
    zero_next(stream, at);
    publish(stream, first, at);
}

/* What went in, if anything; then the next call tells why it was not all. */
static int64_t cut_short(struct cove_stream *stream, uint64_t done, int result)
{
    if (done == 0)
        return result;
    if (result == -EPIPE || result == COVE_EPEER) {
        stream->told_reader = 0;
        atomic_fetch_or_explicit(&stream->shm->to_writer, COVEI_STREAM_GONE, memory_order_release);
    }
    return (int64_t)done;
}

static int64_t write_chunks(struct cove_stream *stream, const unsigned char *data, uint64_t size, int64_t timeout_ns)
{
    uint64_t most = size <= stream->capacity / 4 ? size : covei_min(stream->capacity / 8, CHUNK_MOST);
    int64_t deadline = timeout_ns > 0 ? covei_wait_begin(timeout_ns) : 0;
    uint64_t done = 0;
    while (done < size) {
        uint64_t chunk = covei_min(size - done, most);
        int64_t left = timeout_ns > 0 ? covei_wait_left(deadline) : COVE_NOWAIT;
        int result = make_room(stream, covei_pad8(chunk) + 2 * COVEI_STREAM_HEADER + ALIGN_MOST, left);
        if (result == -EAGAIN && timeout_ns > 0) /* no time was left to wait */
            result = covei_error(-ETIMEDOUT, "%s: the reader made no room in time", stream->name);
        if (result < 0)
            return cut_short(stream, done, result);
        put(stream, data + done, chunk);
        done += chunk;
    }
    return (int64_t)done;
}

/* An interrupt between two of its waits ends it too. */
static int64_t write_long(struct cove_stream *stream, const unsigned char *data, uint64_t size, int64_t timeout_ns)
{
    stream->interrupts = atomic_load_explicit(&covei_interrupts, memory_order_acquire);
    stream->in_long_write = true;
    int64_t done = write_chunks(stream, data, size, timeout_ns);
    stream->in_long_write = false;
    return done;
}

int64_t cove_stream_write(cove_stream *stream, const void *data, size_t size_bytes, int64_t timeout_ns)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_WRITER)))
        return covei_stream_usable(stream, COVE_WRITER);
    stream->reserved_bytes = 0;
    uint64_t need = COVEI_STREAM_HEADER + covei_pad8(size_bytes);
    if (COVEI_LIKELY(size_bytes - 1 < ZERO_AHEAD && size_bytes <= to_ring_end(stream, stream->tail) &&
                     has_room(stream, need) &&
                     !(atomic_load_explicit(&stream->shm->to_writer, memory_order_relaxed) & COVEI_STREAM_GONE))) {
        covei_copy(place(stream, stream->tail), data, size_bytes);
        zero_next(stream, stream->tail + need);
        publish(stream, data_word(stream, size_bytes), stream->tail + need);
        return (int64_t)size_bytes;
    }
    return size_bytes == 0 ? 0 : write_long(stream, data, size_bytes, timeout_ns);
}

/* ---- batches */

int64_t cove_stream_write_many(cove_stream *stream, const void *data, size_t size_bytes, size_t count,
                               int64_t timeout_ns)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_WRITER)))
        return covei_stream_usable(stream, COVE_WRITER);
    if (count == 0 || size_bytes == 0)
        return 0;
    uint64_t record = COVEI_STREAM_HEADER + covei_pad8(size_bytes), quarter = stream->capacity / 4;
    if (size_bytes > quarter || count > quarter / record)
        return covei_error(-EMSGSIZE, "%s: a batch holds a quarter of the capacity at most; send fewer at a time",
                           stream->name);
    stream->reserved_bytes = 0;
    int result = make_room(stream, count * record + record, timeout_ns); /* a PAD is shorter than a record */
    if (result < 0)
        return result;
    const unsigned char *from = data;
    uint64_t at = stream->tail, first = 0, word = data_word(stream, size_bytes);
    for (size_t i = 0; i < count; i++, from += size_bytes, at += record) {
        if (to_ring_end(stream, at) < size_bytes) {
            uint64_t pad = to_ring_end(stream, at);
            put_header(stream, at, pad_word(stream, pad), &first);
            at += COVEI_STREAM_HEADER + pad;
        }
        covei_copy(place(stream, at), from, size_bytes);
        put_header(stream, at, word, &first);
    }
    zero_next(stream, at);
    publish(stream, first, at);
    return (int64_t)count;
}

/* ---- zero copy */

int cove_stream_reserve(cove_stream *stream, void **data, size_t size_bytes, int64_t timeout_ns)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_WRITER)))
        return covei_stream_usable(stream, COVE_WRITER);
    if (size_bytes == 0 || size_bytes > stream->capacity / 4)
        return covei_error(-EMSGSIZE, "%s: 1 byte to a quarter of the capacity can be reserved, not %zu bytes",
                           stream->name, size_bytes);
    stream->reserved_bytes = 0;
    uint64_t to_end = to_ring_end(stream, stream->tail);
    uint64_t pad = to_end < size_bytes ? COVEI_STREAM_HEADER + to_end : 0;
    int result = make_room(stream, pad + COVEI_STREAM_HEADER + covei_pad8(size_bytes), timeout_ns);
    if (result < 0)
        return result;
    stream->reserved_at = stream->tail + pad;
    stream->reserved_bytes = size_bytes;
    stream->zeroed = stream->tail + COVEI_STREAM_HEADER; /* the user may write anything beyond, and commit less */
    *data = place(stream, stream->reserved_at);
    return 0;
}

int cove_stream_commit(cove_stream *stream, size_t size_bytes)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_WRITER)))
        return covei_stream_usable(stream, COVE_WRITER);
    if (size_bytes > stream->reserved_bytes)
        return covei_error(-EINVAL, "%s: %zu bytes cannot be committed, %llu are reserved", stream->name, size_bytes,
                           (unsigned long long)stream->reserved_bytes);
    stream->reserved_bytes = 0;
    if (size_bytes == 0)
        return 0; /* whatever was written lies behind a header of 0 */
    uint64_t end = stream->reserved_at + COVEI_STREAM_HEADER + covei_pad8(size_bytes), first = 0;
    if (stream->reserved_at != stream->tail)
        put_header(stream, stream->tail, pad_word(stream, to_ring_end(stream, stream->tail)), &first);
    put_header(stream, stream->reserved_at, data_word(stream, size_bytes), &first);
    zero_next(stream, end);
    publish(stream, first, end);
    return 0;
}

/* ---- the end */

void covei_stream_end(struct cove_stream *stream, enum covei_record_kind kind, int32_t pid)
{
    /* Every write leaves room for END. A session without a byte, in a ring that is full still, leaves no trace. */
    if (!stream->wrote && !has_room(stream, COVEI_STREAM_HEADER))
        return;
    uint64_t end = stream->tail + COVEI_STREAM_HEADER;
    zero_next(stream, end);
    publish(stream, covei_header_word((uint32_t)pid, kind, stream->session), end);
}
