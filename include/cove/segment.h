/* cove/segment.h - named segments: opening, members, looking, removing, checking, clearing up.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A segment is a named stretch of shared memory with a structure: a header, a roster of the processes that are
 * attached (its members), a heap and a directory of named objects. It appears under its name only when it is whole
 * and its memory is really there, grows while others are attached without any address moving, and survives the death
 * of any member at any instruction.
 *
 * A plain name holds 1 to 200 letters, digits, '.', '_' and '-', and does not begin with '.' or '-'. The file is
 * NAME.cove in $COVE_DIR, or in /dev/shm where that is not set. A prefix picks another backend: posix:/NAME,
 * file:PATH, sysv:KEY, sysv:PATH:ID, memfd:, fd:N, huge:NAME, hugetry:NAME (cove/region.h says what they are, and
 * cove_supports what they can). The name of an object in a segment, SEGMENT/OBJECT, is written with two slashes where
 * the segment's own name holds some: file:/var/lib/app/state.cove//commands.
 *
 * Threads: every function here may be called by any thread. Signals: none is async-signal-safe.
 * fork: a child inherits no membership. Its first use of an inherited handle fails with COVE_EFORKED; it opens the
 * segment by name to become a member of its own. exec, and exit without cove_close, count as the member's death, and
 * the others recover what it held. */
#ifndef COVE_SEGMENT_H
#define COVE_SEGMENT_H

#include <cove/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cove_segment cove_segment;

/* flags of cove_options */
#define COVE_EXISTING 0x1u /* open only; -ENOENT where there is none */
#define COVE_EXCLUSIVE 0x2u /* create only; -EEXIST where there is one */
#define COVE_READONLY 0x4u /* map read-only, take no place in the roster, disturb nobody; implies COVE_EXISTING */
#define COVE_ANY_OWNER 0x8u /* accept a segment that belongs to another user (its owner can spoil its data) */
#define COVE_NODUMP 0x10u /* leave this process's mapping out of core dumps */
/* If another process truncates the file, go on with zeros in private memory and get COVE_ETRUNCATED from the next
 * call, instead of dying of SIGBUS. Sets the process's handler for that signal; cove_region_guard (region.h) says
 * how. Such a member has no robust mutex in the segment: its death is told by its file lock alone, which the system
 * drops some milliseconds later. */
#define COVE_GUARD 0x20u
/* What this process holds in the segment is held until the processes that it starts, and those that they start, have
 * ended as well, however it dies. So nobody works on under a lock that is somebody else's by then: flock(1)'s
 * promise, on which `cove lock` stands. They inherit a descriptor that keeps the membership, with a number of 10 or
 * more; it is not close-on-exec. Who is to hold nothing closes it: by cove_close of the inherited handle in a forked
 * child, or as a daemon that closes all. The member's own cove_close ends the membership at once, whoever has the
 * descriptor; its exec does not. Others notice such an end within some 10 ms: there is no robust mutex, as with
 * COVE_GUARD.
 * Counts for all who open the segment in this process, until the last of them closes it. Where it is open there
 * without, opening it with this is -EBUSY. */
#define COVE_HELD_BY_CHILDREN 0x40u

/* How long a segment lives. */
enum cove_lifetime {
    COVE_KEEP = 0, /* until it is removed (cove_unlink, `cove rm`) */
    COVE_LAST_OUT = 1 /* until its last member closes it or dies; where it died, until cove_gc or the next open */
};

/* All zero means all defaults. Sizes apply to creation; opening an existing segment takes what is there. */
struct cove_options {
    uint32_t flags;
    uint32_t lifetime; /* enum cove_lifetime */
    uint64_t size_bytes; /* memory for objects to begin with; default 256 KiB; at least 4 KiB */
    uint64_t max_size_bytes; /* how far the segment may grow; default 64 GiB, or what the machine can map */
    uint32_t max_members; /* processes at once; default 1024; at least 2, at most 16384 */
    uint32_t mode; /* rights, as of chmod; default 0600. The umask does not apply */
    const char *group; /* name of the group to give it to; NULL: the creator's */
    int64_t timeout_ns; /* how long to wait for another process that is opening or removing it; default 5 s */
    uint64_t reserved[4]; /* 0 */
};

/* Open the segment `name`; create it where it is missing.
 * The same name opened twice in one process gives the same handle, which then wants as many closes.
 * Returns 0 (it was there), COVE_CREATED, or: -ENOENT, -EEXIST (by flags), COVE_ENAME, COVE_ENOTCOVE, COVE_ELAYOUT,
 * COVE_ECORRUPT, COVE_EOWNER, -EACCES, -ENOSPC (needed and free bytes are in the sentence), -ENOMEM, -EMFILE,
 * -EUSERS (the roster is full), -EINVAL (impossible sizes), -ETIMEDOUT, -EBUSY (COVE_HELD_BY_CHILDREN), -EOPNOTSUPP
 * (not on this machine), and for `file:` COVE_RECOVERED (opened from the copy that cove_sync made) and COVE_EUNCLEAN.
 * A crash inside leaves either no segment or a whole one, and no debris. */
COVE_API COVE_CHECKED
int cove_open(cove_segment **segment, const char *name, const struct cove_options *options);

/* Undo one cove_open. The last one closes what was opened in the segment and leaves the roster. A thread that used
 * the segment keeps the mapping until it ends, since the system looks at its part of it then. Returns 0 (in a forked
 * child too: it drops the inherited copy), or -EBUSY (a thread is inside a transaction or holds a lock: nothing was
 * closed). NULL is allowed. */
COVE_API int cove_close(cove_segment *segment);

/* Remove the name. Members go on with what they have; the memory goes with the last of them.
 * Returns 0, -ENOENT, COVE_ENAME, COVE_ENOTCOVE, COVE_EOWNER, -EACCES, -ETIMEDOUT; -EBUSY where living members are
 * attached and `force` is 0. */
COVE_API int cove_unlink(const char *name, int force);

/* What a segment is. */
struct cove_segment_info {
    char name[1024];
    char backend[16]; /* "posix", "file", "sysv", "memfd", "fd", "huge" */
    char state[16]; /* "ready", "removed", "corrupt"; "unclean": in use when the machine stopped (cove_sync) */
    uint64_t size_bytes; /* of the file */
    uint64_t max_size_bytes;
    uint64_t resident_bytes; /* memory that the file occupies */
    uint64_t heap_bytes; /* of the heap so far */
    uint64_t heap_free_bytes; /* free in it, headers of free blocks included */
    uint64_t heap_block_count; /* blocks in use */
    uint64_t created_ns; /* wall clock, since 1970 */
    uint32_t layout;
    uint32_t lifetime;
    uint32_t mode;
    uint32_t owner_uid;
    uint32_t owner_gid;
    uint32_t max_members;
    uint32_t members_alive;
    uint32_t members_dead; /* dead and not yet recovered */
    uint32_t object_count;
    uint32_t reserved32;
    uint64_t features; /* bit n: an object of type n was made in it */
    uint64_t reserved[8];
};

/* One member. */
struct cove_member_info {
    uint32_t row;
    uint32_t generation; /* of that row: tells two members that used it one after the other apart */
    int32_t pid; /* as its own PID namespace counts */
    uint32_t uid;
    uint32_t lanes; /* its threads that have used the segment */
    uint32_t alive; /* 1, or 0: dead and not yet recovered */
    uint64_t start_ticks; /* when it started, as /proc/PID/stat says */
    uint64_t pid_namespace;
    uint64_t attached_ns; /* wall clock, since 1970 */
    char command[32];
};

/* Look at a segment by name: maps it read-only, takes no part in it, changes nothing. Safe on any bytes.
 * Returns 0 or an error as cove_open. */
COVE_API COVE_CHECKED
int cove_stat(const char *name, struct cove_segment_info *info);

/* The same of an open segment. */
COVE_API COVE_CHECKED
int cove_segment_stat(cove_segment *segment, struct cove_segment_info *info);

/* Up to `capacity` members, in the order of their rows. Returns how many there are (which may be more), or an error.
 * */
COVE_API int64_t cove_segment_members(cove_segment *segment, struct cove_member_info *members, size_t capacity);

/* Make what the segment holds survive a power cut (`file:` segments). A mapped file is written back by the system
 * when it likes, so what a power cut leaves of it is no state that it ever had. This waits until no thread holds a
 * lock or is inside a transaction or a call that changes something (no new one begins meanwhile), copies the segment,
 * lets everybody go on, and stores the copy beside the file (PATH.synced) in one step. A segment that was in use when
 * the machine stopped is opened from that copy, and cove_open returns COVE_RECOVERED; where there is no copy, it
 * returns COVE_EUNCLEAN. (Opening it COVE_READONLY, to look, is no error: its state is "unclean" then.) When the last
 * member closes the segment it is written back whole, and marked clean.
 * What changes in one atomic step without a lock is copied as it is found: counters, events, plain permits,
 * conditions, barriers; of two such changes the copy may hold the later one alone. Owned permits are waited for, as
 * locks are. Who holds a lock and waits for what another brings only after taking one (an event, a permit, a party)
 * is held up with him until the timeout.
 * The caller's thread holds no lock of the segment. Returns 0; -EOPNOTSUPP (memory that goes with the machine);
 * -EBUSY (this thread holds a lock or is inside a transaction); -ETIMEDOUT (somebody else does, for timeout_ns: the
 * sentence names him); COVE_EREMOVED (it lost its name); -ENOSPC, -EIO. On an error the copy before is there still.
 * Crash inside: likewise. */
COVE_API COVE_CHECKED
int cove_sync(cove_segment *segment, int64_t timeout_ns);

/* A new descriptor of the segment's memory, close-on-exec, the caller's to close: to be inherited or sent
 * (cove_fd_send), and opened as "fd:N" by who gets it. It is no membership. Returns it, -EOPNOTSUPP (System V),
 * -EMFILE, COVE_EFORKED. */
COVE_API int cove_segment_fd(const cove_segment *segment);

/* The name it was opened by. Valid until it is closed. */
COVE_API const char *cove_segment_name(const cove_segment *segment);

/* The names of the segments that can be found: those in the directory of names (without ".cove"), System V ones, and
 * huge ones. `file:` segments lie anywhere and are not among them. Calls `visit` with each until it returns non-zero.
 * Returns what the last `visit` returned, or an error. */
COVE_API int cove_segments(int (*visit)(const char *name, void *context), void *context);

/* The directory in which segments live: $COVE_DIR or /dev/shm. Valid until the environment changes. */
COVE_API const char *cove_directory(void);

/* Check every structure of the segment without changing it (a read-only fsck): header, roster, lanes, heap,
 * directory, each object.
 * Calls `report` with a sentence for each finding. Exact when no member is in the middle of a change; while members
 * are working, a finding may be a change in flight, so the doctor looks several times before it believes one.
 * Returns the number of findings (0: sound), or an error. Safe on any bytes. */
COVE_API int64_t cove_segment_check(cove_segment *segment, void (*report)(const char *sentence, void *context),
                                    void *context);

/* Recover what dead members of this segment left. Returns how many were recovered, or an error. Nobody needs to call
 * it: whoever waits for a dead member, opens or closes the segment does it too. */
COVE_API int64_t cove_recover(cove_segment *segment);

/* What cove_gc did or would do, one call a thing: `name` and a sentence. */
typedef void cove_gc_report(const char *name, const char *sentence, void *context);

/* Clear up this user's segments: recover dead members, remove LAST_OUT segments without living members and debris of
 * killed creators. A whole KEEP segment is never removed. With `dry_run` nothing changes.
 * Returns how many things were done (or would be), or an error. */
COVE_API int64_t cove_gc(int dry_run, cove_gc_report *report, void *context);

#ifdef __cplusplus
}
#endif
#endif
