/* stream_shm.h - the bytes of a stream. Layout only.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A ring of records. Positions only grow; the ring's byte for position p is p & (capacity - 1). A record begins at a
 * multiple of 8 with its header, one word, 0 until the record is committed; bytes follow, padded to 8. They never run
 * past the ring's end: what would is split in two, or preceded by a PAD record.
 *
 *     63     48 47   40 39  32 31        0
 *     | session |   0   | kind |  length |        of DIED: the writer's pid instead of a length
 *
 *     head ... position ........................ tail
 *     | free for the writer again | READ, not yet told | DATA | DATA | ... | 0 | zeroed ahead |
 *
 * One regular writer to each line, which stands behind the field; besides it, the two ends clear each other's sleep
 * bits, and claims are taken and given back by both. */
#ifndef COVEI_CHANNEL_STREAM_SHM_H
#define COVEI_CHANNEL_STREAM_SHM_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define COVEI_STREAM_MIN UINT64_C(4096)
#define COVEI_STREAM_MAX (UINT64_C(1) << 31)

enum covei_record_kind {
    COVEI_STREAM_DATA = 1,
    COVEI_STREAM_PAD = 2, /* bytes that say nothing, up to the ring's end */
    COVEI_STREAM_END = 3, /* the writer closed */
    COVEI_STREAM_DIED = 4 /* the writer died; recovery wrote this */
};

/* Bits of to_writer and to_reader. */
#define COVEI_STREAM_SLEEPS 1u /* the other end sleeps on this word: clear the bit and wake it */
#define COVEI_STREAM_GONE 2u /* to_writer: a reader closed or died; `departed` says which */

/* How far the reader is. Two of them, of which `turn & 1` is the one that counts: one store moves the reader on. */
struct covei_cursor_shm {
    alignas(8) uint64_t position; /* of the record that is read next */
    uint64_t skip; /* bytes of it that are consumed already */
    uint64_t bytes; /* consumed since the stream was made */
    uint64_t begun; /* `bytes` when the present session began */
};
_Static_assert(offsetof(struct covei_cursor_shm, position) == 0, "cursor layout");
_Static_assert(offsetof(struct covei_cursor_shm, skip) == 8, "cursor layout");
_Static_assert(offsetof(struct covei_cursor_shm, bytes) == 16, "cursor layout");
_Static_assert(offsetof(struct covei_cursor_shm, begun) == 24, "cursor layout");
_Static_assert(sizeof(struct covei_cursor_shm) == 32, "cursor layout");

enum covei_departure { COVEI_CLOSED = 0, COVEI_DIED = 1, COVEI_GAVE_UP = 2 };

/* Who went, for the other end's sentence. */
struct covei_departed_shm {
    uint32_t session; /* of the writer, or of the reader */
    uint32_t how; /* enum covei_departure */
    int32_t pid;
    uint32_t reserved;
    char command[32];
};
_Static_assert(offsetof(struct covei_departed_shm, session) == 0, "departed layout");
_Static_assert(offsetof(struct covei_departed_shm, how) == 4, "departed layout");
_Static_assert(offsetof(struct covei_departed_shm, pid) == 8, "departed layout");
_Static_assert(offsetof(struct covei_departed_shm, reserved) == 12, "departed layout");
_Static_assert(offsetof(struct covei_departed_shm, command) == 16, "departed layout");
_Static_assert(sizeof(struct covei_departed_shm) == 48, "departed layout");

struct covei_stream_shm {
    uint64_t capacity; /* fixed: a power of two */
    uint64_t reserved[7];
    alignas(64) _Atomic uint64_t writer_claim; /* {generation, row + 1} of the member that has the end; 0: nobody */
    _Atomic uint64_t reader_claim;
    _Atomic uint32_t writer_lane; /* index of the thread that opened it: its sign of life */
    _Atomic uint32_t reader_lane;
    _Atomic uint32_t session; /* one more for each writer */
    _Atomic uint32_t writer_cpu; /* where the ends ran when they last waited */
    _Atomic uint32_t reader_cpu;
    _Atomic uint32_t reader_session; /* one more for each reader: tells one's departure from another's */
    alignas(64) _Atomic uint64_t head; /* reader: what lies below is free */
    _Atomic uint32_t to_writer; /* reader: look at me (bits above); the futex it sleeps on */
    _Atomic uint32_t reader_busy; /* durable segments: 1: its words are being moved (gate.c) */
    alignas(64) struct covei_cursor_shm cursor[2]; /* reader */
    alignas(64) _Atomic uint32_t turn; /* reader */
    _Atomic uint32_t told; /* reader: the session whose end it has been told of last */
    alignas(64) _Atomic uint32_t to_reader; /* writer: look at me; the futex it sleeps on */
    _Atomic uint32_t writer_busy; /* likewise */
    _Atomic uint64_t tail; /* writer: for people; the headers are the truth */
    alignas(64) struct covei_departed_shm reader_departed;
    alignas(64) struct covei_departed_shm writer_departed;
    /* the ring follows */
};
_Static_assert(offsetof(struct covei_stream_shm, capacity) == 0, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reserved) == 8, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, writer_claim) == 64, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reader_claim) == 72, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, writer_lane) == 80, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reader_lane) == 84, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, session) == 88, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, writer_cpu) == 92, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reader_cpu) == 96, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reader_session) == 100, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, head) == 128, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, to_writer) == 136, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reader_busy) == 140, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, cursor) == 192, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, turn) == 256, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, told) == 260, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, to_reader) == 320, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, writer_busy) == 324, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, tail) == 328, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, reader_departed) == 384, "stream layout");
_Static_assert(offsetof(struct covei_stream_shm, writer_departed) == 448, "stream layout");
_Static_assert(sizeof(struct covei_stream_shm) == 512, "stream layout");

#endif
