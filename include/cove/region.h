/* cove/region.h - raw shared bytes of any backend, with no structure of Cove's in them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What shm_open, ftruncate and mmap give, or shmget and shmat, or a mapped file, without their traps. A region is
 * exactly the object that its name says, so a program that knows nothing of Cove can be at its other end:
 *
 *     robot               POSIX shared memory: the file robot.cove in $COVE_DIR, or in /dev/shm
 *     posix:/robot        POSIX shared memory: what shm_open calls "/robot" (unless COVE_DIR moves the directory)
 *     file:PATH           a mapped file
 *     sysv:0x5eed         System V shared memory by its key; sysv:PATH:ID by the key that ftok makes of them
 *     memfd:              nameless memory, made here; sealed, so that nobody can shrink it
 *     fd:7                a descriptor that was inherited or received
 *     huge:robot          huge pages; hugetry:robot: normal ones where there are no huge ones
 *
 * A region gets its name when it has its size and its memory (System V apart, which names first); it is never
 * shrunk by Cove, and a full file system is an error (-ENOSPC), not a SIGBUS later. Rights are as asked, whatever the
 * umask. Descriptors are close-on-exec; links are not followed.
 *
 * Threads: every function may be called by any thread. Signals: none is async-signal-safe.
 * fork: a mapping is inherited, and the child may use the handle (its descriptor too) and close it, which leaves the
 * parent's alone. So a `memfd:` region opened before a fork is what MAP_ANONYMOUS or /dev/zero are elsewhere. */
#ifndef COVE_REGION_H
#define COVE_REGION_H

#include <cove/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cove_region cove_region;

/* What may be done with mapped bytes. */
enum cove_access {
    COVE_ACCESS_DEFAULT = 0, /* reading and writing; with COVE_READONLY, reading */
    COVE_ACCESS_READ = 1,
    COVE_ACCESS_WRITE = 2, /* reading and writing */
    COVE_ACCESS_NONE = 3 /* address space only: a touch is SIGSEGV until cove_region_protect */
};

/* All zero opens what exists, whole, to read and write. The flags are those of cove_options (cove/segment.h):
 * COVE_EXISTING, COVE_EXCLUSIVE, COVE_READONLY, COVE_ANY_OWNER, COVE_NODUMP, COVE_GUARD. */
struct cove_region_options {
    uint32_t flags;
    uint32_t access; /* enum cove_access */
    uint64_t size_bytes; /* of the whole. Creating needs it; of an existing one it is the least that will do */
    uint64_t offset; /* where the mapped part begins: any byte of the whole */
    uint64_t length_bytes; /* of the mapped part; 0: up to the end */
    uint32_t mode; /* rights, as of chmod; default 0600. The umask does not apply */
    uint32_t reserved32; /* 0 */
    const char *group; /* name of the group to give it to; NULL: the creator's */
    int64_t timeout_ns; /* how long to wait for another process that is making or removing it; default 5 s */
    uint64_t reserved[4]; /* 0 */
};

/* Open the region `name`. Where it is missing it is made if options give size_bytes, all bytes zero.
 * Returns 0 (it was there), COVE_CREATED, or: -ENOENT; -EEXIST (COVE_EXCLUSIVE); COVE_ENAME; COVE_ETYPE (it is a Cove
 * segment: open it with cove_open, or COVE_READONLY); COVE_EOWNER; -EMSGSIZE (it is smaller than size_bytes, or than
 * the part: the sentence gives its size); COVE_ENOTCOVE (what has that name is no memory: a directory, a link ...);
 * -EACCES, -ENOSPC, -ENOMEM, -EMFILE, -EINVAL, -EOPNOTSUPP (not with this backend), -ETIMEDOUT.
 * Crash inside: no region or a whole one, and no debris (System V: one that the next to open it finishes). */
COVE_API COVE_CHECKED
int cove_region_open(cove_region **region, const char *name, const struct cove_region_options *options);

/* Unmap and forget. Nobody may use its bytes any more; the region itself stays. NULL is allowed. Returns 0. */
COVE_API int cove_region_close(cove_region *region);

/* Where its bytes are mapped, and how many: those of the part that was asked for. */
COVE_API void *cove_region_data(const cove_region *region);
COVE_API uint64_t cove_region_size(const cove_region *region);

/* Remove the name; who has it mapped keeps it. `force`: also what belongs to another user.
 * Returns 0, -ENOENT, COVE_ENAME, COVE_EOWNER, COVE_ETYPE (a Cove segment, whose members have a say: cove_unlink),
 * -EACCES, -EPERM, -EOPNOTSUPP (it has no name). */
COVE_API int cove_region_unlink(const char *name, int force);

/* Give `name` new contents, whole or not at all, in one step: whoever opens it from then on finds all of them, and
 * who has the old ones mapped keeps those. Makes what is missing. `options` gives rights (without: those of what is
 * replaced, or 0600), and flags (COVE_EXISTING, COVE_ANY_OWNER). Returns 0, COVE_CREATED, COVE_ETYPE (a Cove segment
 * is not replaced), -EOPNOTSUPP (System V keys and nameless memory cannot change hands in one step), or as
 * cove_region_open. Crash inside: the old contents, or the new ones. */
COVE_API COVE_CHECKED
int cove_region_replace(const char *name, const void *data, uint64_t size_bytes,
                        const struct cove_region_options *options);

/* What the system's books say of a region. What the backend does not know is 0. */
struct cove_region_info {
    char name[1024];
    char backend[16]; /* "posix", "file", "sysv", "memfd", "fd", "huge" */
    void *data; /* where the part is mapped; NULL where it is not */
    uint64_t offset, length_bytes; /* of the mapped part */
    uint64_t size_bytes; /* of the whole, now */
    uint64_t resident_bytes; /* memory or disk that it occupies */
    uint64_t page_bytes; /* of its pages */
    uint32_t mode, owner_uid, owner_gid;
    uint32_t creator_uid, creator_gid; /* System V */
    int32_t creator_pid, last_pid; /* System V: who made it; who attached or detached last */
    int32_t system_id; /* System V: shmid; else -1 */
    uint64_t attached_count; /* System V: attachments, not processes */
    uint64_t attached_ns, detached_ns,
        changed_ns; /* wall clock, since 1970; `changed` is of rights or, for files, of bytes */
    uint32_t is_segment; /* 1: it holds a Cove segment */
    uint32_t sealed; /* 1: nobody can shrink it */
    uint64_t reserved[8];
};

/* Of an open region. Returns 0, or COVE_ETRUNCATED where it has become smaller than what is mapped (`info` is filled
 * in all the same). */
COVE_API COVE_CHECKED
int cove_region_stat(cove_region *region, struct cove_region_info *info);

/* By name, without mapping it. Returns 0 or an error as cove_region_open. */
COVE_API COVE_CHECKED
int cove_region_look(const char *name, struct cove_region_info *info);

/* Change rights later: mode as of chmod, and the group unless it is NULL. Of regions and segments. Returns 0,
 * -ENOENT,
 * COVE_ENAME, -EPERM, -EINVAL. */
COVE_API COVE_CHECKED
int cove_region_set_rights(const char *name, uint32_t mode, const char *group);

/* Write [offset, offset + length_bytes) of the mapped part (length 0: up to its end) to where power cuts do not
 * reach, and wait for it. Returns 0, -EOPNOTSUPP (the backend's memory goes with the machine: cove_supports), -EIO,
 * -EINVAL. */
COVE_API COVE_CHECKED
int cove_region_sync(cove_region *region, uint64_t offset, uint64_t length_bytes);

/* Change what may be done with [offset, offset + length_bytes) of the mapped part (length 0: up to its end), in this
 * process. Where the part begins and ends inside pages, the whole page is meant only at the part's own ends.
 * Returns 0, -EACCES (opened COVE_READONLY), -EINVAL (not at pages' bounds: the sentence gives the size of a page).
 * */
COVE_API COVE_CHECKED
int cove_region_protect(cove_region *region, uint64_t offset, uint64_t length_bytes, enum cove_access access);

/* Call access(data, size_bytes, context) so that another process which truncates the region meanwhile does not kill
 * this one: bytes that are no longer there read as zeros and take stores, in private memory, and the call returns
 * COVE_ETRUNCATED instead of what `access` returned; the handle is good for closing only, then. The first call (of
 * this or of an opening with COVE_GUARD) sets the process's handler for SIGBUS; it passes on every SIGBUS that is not
 * ours to the handler that was there before. `access` is not left by longjmp. Returns what it returned (0 or more;
 * below 0 is an error of its own). */
typedef int cove_region_access(void *data, uint64_t size_bytes, void *context);
COVE_API int cove_region_guard(cove_region *region, cove_region_access *access, void *context);

/* From now on every opening of this process, of regions and segments, is as if with COVE_GUARD, those that functions
 * such as cove_stat do for themselves too. For programs that look at what they do not trust. Returns 0, or a negated
 * errno (no handler could be set). */
COVE_API int cove_guard_all(void);

/* A new descriptor of the region's memory, close-on-exec, the caller's to close: to be inherited (after clearing
 * FD_CLOEXEC), sent, or opened as "fd:N". Returns it, -EOPNOTSUPP (System V), -EMFILE. */
COVE_API int cove_region_fd(const cove_region *region);

/* Send a descriptor over a connected Unix-domain socket, and receive one (close-on-exec, the caller's to close). Both
 * wait as the socket does; EINTR is not an end of it. Send returns 0; receive the descriptor; or -EPIPE (the other
 * end is gone), COVE_EPEER (it closed without sending one), -EPROTO (what came was something else), a negated errno.
 * */
COVE_API int cove_fd_send(int socket, int fd);
COVE_API int cove_fd_receive(int socket);

/* What a backend, or this machine, can do. */
enum cove_feature {
    COVE_CAN_USE = 0, /* this machine has it, now: huge pages, System V, nameless memory */
    COVE_CAN_NAME = 1, /* unrelated processes find it by its name */
    COVE_CAN_HIDE = 2, /* it appears only when it is whole, to programs that know nothing of Cove too */
    COVE_CAN_GROW = 3, /* segments grow while others are attached */
    COVE_CAN_SYNC = 4, /* what was synced survives a power cut */
    COVE_CAN_SEAL = 5, /* nobody can shrink it */
    COVE_CAN_PASS = 6, /* it has a descriptor, which can be passed on */
    COVE_CAN_REPLACE = 7, /* cove_region_replace */
    COVE_CAN_RESERVE = 8, /* a lack of memory is told when it is made or grows, at the latest */
    COVE_HAS_HUGE_PAGES = 9
};

/* Can the backend of that name do it? 1, 0, or COVE_ENAME. The name need not exist. */
COVE_API int cove_supports(const char *name, enum cove_feature feature);

#ifdef __cplusplus
}
#endif
#endif
