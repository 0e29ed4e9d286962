/* stream.h - what the files of the stream share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * stream.c       the handle: open, close, claims, sessions
 * stream_write.c the writer's side of the ring
 * stream_read.c  the reader's side
 * stream_wait.c  spinning, sleeping, and the other end's death
 * stream_type.c  its row in the table of types: check, recovery, description */
#ifndef COVEI_CHANNEL_STREAM_H
#define COVEI_CHANNEL_STREAM_H

#include "channel/stream_shm.h"
#include "object/directory.h"

#include <cove/stream.h>

#define COVEI_STREAM_HEADER UINT64_C(8)
#define COVEI_STREAM_SPARE \
    UINT64_C(24) /* kept free behind the tail: the next header, and END or DIED with the header behind it */

struct cove_stream {
    struct covei_child child;
    cove_segment *segment; /* NULL once it was closed under the stream */
    struct covei_stream_shm *shm;
    unsigned char *ring;
    uint64_t capacity, mask;
    enum cove_end end;
    uint32_t flags;
    uint64_t claim;
    uint64_t holder; /* who had the end when we wanted it */
    uint32_t session;
    uint32_t interrupts; /* covei_interrupts when the call that waits began */
    bool in_long_write; /* which waits more than once */
    uint32_t inside; /* durable: how deep we are between covei_stream_enter and _leave */
    bool owns_segment; /* opened by its full name: closing the stream closes the segment once */

    /* writer */
    uint64_t tail; /* where the next record begins; its header is 0 */
    uint64_t zeroed; /* the ring is zero from tail up to here */
    uint64_t head_seen; /* shm->head, as last looked at */
    uint64_t reserved_at; /* position of the reserved record */
    uint64_t reserved_bytes; /* 0: nothing is reserved */
    uint32_t
        told_reader; /* the reader's session whose end we were told of: a recovery that is repeated says it again */
    bool wrote; /* something in this session */

    /* reader */
    struct covei_cursor_shm at; /* what the cursor in shared memory says */
    uint64_t published; /* shm->head */
    bool quick; /* the last wait found the other end on another processor: spinning is worth it */
    uint64_t peeked; /* bytes that the last peek showed */

    char name[COVEI_FULL_NAME_MAX + COVEI_NAME_MAX + 3]; /* SEGMENT/OBJECT, for sentences */
};

static inline _Atomic uint64_t *covei_stream_header(const struct cove_stream *stream, uint64_t position)
{
    return (_Atomic uint64_t *)(void *)(stream->ring + (position & stream->mask));
}

static inline uint64_t covei_header_word(uint32_t length, uint32_t kind, uint32_t session)
{
    return length | (uint64_t)kind << 32 | (uint64_t)(session & 0xffff) << 48;
}

#define COVEI_HEADER_LENGTH(word) ((uint32_t)(word))
#define COVEI_HEADER_KIND(word) ((uint32_t)((word) >> 32) & 0xff)
#define COVEI_HEADER_SESSION(word) ((uint32_t)((word) >> 48))

static inline uint64_t covei_pad8(uint64_t bytes)
{
    return (bytes + 7) & ~UINT64_C(7);
}

/* The size of a record in the ring, or 0: no such record can stand at `position` of a ring of that capacity. */
static inline uint64_t covei_record_bytes(uint64_t word, uint64_t position, uint64_t capacity)
{
    uint32_t kind = COVEI_HEADER_KIND(word);
    if (kind == COVEI_STREAM_END || kind == COVEI_STREAM_DIED)
        return COVEI_STREAM_HEADER;
    uint64_t length = COVEI_HEADER_LENGTH(word);
    uint64_t begin = (position + COVEI_STREAM_HEADER) & (capacity - 1);
    if ((kind != COVEI_STREAM_DATA && kind != COVEI_STREAM_PAD) || length == 0 || length > capacity ||
        begin + length > capacity)
        return 0;
    return COVEI_STREAM_HEADER + covei_pad8(length);
}

static inline uint64_t covei_claim_word(uint32_t row, uint32_t generation)
{
    return (uint64_t)generation << 32 | (row + 1);
}
#define COVEI_CLAIM_ROW(claim) ((uint32_t)(claim)-1)
#define COVEI_CLAIM_GENERATION(claim) ((uint32_t)((claim) >> 32))

/* 0, or why this handle cannot be used so: COVE_EFORKED, COVE_ECLOSED, -EPERM (the other end). */
int covei_stream_usable(const struct cove_stream *stream, enum cove_end end);
static inline bool covei_stream_ready(const struct cove_stream *stream, enum cove_end end)
{
    return stream && stream->segment && stream->end == end && covei_segment_current(stream->segment);
}

/* In a durable segment: what both ends have made of the stream between these two is not seen half done by who copies
 * it. May be nested. */
void covei_stream_enter(struct cove_stream *stream);
void covei_stream_leave(struct cove_stream *stream);

/* After a store that the other end may sleep for: make it visible before the sleep word is looked at. The sleeper's
 * membarrier does that for us, so that the compiler is all that has to be held back; unless some member cannot be
 * reached that way. */
static inline void covei_stream_fence(const struct cove_stream *stream)
{
    covei_order();
    if (COVEI_UNLIKELY(atomic_load_explicit(&stream->segment->header->must_fence, memory_order_relaxed)))
        atomic_thread_fence(memory_order_seq_cst); /* total order of: message, sleep word | sleep word, message */
}

/* Recover the member that has that claim, if it is dead. 1: done; 0: it lives, or somebody else is at it; an error:
 * not in time. */
int covei_stream_bury(struct cove_stream *stream, struct covei_lane *lane, uint64_t claim, int64_t patience_ns);

/* Clear the sleep bit and wake, if the other end sleeps on the word. */
void covei_stream_wake(_Atomic uint32_t *word);

/* stream_write.c: append END, or DIED with a pid; where nothing was written and there is no room, nothing. */
void covei_stream_end(struct cove_stream *stream, enum covei_record_kind kind, int32_t pid);
/* stream_read.c: tell the writer how far we are. */
void covei_stream_publish(struct cove_stream *stream);
void covei_stream_read_cursor(const struct covei_stream_shm *shm, struct covei_cursor_shm *cursor);

/* stream_wait.c */
void covei_stream_note_cpu(const struct cove_stream *stream); /* where this end runs, as a hint to the other */
/* Until the header at the reader's position is not 0: 0; -EAGAIN, -ETIMEDOUT. */
int covei_stream_wait_data(struct cove_stream *stream, int64_t timeout_ns);
/* Until the writer has room for `bytes` and the spare: 0; -EAGAIN, -ETIMEDOUT, -EPIPE, COVE_EPEER. */
int covei_stream_wait_room(struct cove_stream *stream, uint64_t bytes, int64_t timeout_ns);
/* The reader has gone, if anybody said so: 0, -EPIPE, COVE_EPEER. */
int covei_stream_attend(struct cove_stream *stream);

/* stream_type.c: the position behind the last committed record, walking from `from`; `last` gets the last header, 0
 * where there is none, `bytes` the sum of the data. Bounded; false where the ring makes no sense, or changes under an
 * onlooker. */
bool covei_stream_find_tail(const struct covei_stream_shm *shm, uint64_t from, uint64_t *tail, uint64_t *last,
                            uint64_t *bytes);
/* Bytes committed and not consumed; while both ends are at work, an estimate. */
uint64_t covei_stream_unread(const struct covei_stream_shm *shm, const struct covei_cursor_shm *cursor);
/* Say in the stream who went. */
void covei_stream_depart(struct covei_departed_shm *departed, const struct cove_segment *segment, uint32_t row,
                         uint32_t session, enum covei_departure how);

#endif
