/* os.h - everything that differs between systems: the spec that a port fulfils.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One table of calls. Every call that can fail returns a negated errno; none retries on its own except on EINTR, none
 * keeps state. Tests replace `covei_os` with a table that fails on purpose. Calls are safe from any thread.
 *
 * What a port must offer:
 *   - named files of shared memory that can be built without a name and get it in one step that never replaces;
 *   - locks on single bytes of a file, which belong to a file description, exclude other descriptions, and are
 *   dropped by the system
 *     when the process dies, however it dies;
 *   - parking on a 32-bit word in shared memory, by its physical place (not by address);
 *   - a word on whether a process is past its last instruction (optional, faster than the lock's word). */
#ifndef COVEI_OS_OS_H
#define COVEI_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum covei_file_kind { COVEI_FILE_REGULAR, COVEI_FILE_LINK, COVEI_FILE_DIRECTORY, COVEI_FILE_FIFO, COVEI_FILE_OTHER };

struct covei_file_stat {
    enum covei_file_kind kind;
    uint64_t device, inode; /* together: which file it is, whatever its name */
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* memory or disk that it occupies */
    uint32_t mode; /* permission bits */
    uint32_t uid, gid;
};

/* A process as people know it. */
struct covei_process {
    int32_t pid; /* in its own PID namespace */
    uint32_t uid;
    uint64_t start_ticks; /* since boot; tells processes that had the same pid apart; 0: unknown */
    uint64_t pid_namespace; /* 0: unknown */
    char command[32];
};

enum covei_open { COVEI_OPEN_READ, COVEI_OPEN_WRITE };

struct covei_os {
    /* ---- files. Descriptors are close-on-exec. */

    /* Open an existing file; never follows a link in the last component, never waits, creates or truncates.
     * -ENOENT, -ELOOP (a link), -EISDIR, -ENXIO, -EACCES, -EMFILE, ... */
    int (*file_open)(const char *path, enum covei_open how);
    /* A new nameless file in `directory`, for its owner alone. -EOPNOTSUPP where there is no such thing. */
    int (*file_make_nameless)(const char *directory);
    /* A new file at `path`, which must not exist; for its owner alone. */
    int (*file_make)(const char *path);
    /* Another file description of the same file. */
    int (*file_reopen)(int file, enum covei_open how);
    /* Give the nameless file its name: -EEXIST where somebody was first; never replaces. */
    int (*file_publish)(int file, const char *path);
    /* Give the file at `from` the name `to`; -EEXIST where there is one; never replaces. */
    int (*file_rename_new)(const char *from, const char *to);
    int (*file_stat)(int file, struct covei_file_stat *stat);
    int (*path_stat)(const char *path, struct covei_file_stat *stat); /* of a link: the link's */
    int (*file_set_mode)(int file, uint32_t mode); /* exactly, whatever the umask */
    int (*file_set_group)(int file, uint32_t gid);
    /* Memory or disk for [offset, offset + size_bytes), zeroed where there was none; the file grows to it.
     * -ENOSPC, -EFBIG (over the process's file size limit), -EINTR never. Repeating it changes nothing. */
    int (*file_reserve)(int file, uint64_t offset, uint64_t size_bytes);
    int64_t (*file_read_at)(int file, void *data, size_t size_bytes, uint64_t offset);
    int64_t (*file_write_at)(int file, const void *data, size_t size_bytes, uint64_t offset);
    void (*file_close)(int file);
    int (*path_remove)(const char *path);
    /* Free and total bytes of the file system that holds the file. */
    int (*file_space)(int file, uint64_t *free_bytes, uint64_t *total_bytes);
    /* Each name in the directory, until `visit` returns non-zero, which is returned. */
    int (*directory_each)(const char *path, int (*visit)(const char *name, void *context), void *context);
    int (*group_find)(const char *name, uint32_t *gid);

    /* ---- locks on one byte. They belong to the file description, not to the process or thread. */

    int (*lock_try)(int file, uint64_t byte, bool exclusive); /* 0, or -EAGAIN where another description has it */
    int (*lock_drop)(int file, uint64_t byte);
    /* 1: another description holds byte exclusively; 0: nobody else does. */
    int (*lock_held)(int file, uint64_t byte);

    /* ---- mappings */

    /* Map [0, size_bytes) of the file, shared; may reach beyond its end, where it may not be touched yet. */
    int (*map)(void **address, int file, uint64_t size_bytes, bool writable);
    void (*unmap)(void *address, uint64_t size_bytes);
    int (*map_keep_from_dumps)(void *address, uint64_t size_bytes);
    /* A page of private memory, zeroed, that reads 0 again in a forked child, however it was forked; NULL where there
     * is no such thing. */
    void *(*wiped_page)(void);

    /* ---- parking. Words are in shared memory. Returning early is allowed: callers look again. */

    /* Sleep while *word == expected, at most timeout_ns. 0, -EAGAIN (it differs), -ETIMEDOUT, -EINTR. */
    int (*park)(void *word, uint32_t expected, int64_t timeout_ns);
    /* Sleep while both hold. -ENOSYS where only one word can be waited for. */
    int (*park2)(void *word, uint32_t expected, void *word2, uint32_t expected2, int64_t timeout_ns);
    int (*wake)(void *word, int32_t count); /* how many were woken */

    /* ---- ordering: a fence executed by all threads of all registered processes. -ENOSYS, -EPERM: not here. */

    int (*fence_register)(void);
    int (*fence_all)(void);

    /* ---- time: nanoseconds */

    int64_t (*now)(void); /* monotonic, the same for all processes */
    uint64_t (*wall)(void); /* since 1970 */
    void (*nap)(int64_t duration_ns);
    int (*cpu)(void); /* the processor that runs us, or -1 */
    int (*cpu_count)(void); /* processors of the machine, when it was first asked */

    /* ---- processes */

    void (*process_self)(struct covei_process *process);
    /* Is that process past its last instruction in user mode? 1 yes; 0 no, or nobody can tell. */
    int (*process_ended)(const struct covei_process *process);
    int32_t (*thread_id)(void);
    /* The calling thread's list of robust locks, as the system knows it; NULL where there is none. */
    void *(*robust_list_find)(void);
    /* In a child that was forked around the handlers: forget the locks that the parent's thread had, which libc still
     * has in that list. */
    void (*robust_list_reset)(void *list);
    uint32_t (*user_id)(void); /* effective */
    void (*boot_id)(uint8_t id[16]); /* of this run of the system; zeros where unknown */
};

/* The table in use. Set once at start, by tests only. */
extern const struct covei_os *covei_os;
extern const struct covei_os covei_os_native;

#endif
