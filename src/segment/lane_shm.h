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
 *     is taken, and until after it is given back. */
#ifndef COVEI_SEGMENT_LANE_SHM_H
#define COVEI_SEGMENT_LANE_SHM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define COVEI_LANE_LOCKS 32u
#define COVEI_INNER_UNITS 96u
#define COVEI_OUTER_UNITS 112u

enum covei_phase {
    COVEI_PHASE_ACTIVE = 0, /* what the outer journal says is undone by recovery */
    COVEI_PHASE_UNDONE = 1, /* the bytes are back; blocks allocated in the transaction are still to be freed */
    COVEI_PHASE_COMMITTED = 2 /* nothing is undone; blocks freed in the transaction are still to be freed */
};

enum covei_record {
    COVEI_RECORD_BYTES = 1, /* old bytes */
    COVEI_RECORD_ALLOCATED = 2, /* no bytes; offset is a block to be freed if the transaction does not commit */
    COVEI_RECORD_DOOMED = 3 /* no bytes; offset is a block to be freed if it does, to be spared if it does not */
};

struct covei_lane_shm {
    _Atomic uint64_t tails;
    _Atomic uint64_t waits_for; /* offset of the lock word that this thread waits for; for people */
    _Atomic uint32_t inside; /* durable segments: 1: in a transaction, which who copies the segment waits for */
    _Atomic int32_t thread_id; /* for people */
    uint64_t journal_block; /* the outer journal once it is larger than `outer`: unit 0 is its capacity in units */
    uint64_t journal_next; /* a larger one that is being prepared */
    uint64_t journal_old; /* the smaller one that it replaced */
    _Atomic uint32_t life_at; /* 1 + where in `life` the robust futex word is, in bytes; 0: nowhere */
    uint32_t reserved2;
    uint64_t reserved3;
    uint64_t life[8]; /* a robust mutex of the owner's libc, held while the thread lives */
    _Atomic uint64_t held[COVEI_LANE_LOCKS];
    uint64_t inner[COVEI_INNER_UNITS];
    uint64_t outer[COVEI_OUTER_UNITS];
};
_Static_assert(offsetof(struct covei_lane_shm, tails) == 0, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, waits_for) == 8, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, inside) == 16, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, thread_id) == 20, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, journal_block) == 24, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, journal_next) == 32, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, journal_old) == 40, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, life_at) == 48, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, reserved2) == 52, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, reserved3) == 56, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, life) == 64, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, held) == 128, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, inner) == 384, "lane layout");
_Static_assert(offsetof(struct covei_lane_shm, outer) == 1152, "lane layout");
_Static_assert(sizeof(struct covei_lane_shm) == 2048, "lane layout");

#define COVEI_TAILS_INNER(tails) ((uint32_t)((tails)&0xffff))
#define COVEI_TAILS_PHASE(tails) ((uint32_t)((tails) >> 16) & 0xf)
#define COVEI_TAILS_OUTER(tails) ((uint64_t)(tails) >> 20)
#define COVEI_TAILS(outer, phase, inner) ((uint64_t)(outer) << 20 | (uint64_t)(phase) << 16 | (uint64_t)(inner))

#endif
