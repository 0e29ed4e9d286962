/* segment_shm.h - the bytes of a segment: header, roster. Layout only.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *   0 KiB   header                  struct covei_header_shm
 *   4 KiB   root of the heap        (heap_shm.h)
 *   8 KiB   root of the directory   (directory_shm.h)
 *  12 KiB   row states              uint64_t [max_members]: state and generation of each row, dense, to be scanned
 *    ..     lane owners             uint32_t [max_lanes]: row + 1 of the member whose thread has the lane, 0: free
 *    ..     rows                    struct covei_row_shm [max_members]
 *    ..     lanes                   struct covei_lane_shm [max_lanes] (lane_shm.h)
 *    ..     heap                    up to size_bytes; grows
 *
 * Each part begins on a page. Everything is where max_members says, so no offset has to be believed. The pages of
 * rows and lanes are holes of the file until they are needed: rows_ready and lanes_ready say how many have memory
 * behind them.
 * All numbers are little-endian. */
#ifndef COVEI_SEGMENT_SEGMENT_SHM_H
#define COVEI_SEGMENT_SEGMENT_SHM_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Cove's layout is little-endian; a port to this machine needs swapping accessors"
#endif

#define COVEI_MAGIC UINT64_C(0x0a31746765766f43) /* "Covegt1\n" */
#define COVEI_LAYOUT 3u

#define COVEI_HEAP_ROOT_AT UINT64_C(4096)
#define COVEI_DIRECTORY_ROOT_AT UINT64_C(8192)
#define COVEI_TABLES_AT UINT64_C(12288)

#define COVEI_MEMBERS_MIN 2u
#define COVEI_MEMBERS_MAX 16384u
#define COVEI_LANES_PER_MEMBER 4u

enum covei_segment_state {
    COVEI_SEGMENT_BUILDING = 0, /* never seen under a name */
    COVEI_SEGMENT_READY = 1,
    COVEI_SEGMENT_REMOVED = 2 /* it loses its name, or has lost it */
};

struct covei_header_shm {
    uint64_t magic;
    uint32_t layout;
    uint32_t signature; /* of sizes and offsets: covei_layout_signature */
    _Atomic uint64_t features; /* bit n: objects of type n were made; only ever set */
    _Atomic uint64_t size_bytes; /* of the file that is usable; only grows; guarded by grow_lock */
    uint64_t max_size_bytes; /* fixed */
    uint32_t max_members; /* fixed */
    uint32_t max_lanes; /* fixed */
    uint32_t lifetime; /* fixed; enum cove_lifetime */
    _Atomic uint32_t state; /* enum covei_segment_state; stored last when built */
    uint64_t created_ns; /* wall clock */
    uint8_t boot_id[16]; /* of the system's run in which it was last made or opened by its only member */
    _Atomic uint32_t must_fence; /* 1: a member cannot be fenced from outside, so senders fence themselves */
    _Atomic uint32_t scan_hint; /* where the next look for dead members begins; any value is right */
    _Atomic uint32_t rows_ready; /* rows below this have memory; only grows */
    _Atomic uint32_t lanes_ready; /* likewise lanes */
    uint32_t durable; /* fixed; 1: a file that outlives the machine (durable.c) */
    _Atomic uint32_t clean; /* durable: 1: its last member wrote all of it back and left */
    uint64_t inode; /* of the file that it was built in: a copy of the bytes is told from it */
    alignas(64) _Atomic uint64_t grow_lock;
    alignas(64) _Atomic uint64_t gate_lock; /* durable: held by who copies the segment */
    _Atomic uint64_t sync_lock; /* durable: held by who makes a copy and gives it its name */
    alignas(64) uint8_t unused[4096 - 256];
};
_Static_assert(offsetof(struct covei_header_shm, magic) == 0, "header layout");
_Static_assert(offsetof(struct covei_header_shm, layout) == 8, "header layout");
_Static_assert(offsetof(struct covei_header_shm, signature) == 12, "header layout");
_Static_assert(offsetof(struct covei_header_shm, features) == 16, "header layout");
_Static_assert(offsetof(struct covei_header_shm, size_bytes) == 24, "header layout");
_Static_assert(offsetof(struct covei_header_shm, max_size_bytes) == 32, "header layout");
_Static_assert(offsetof(struct covei_header_shm, max_members) == 40, "header layout");
_Static_assert(offsetof(struct covei_header_shm, max_lanes) == 44, "header layout");
_Static_assert(offsetof(struct covei_header_shm, lifetime) == 48, "header layout");
_Static_assert(offsetof(struct covei_header_shm, state) == 52, "header layout");
_Static_assert(offsetof(struct covei_header_shm, created_ns) == 56, "header layout");
_Static_assert(offsetof(struct covei_header_shm, boot_id) == 64, "header layout");
_Static_assert(offsetof(struct covei_header_shm, must_fence) == 80, "header layout");
_Static_assert(offsetof(struct covei_header_shm, scan_hint) == 84, "header layout");
_Static_assert(offsetof(struct covei_header_shm, rows_ready) == 88, "header layout");
_Static_assert(offsetof(struct covei_header_shm, lanes_ready) == 92, "header layout");
_Static_assert(offsetof(struct covei_header_shm, durable) == 96, "header layout");
_Static_assert(offsetof(struct covei_header_shm, clean) == 100, "header layout");
_Static_assert(offsetof(struct covei_header_shm, inode) == 104, "header layout");
_Static_assert(offsetof(struct covei_header_shm, grow_lock) == 128, "header layout");
_Static_assert(offsetof(struct covei_header_shm, gate_lock) == 192, "header layout");
_Static_assert(offsetof(struct covei_header_shm, sync_lock) == 200, "header layout");
_Static_assert(offsetof(struct covei_header_shm, unused) == 256, "header layout");
_Static_assert(sizeof(struct covei_header_shm) == 4096, "header layout");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "atomics are plain words");
_Static_assert(__atomic_always_lock_free(4, 0) && __atomic_always_lock_free(8, 0), "atomics need no lock");

/* The low half of a row's state word; the high half is its generation, one more for each member that takes the row.
 * */
enum covei_row_state {
    COVEI_ROW_FREE = 0,
    COVEI_ROW_ATTACHED = 1, /* has a member, or had one that died and is not recovered */
    COVEI_ROW_LINGERING = 2, /* its member closed the segment, but a thread of it still has a lane */
    COVEI_ROW_RECOVERED = 3 /* of a dead member, recovered; free as soon as the kernel drops its byte */
};

struct covei_row_shm {
    alignas(8) int32_t pid; /* in its own PID namespace */
    uint32_t uid;
    uint64_t start_ticks;
    uint64_t pid_namespace;
    uint64_t attached_ns; /* wall clock */
    char command[32];
    uint64_t pending; /* first of the blocks that go back when this member goes; guarded by the heap's lock */
    uint64_t reserved[7];
};
_Static_assert(offsetof(struct covei_row_shm, pid) == 0, "row layout");
_Static_assert(offsetof(struct covei_row_shm, uid) == 4, "row layout");
_Static_assert(offsetof(struct covei_row_shm, start_ticks) == 8, "row layout");
_Static_assert(offsetof(struct covei_row_shm, pid_namespace) == 16, "row layout");
_Static_assert(offsetof(struct covei_row_shm, attached_ns) == 24, "row layout");
_Static_assert(offsetof(struct covei_row_shm, command) == 32, "row layout");
_Static_assert(offsetof(struct covei_row_shm, pending) == 64, "row layout");
_Static_assert(offsetof(struct covei_row_shm, reserved) == 72, "row layout");
_Static_assert(sizeof(struct covei_row_shm) == 128, "row layout");

/* Bytes of the file that are locked, not read or written. */
#define COVEI_BYTE_ALIVE(row) (UINT64_C(2) * (row)) /* held by the member while it lives */
#define COVEI_BYTE_RECOVERY(row) (UINT64_C(2) * (row) + 1) /* held by whoever recovers it */
/* The life-cycle byte, far behind them: region.h. */

#endif
