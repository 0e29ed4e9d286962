/* lane_shm.h - the bytes of a lane: one thread's journal, the locks it holds, its sign of life. Layout only.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A lane has two journals of undo records. The inner one is for changes inside the library (heap, directory), which
 * are short; the outer one is for the user's transaction. `tails` holds the lengths of both and the phase, so that
 * one store commits an inner change and appends what would undo it to the outer journal:
 *
 *     63                      20 19   16 15              0
 *     | outer length (8 bytes) | phase  | inner length    |     lengths in units of 8 bytes
 *
 * A record is the old bytes, padded to 8, then a footer of two units: {offset | kind << 56} and {length in bytes}. It
 * counts once the length in `tails` covers it, which is stored after it. Undo goes from the newest to the oldest.
 *
 * I1  A lane whose owner word is 0 has tails 0, holds no lock and has no journal block.
 * I2  Every lock word that names this lane has its offset in held[] (0: an empty place): it is there before the word
 *     is taken, and until after it is given back. What else held[] may name is held by standing there.
 * I3  marks == 0: no place of held[] has another kind than COVEI_HELD_WORD. */
#ifndef COVEI_SEGMENT_LANE_SHM_H
#define COVEI_SEGMENT_LANE_SHM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define COVEI_LANE_LOCKS 32u
#define COVEI_INNER_UNITS 96u
#define COVEI_OUTER_UNITS 111u

/* A place of held[]: an offset, a multiple of 8, and in its low bits what is held there. */
enum covei_held {
    COVEI_HELD_WORD = 0, /* the lock word at the offset, held or wanted */
    COVEI_HELD_SHARED = 1, /* the rwlock at the offset, to read (sync/rwlock.c) */
    COVEI_HELD_PERMIT = 2, /* a permit of the semaphore at the offset (sync/semaphore.c) */
    COVEI_HELD_PARTY = 3 /* a membership of the barrier at the offset; bits 48.. hold its epoch (sync/barrier.c) */
};
#define COVEI_HELD_KIND(held) ((uint32_t)((held)&7))
#define COVEI_HELD_OFFSET(held) ((held)&UINT64_C(0x0000fffffffffff8))
#define COVEI_HELD_EPOCH(held) ((uint32_t)((held) >> 48))
#define COVEI_HELD(kind, offset) ((uint64_t)(offset) | (uint64_t)(kind))

/* Likewise of waits_for. */
enum covei_waits {
    COVEI_WAITS_WORD = 0, /* for the owner of the lock word at the offset */
    COVEI_WAITS_DRAIN = 1, /* for all readers of the rwlock at the offset, whose word this lane has */
    COVEI_WAITS_PERMIT = 2, /* for any permit of the semaphore */
    COVEI_WAITS_PARTY = 3, /* for the parties of the barrier */
    COVEI_WAITS_NEWS = 4 /* for nobody in particular: an event, a condition, a counter */
};

enum covei_phase {
    COVEI_PHASE_ACTIVE = 0, /* what the outer journal says is undone by recovery */
    COVEI_PHASE_UNDONE = 1, /* the bytes are back; blocks allocated in the transaction are still to be freed */
    COVEI_PHASE_COMMITTED = 2, /* nothing is undone; blocks freed in the transaction are still to be freed */
    COVEI_PHASE_COMMITTING = 3, /* nothing is undone; revisions are still to be made even; then COMMITTED */
    COVEI_PHASE_RESTORED = 4 /* the bytes are back; revisions are still to be made even; then UNDONE */
};

enum covei_record {
    COVEI_RECORD_BYTES = 1, /* old bytes */
    COVEI_RECORD_ALLOCATED = 2, /* no bytes; offset is a block to be freed if the transaction does not commit */
    COVEI_RECORD_DOOMED = 3, /* no bytes; offset is a block to be freed if it does, to be spared if it does not */
    /* no bytes; offset is a revision that the transaction changes; the length is where the record of the revision
     * before it ends, in units; 0: there is none */
    COVEI_RECORD_REVISION = 4
};

struct covei_lane_shm {
    _Atomic uint64_t tails;
    _Atomic uint64_t waits_for; /* what this thread waits for: enum covei_waits; 0: nothing */
    _Atomic uint32_t inside; /* durable segments: 1: in a transaction, which who copies the segment waits for */
    _Atomic int32_t thread_id; /* for people */
    uint64_t journal_block; /* the outer journal once it is larger than `outer`: unit 0 is its capacity in units */
    uint64_t journal_next; /* a larger one that is being prepared */
    uint64_t journal_old; /* the smaller one that it replaced */
    _Atomic uint32_t life_at; /* 1 + where in `life` the robust futex word is, in bytes; 0: nowhere */
    _Atomic uint32_t marks; /* places of held[] that hold other things than lock words, or more; I3 */
    _Atomic int64_t waits_since; /* the monotonic clock when waits_for was stored */
    uint64_t life[8]; /* a robust mutex of the owner's libc, held while the thread lives */
    _Atomic uint64_t held[COVEI_LANE_LOCKS];
    uint64_t inner[COVEI_INNER_UNITS];
    uint64_t outer[COVEI_OUTER_UNITS];
    _Atomic uint32_t turn; /* sleeps on it: a waiter of a fair lock; one more: look again */
    uint32_t reserved;
};
_Static_assert(offsetof(struct covei_lane_shm, tails) == 0, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, waits_for) == 8, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, inside) == 16, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, thread_id) == 20, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, journal_block) == 24, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, journal_next) == 32, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, journal_old) == 40, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, life_at) == 48, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, marks) == 52, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, waits_since) == 56, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, life) == 64, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, held) == 128, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, inner) == 384, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, outer) == 1152, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, turn) == 2040, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, reserved) == 2044, "lane layout");
_Static_assert(sizeof(struct covei_lane_shm) == 2048, "lane layout");

#define COVEI_TAILS_INNER(tails) ((uint32_t)((tails)&0xffff))
#define COVEI_TAILS_PHASE(tails) ((uint32_t)((tails) >> 16) & 0xf)
#define COVEI_TAILS_OUTER(tails) ((uint64_t)(tails) >> 20)
#define COVEI_TAILS(outer, phase, inner) ((uint64_t)(outer) << 20 | (uint64_t)(phase) << 16 | (uint64_t)(inner))

#endif
