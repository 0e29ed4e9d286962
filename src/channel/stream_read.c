/* stream_read.c - the reader's side of the ring.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The reader keeps its place twice: the cursor, moved after each piece by one store to a line that nobody else looks
 * at, says what is consumed; the head, which the writer looks at when it runs out of room, follows every quarter of
 * the ring and before the reader sleeps. So a new reader goes on exactly where the last one stopped, and the writer's
 * look costs a cache miss a quarter of the ring, not one a message.
 *
 * What comes out of the ring is bounded before it is followed: a header that makes no sense gives COVE_ECORRUPT. */
#include "channel/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define QUICK_LOOKS 30 /* about a microsecond */

void covei_stream_read_cursor(const struct covei_stream_shm *shm, struct covei_cursor_shm *cursor)
{
    /* A living reader may move on meanwhile. The slot that counts is overwritten only after `turn` has moved on, so
     * look twice. */
    for (int attempt = 0; attempt < 1000; attempt++) {
        uint32_t turn = atomic_load_explicit(&shm->turn, memory_order_acquire);
        *cursor = shm->cursor[turn & 1];
        atomic_thread_fence(memory_order_acquire); /* the copy before the second look */
        if (atomic_load_explicit(&shm->turn, memory_order_relaxed) == turn)
            return;
    }
}

void covei_stream_publish(struct cove_stream *stream)
{
    struct covei_stream_shm *shm = stream->shm;
    if (stream->published == stream->at.position)
        return;
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_enter(stream); /* what is free may be written over at once */
    stream->published = stream->at.position;
    atomic_store_explicit(&shm->head, stream->published, memory_order_release); /* edge H */
    covei_stream_fence(stream); /* edge S */
    if (COVEI_UNLIKELY(atomic_load_explicit(&shm->to_reader, memory_order_relaxed) & COVEI_STREAM_SLEEPS))
        covei_stream_wake(&shm->to_reader);
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_leave(stream);
}

/* Move the cursor: everything up to here is consumed. One store does it. */
static inline void move_cursor(struct cove_stream *stream)
{
    struct covei_stream_shm *shm = stream->shm;
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_enter(stream);
    uint32_t turn = atomic_load_explicit(&shm->turn, memory_order_relaxed) + 1; /* relaxed: ours */
    shm->cursor[turn & 1] = stream->at;
    covei_order();
    atomic_store_explicit(&shm->turn, turn, memory_order_release); /* whoever takes over sees the slot */
    atomic_thread_fence(memory_order_release); /* towards onlookers: the other slot changes after this */
    if (COVEI_UNLIKELY(stream->at.position - stream->published >= stream->capacity / 4))
        covei_stream_publish(stream);
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_leave(stream);
}

/* `taken` of the `left` bytes of the record at the cursor are done with; nobody is told yet. */
static inline void pass(struct cove_stream *stream, uint64_t taken, uint64_t left, uint64_t record)
{
    stream->at.bytes += taken;
    if (COVEI_LIKELY(taken == left)) {
        stream->at.position += record;
        stream->at.skip = 0;
    } else
        stream->at.skip += taken;
}

static int corrupt(const struct cove_stream *stream)
{
    return covei_error(COVE_ECORRUPT,
                       "%s: the ring makes no sense at byte %" PRIu64 ": somebody wrote over it; remove it (cove rm)",
                       stream->name, stream->at.bytes);
}

/* The session that a header's 16 bits mean: the newest one, or one before it. */
static uint32_t whole_session(const struct cove_stream *stream, uint32_t low)
{
    uint32_t newest = atomic_load_explicit(&stream->shm->session, memory_order_acquire);
    return newest - ((newest - low) & 0xffff);
}

/* A record that is not data: PAD is passed over (1); END gives 0, DIED gives COVE_EPEER, each once. */
static int pass_special(struct cove_stream *stream, uint64_t word, uint64_t record)
{
    uint32_t kind = COVEI_HEADER_KIND(word);
    uint64_t session_bytes = stream->at.bytes - stream->at.begun;
    stream->at.position += record;
    stream->at.skip = 0;
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_enter(stream); /* `told` and the cursor say the same */
    if (kind != COVEI_STREAM_PAD) {
        stream->at.begun = stream->at.bytes;
        /* release: before the head moves past the record, so that recovery does not write the session's end a second
         * time. */
        atomic_store_explicit(&stream->shm->told, whole_session(stream, COVEI_HEADER_SESSION(word)),
                              memory_order_release);
    }
    move_cursor(stream);
    if (kind != COVEI_STREAM_PAD)
        covei_stream_publish(stream);
    if (COVEI_UNLIKELY(stream->segment->durable))
        covei_stream_leave(stream);
    if (kind == COVEI_STREAM_PAD)
        return 1;
    if (kind == COVEI_STREAM_END)
        return 0;
    struct covei_departed_shm who = stream->shm->writer_departed;
    who.command[sizeof who.command - 1] = '\0';
    bool known = (who.session & 0xffff) == COVEI_HEADER_SESSION(word);
    return covei_error(
        COVE_EPEER, "%s: the writer%s%s (pid %" PRIu32 ") %s after %" PRIu64 " bytes; all that it had written was read",
        stream->name, known ? " " : "", known ? who.command : "", COVEI_HEADER_LENGTH(word),
        known && who.how == COVEI_GAVE_UP ? "gave up" : "died", session_bytes);
}

/* In the middle of a talk the answer is there in a moment: look a few times before a clock is read and the other end
 * is looked for. */
static inline bool look_again(const struct cove_stream *stream)
{
    if (!stream->quick)
        return false;
    for (int i = 0; i < QUICK_LOOKS; i++) {
        covei_relax();
        if (atomic_load_explicit(covei_stream_header(stream, stream->at.position), memory_order_relaxed) != 0)
            return true; /* relaxed: the caller loads it again, with acquire */
    }
    return false;
}

/* The data at the cursor: 1, with where it lies and how long it is; or what the caller returns: 0 (end), an error. */
static inline int find_data(struct cove_stream *stream, const unsigned char **data, uint64_t *left, uint64_t *record,
                            int64_t timeout_ns)
{
    for (;;) {
        uint64_t position = stream->at.position;
        /* edge P */
        uint64_t word = atomic_load_explicit(covei_stream_header(stream, position), memory_order_acquire);
        if (COVEI_UNLIKELY(word == 0)) {
            if (timeout_ns > 0 && look_again(stream))
                continue;
            int result = covei_stream_wait_data(stream, timeout_ns);
            if (result < 0)
                return result;
            continue;
        }
        *record = covei_record_bytes(word, position, stream->capacity);
        uint64_t length = COVEI_HEADER_LENGTH(word);
        if (COVEI_LIKELY(COVEI_HEADER_KIND(word) == COVEI_STREAM_DATA && *record != 0 && stream->at.skip < length)) {
            *data = stream->ring + ((position + COVEI_STREAM_HEADER) & stream->mask) + stream->at.skip;
            *left = length - stream->at.skip;
            return 1;
        }
        if (*record == 0 || COVEI_HEADER_KIND(word) == COVEI_STREAM_DATA)
            return corrupt(stream);
        int result = pass_special(stream, word, *record);
        if (result <= 0)
            return result;
    }
}

/* Is more data there already, perhaps behind a PAD? What ends a session waits for the next call. */
static inline bool next_is_data(struct cove_stream *stream)
{
    for (int pads = 0; pads < 2; pads++) {
        uint64_t position = stream->at.position;
        /* edge P */
        uint64_t word = atomic_load_explicit(covei_stream_header(stream, position), memory_order_acquire);
        uint64_t record = word ? covei_record_bytes(word, position, stream->capacity) : 0;
        if (record == 0 || COVEI_HEADER_KIND(word) == COVEI_STREAM_DATA)
            return record != 0;
        if (COVEI_HEADER_KIND(word) != COVEI_STREAM_PAD)
            return false;
        stream->at.position += record;
    }
    return false;
}

/* One call takes several records, but the cursor moves once, at the end: a reader that dies inside has consumed
 * nothing. So that the writer need not wait for all of a long read, a call takes a quarter of the ring at most, or
 * one record. */
int64_t cove_stream_read(cove_stream *stream, void *data, size_t size_bytes, int64_t timeout_ns)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_READER)))
        return covei_stream_usable(stream, COVE_READER);
    if (size_bytes == 0)
        return covei_error(-EINVAL, "%s: a read wants room for at least one byte", stream->name);
    stream->peeked = 0;
    uint64_t done = 0;
    do {
        const unsigned char *from = NULL;
        uint64_t left = 0, record = 0;
        int result = find_data(stream, &from, &left, &record, timeout_ns); /* after the first, there is data */
        if (result <= 0) {
            if (done == 0)
                return result;
            break;
        }
        uint64_t taken = covei_min(left, size_bytes - done);
        covei_copy((unsigned char *)data + done, from, taken);
        pass(stream, taken, left, record);
        done += taken;
    } while (done < size_bytes && done < stream->capacity / 4 && next_is_data(stream));
    move_cursor(stream);
    return (int64_t)done;
}

int64_t cove_stream_peek(cove_stream *stream, const void **data, int64_t timeout_ns)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_READER)))
        return covei_stream_usable(stream, COVE_READER);
    const unsigned char *from = NULL;
    uint64_t left = 0, record = 0;
    stream->peeked = 0;
    int result = find_data(stream, &from, &left, &record, timeout_ns);
    if (result <= 0)
        return result;
    *data = from;
    stream->peeked = left;
    return (int64_t)left;
}

int cove_stream_consume(cove_stream *stream, size_t size_bytes)
{
    if (COVEI_UNLIKELY(!covei_stream_ready(stream, COVE_READER)))
        return covei_stream_usable(stream, COVE_READER);
    if (size_bytes > stream->peeked)
        return covei_error(-EINVAL, "%s: %zu bytes cannot be consumed, %" PRIu64 " were shown", stream->name,
                           size_bytes, stream->peeked);
    if (size_bytes == 0)
        return 0;
    uint64_t length = stream->peeked + stream->at.skip; /* of the whole record */
    pass(stream, size_bytes, stream->peeked, COVEI_STREAM_HEADER + covei_pad8(length));
    move_cursor(stream);
    stream->peeked -= size_bytes;
    return 0;
}
