/* os.h - everything that differs between systems: the spec that a port fulfils.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One table of calls. Every call that can fail returns a negated errno; none retries on its own except on EINTR, none
 * keeps state. Tests replace `covei_os` with a table that fails on purpose. Calls are safe from any thread.
 *
 * What a port must offer:
 *   - named files of shared memory that can be built without a name and get it in one step that never replaces;
 *   - locks on single bytes of a file, which belong to a file description, exclude other descriptions, and are
 *     dropped by the system when the process dies, however it dies;
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
    uint64_t changed_ns; /* its bytes, through write; since 1970 */
    uint32_t mode; /* permission bits */
    uint32_t uid, gid;
    uint32_t links; /* names that it has */
};

/* The file system that a file lies in. */
struct covei_file_system {
    uint64_t free_bytes, total_bytes; /* for who is not privileged */
    uint64_t block_bytes; /* of huge pages: the size of one */
    bool network; /* other machines change it too: not memory that is shared */
    bool huge; /* of huge pages */
    bool memory; /* tmpfs: a hole is memory that has to be found when it is read, too */
};

/* System V shared memory, as the system's books have it. */
struct covei_shm_stat {
    int32_t id;
    uint32_t key; /* 0: none any more */
    uint64_t size_bytes;
    uint64_t attached_count;
    uint32_t mode, uid, gid, creator_uid, creator_gid;
    int32_t creator_pid, last_pid;
    uint64_t attached_s, detached_s, changed_s; /* since 1970; 0: never */
    bool removed; /* goes with its last attachment */
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

#define COVEI_PARKS_MAX 10u
struct covei_park {
    void *word;
    uint32_t expected;
};

enum covei_access { COVEI_ACCESS_READ, COVEI_ACCESS_WRITE, COVEI_ACCESS_NONE };

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
    /* A new nameless file that lies in no directory, in huge pages or normal ones. -ENOSYS, -EOPNOTSUPP. */
    int (*file_make_memory)(bool huge);
    /* From now on nobody can make it smaller, nor with `fixed` larger. -EINVAL: not that kind of file. */
    int (*file_seal)(int file, bool fixed);
    int (*file_sealed)(int file); /* 1: nobody can make it smaller; 0 */
    /* Another descriptor of the same description. */
    int (*file_copy)(int file);
    /* The same, which is not close-on-exec, with a number beyond those that scripts use (10 or more). */
    int (*file_inherit)(int file);
    /* Give the nameless file its name: -EEXIST where somebody was first; never replaces. */
    int (*file_publish)(int file, const char *path);
    /* Give the file at `from` the name `to`; -EEXIST where there is one; never replaces. */
    int (*file_rename_new)(const char *from, const char *to);
    /* Likewise, but what had the name `to` loses it in the same step. */
    int (*file_rename)(const char *from, const char *to);
    int (*file_stat)(int file, struct covei_file_stat *stat);
    int (*path_stat)(const char *path, struct covei_file_stat *stat); /* of a link: the link's */
    int (*path_follow)(const char *path, struct covei_file_stat *stat); /* of a link: of what it leads to */
    int (*file_set_mode)(int file, uint32_t mode); /* exactly, whatever the umask */
    int (*file_set_group)(int file, uint32_t gid);
    int (*file_set_owner)(int file, uint32_t uid);
    /* Memory or disk for [offset, offset + size_bytes), zeroed where there was none; the file grows to it.
     * -ENOSPC, -EFBIG (over the process's file size limit), -EINTR never. Repeating it changes nothing. */
    int (*file_reserve)(int file, uint64_t offset, uint64_t size_bytes);
    int64_t (*file_read_at)(int file, void *data, size_t size_bytes, uint64_t offset);
    int64_t (*file_write_at)(int file, const void *data, size_t size_bytes, uint64_t offset);
    /* Wait until the file's bytes, those that were stored through mappings too, are where a power cut does not reach.
     * */
    int (*file_sync)(int file);
    int (*directory_sync)(const char *path); /* likewise the names in it */
    void (*file_close)(int file);
    int (*path_remove)(const char *path);
    int (*file_system)(int file, struct covei_file_system *system);
    /* Where names of files in huge pages can be made. -ENOENT: nowhere. */
    int (*huge_directory)(char *path, size_t path_bytes);
    int (*working_directory)(char *path, size_t path_bytes);
    /* Each name in the directory, until `visit` returns non-zero, which is returned. */
    int (*directory_each)(const char *path, int (*visit)(const char *name, void *context), void *context);
    int (*group_find)(const char *name, uint32_t *gid);

    /* ---- locks on one byte. They belong to the file description, not to the process or thread. */

    int (*lock_try)(int file, uint64_t byte, bool exclusive); /* 0, or -EAGAIN where another description has it */
    int (*lock_drop)(int file, uint64_t byte);
    /* 1: another description holds byte exclusively; 0: nobody else does. */
    int (*lock_held)(int file, uint64_t byte);

    /* ---- mappings */

    /* Map [offset, offset + size_bytes) of the file, shared; may reach beyond its end, where it may not be touched
     * yet. `offset` begins a page. With `unreserved` the system does not keep huge pages ready for what is not there
     * yet. */
    int (*map)(void **address, int file, uint64_t offset, uint64_t size_bytes, enum covei_access access,
               bool unreserved);
    void (*unmap)(void *address, uint64_t size_bytes);
    int (*map_protect)(void *address, uint64_t size_bytes, enum covei_access access);
    int (*map_sync)(void *address, uint64_t size_bytes); /* as file_sync, of these bytes */
    int (*map_keep_from_dumps)(void *address, uint64_t size_bytes);
    /* Private zeroed memory in place of what is mapped there. Async-signal-safe. */
    int (*map_zeros)(void *address, uint64_t size_bytes);
    uint64_t (*page_bytes)(void);
    /* From now on `ours` is asked about each access to mapped bytes that are not there (SIGBUS): true, the access is
     * made again; false, the handler that the process had before has its turn. Can be repeated: it makes sure. */
    int (*fault_guard)(bool (*ours)(void *address));
    /* A page of private memory, zeroed, that reads 0 again in a forked child, however it was forked; NULL where there
     * is no such thing. */
    void *(*wiped_page)(void);

    /* ---- System V shared memory */

    int (*shm_find)(uint32_t key, int *id); /* -ENOENT */
    int (*shm_make)(uint32_t key, uint64_t size_bytes, uint32_t mode, int *id); /* -EEXIST */
    int (*shm_stat)(int id, struct covei_shm_stat *stat);
    uint64_t (*shm_resident)(int id); /* bytes of memory that it occupies; 0: unknown */
    int (*shm_set_rights)(int id, uint32_t mode, const uint32_t *gid);
    int (*shm_map)(void **address, int id, bool writable);
    int (*shm_unmap)(void *address);
    int (*shm_remove)(int id);

    /* ---- passing descriptors over a Unix-domain socket */

    int (*fd_send)(int socket, int file);
    int (*fd_receive)(int socket); /* -EPROTO: nothing of that kind came; -ENODATA: the other end closed */

    /* ---- parking. Words are in shared memory. Returning early is allowed: callers look again. */

    /* Sleep while *word == expected, at most timeout_ns. 0, -EAGAIN (it differs), -ETIMEDOUT, -EINTR. */
    int (*park)(void *word, uint32_t expected, int64_t timeout_ns);
    /* Sleep while all of `count` words (1 to COVEI_PARKS_MAX) are as expected; likewise. -ENOSYS where only one word
     * can be waited for. */
    int (*park_any)(const struct covei_park *parks, uint32_t count, int64_t timeout_ns);
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
    /* Is that process past its last instruction in user mode? 1: yes; -1: no, it lives; 0: nobody can tell. */
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
