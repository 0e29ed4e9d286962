/* faulty_os.c - a table of system calls of which the n-th fails, and likewise allocations of memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Every call that os.h lets fail stands here with two errors that it may give. A failing call does nothing, like the
 * system's. Those that cannot fail (closing, unmapping, clocks, who we are) go through; so does map_zeros, which is
 * called where a SIGBUS has come already. wiped_page is asked for once a process, long before; a process without one
 * is a case of test_fork. */
#include "faulty_os.h"

#include "os/os.h"

#include <errno.h>
#include <stdlib.h>

static unsigned left, picked;
static const char *failed;

/* Is it this one's turn? */
static bool turn(const char *name)
{
    if (left == 0 || --left > 0)
        return false;
    failed = name;
    return true;
}

#define FALLIBLE(type, name, parameters, arguments, first, second) \
    static type name parameters                                    \
    {                                                              \
        if (turn(#name))                                           \
            return picked ? (second) : (first);                    \
        return covei_os_native.name arguments;                     \
    }

FALLIBLE(int, file_open, (const char *path, enum covei_open how), (path, how), -EMFILE, -EACCES)
FALLIBLE(int, file_make_nameless, (const char *directory), (directory), -ENOSPC, -EOPNOTSUPP)
FALLIBLE(int, file_make, (const char *path), (path), -ENOSPC, -EMFILE)
FALLIBLE(int, file_reopen, (int file, enum covei_open how), (file, how), -EMFILE, -ENOENT)
FALLIBLE(int, file_make_memory, (bool huge), (huge), -EMFILE, -ENOSYS)
FALLIBLE(int, file_seal, (int file, bool fixed), (file, fixed), -EINVAL, -EPERM)
FALLIBLE(int, file_copy, (int file), (file), -EMFILE, -EBADF)
FALLIBLE(int, file_inherit, (int file), (file), -EMFILE, -EBADF)
FALLIBLE(int, file_publish, (int file, const char *path), (file, path), -ENOSPC, -ENOENT)
FALLIBLE(int, file_rename_new, (const char *from, const char *to), (from, to), -ENOSPC, -EINVAL)
FALLIBLE(int, file_rename, (const char *from, const char *to), (from, to), -ENOSPC, -EPERM)
FALLIBLE(int, file_stat, (int file, struct covei_file_stat *stat), (file, stat), -EIO, -ENOMEM)
FALLIBLE(int, path_stat, (const char *path, struct covei_file_stat *stat), (path, stat), -ENOMEM, -EACCES)
FALLIBLE(int, path_follow, (const char *path, struct covei_file_stat *stat), (path, stat), -ENOMEM, -EACCES)
FALLIBLE(int, file_set_mode, (int file, uint32_t mode), (file, mode), -EPERM, -EROFS)
FALLIBLE(int, file_set_group, (int file, uint32_t gid), (file, gid), -EPERM, -EROFS)
FALLIBLE(int, file_reserve, (int file, uint64_t offset, uint64_t size_bytes), (file, offset, size_bytes), -ENOSPC,
         -EFBIG)
FALLIBLE(int64_t, file_read_at, (int file, void *data, size_t size_bytes, uint64_t offset),
         (file, data, size_bytes, offset), -EIO, -ENOMEM)
FALLIBLE(int64_t, file_write_at, (int file, const void *data, size_t size_bytes, uint64_t offset),
         (file, data, size_bytes, offset), -EIO, -ENOSPC)
FALLIBLE(int, file_sync, (int file), (file), -EIO, -ENOSPC)
FALLIBLE(int, directory_sync, (const char *path), (path), -EIO, -EMFILE)
FALLIBLE(int, path_remove, (const char *path), (path), -EPERM, -EROFS)
FALLIBLE(int, file_system, (int file, struct covei_file_system *system), (file, system), -EIO, -ENOMEM)
FALLIBLE(int, huge_directory, (char *path, size_t path_bytes), (path, path_bytes), -ENOENT, -EMFILE)
FALLIBLE(int, working_directory, (char *path, size_t path_bytes), (path, path_bytes), -ENOENT, -ENAMETOOLONG)
FALLIBLE(int, directory_each, (const char *path, int (*visit)(const char *name, void *context), void *context),
         (path, visit, context), -EMFILE, -EACCES)
FALLIBLE(int, group_find, (const char *name, uint32_t *gid), (name, gid), -EIO, -EMFILE)
FALLIBLE(int, lock_try, (int file, uint64_t byte, bool exclusive), (file, byte, exclusive), -ENOLCK, -EAGAIN)
FALLIBLE(int, lock_drop, (int file, uint64_t byte), (file, byte), -ENOLCK, -EINTR)
FALLIBLE(int, lock_held, (int file, uint64_t byte), (file, byte), -ENOLCK, -EINTR)
FALLIBLE(int, map,
         (void **address, int file, uint64_t offset, uint64_t size_bytes, enum covei_access access, bool unreserved),
         (address, file, offset, size_bytes, access, unreserved), -ENOMEM, -EPERM)
FALLIBLE(int, map_protect, (void *address, uint64_t size_bytes, enum covei_access access),
         (address, size_bytes, access), -ENOMEM, -EACCES)
FALLIBLE(int, map_sync, (void *address, uint64_t size_bytes), (address, size_bytes), -EIO, -EBUSY)
FALLIBLE(int, map_keep_from_dumps, (void *address, uint64_t size_bytes), (address, size_bytes), -EINVAL, -ENOMEM)
FALLIBLE(int, fault_guard, (bool (*ours)(void *address)), (ours), -EINVAL, -ENOMEM)
FALLIBLE(int, shm_find, (uint32_t key, int *id), (key, id), -EACCES, -ENOSYS)
FALLIBLE(int, shm_make, (uint32_t key, uint64_t size_bytes, uint32_t mode, int *id), (key, size_bytes, mode, id),
         -ENOSPC, -ENOMEM)
FALLIBLE(int, shm_stat, (int id, struct covei_shm_stat *stat), (id, stat), -EACCES, -EIDRM)
FALLIBLE(int, shm_set_rights, (int id, uint32_t mode, const uint32_t *gid), (id, mode, gid), -EPERM, -EIDRM)
FALLIBLE(int, shm_map, (void **address, int id, bool writable), (address, id, writable), -ENOMEM, -EACCES)
FALLIBLE(int, shm_remove, (int id), (id), -EPERM, -EACCES)
FALLIBLE(int, fd_send, (int socket, int file), (socket, file), -EPIPE, -ENOBUFS)
FALLIBLE(int, fd_receive, (int socket), (socket), -EMFILE, -ENODATA)
FALLIBLE(int, park, (void *word, uint32_t expected, int64_t timeout_ns), (word, expected, timeout_ns), -EINTR, -ENOMEM)
FALLIBLE(int, park_any, (const struct covei_park *parks, uint32_t count, int64_t timeout_ns),
         (parks, count, timeout_ns), -ENOSYS, -EINTR)
FALLIBLE(int, wake, (void *word, int32_t count), (word, count), -EINVAL, -EFAULT)
FALLIBLE(int, fence_register, (void), (), -ENOSYS, -EPERM)
FALLIBLE(int, fence_all, (void), (), -ENOSYS, -EPERM)

void *__real_malloc(size_t size_bytes);
void *__real_calloc(size_t count, size_t size_bytes);
void *__wrap_malloc(size_t size_bytes);
void *__wrap_calloc(size_t count, size_t size_bytes);

void *__wrap_malloc(size_t size_bytes)
{
    return turn("malloc") ? NULL : __real_malloc(size_bytes);
}

void *__wrap_calloc(size_t count, size_t size_bytes)
{
    return turn("calloc") ? NULL : __real_calloc(count, size_bytes);
}

static struct covei_os table;

static void fill_table(void)
{
    table = covei_os_native;
    table.file_open = file_open;
    table.file_make_nameless = file_make_nameless;
    table.file_make = file_make;
    table.file_reopen = file_reopen;
    table.file_make_memory = file_make_memory;
    table.file_seal = file_seal;
    table.file_copy = file_copy;
    table.file_inherit = file_inherit;
    table.file_publish = file_publish;
    table.file_rename_new = file_rename_new;
    table.file_rename = file_rename;
    table.file_stat = file_stat;
    table.path_stat = path_stat;
    table.path_follow = path_follow;
    table.file_set_mode = file_set_mode;
    table.file_set_group = file_set_group;
    table.file_reserve = file_reserve;
    table.file_read_at = file_read_at;
    table.file_write_at = file_write_at;
    table.file_sync = file_sync;
    table.directory_sync = directory_sync;
    table.path_remove = path_remove;
    table.file_system = file_system;
    table.huge_directory = huge_directory;
    table.working_directory = working_directory;
    table.directory_each = directory_each;
    table.group_find = group_find;
    table.lock_try = lock_try;
    table.lock_drop = lock_drop;
    table.lock_held = lock_held;
    table.map = map;
    table.map_protect = map_protect;
    table.map_sync = map_sync;
    table.map_keep_from_dumps = map_keep_from_dumps;
    table.fault_guard = fault_guard;
    table.shm_find = shm_find;
    table.shm_make = shm_make;
    table.shm_stat = shm_stat;
    table.shm_set_rights = shm_set_rights;
    table.shm_map = shm_map;
    table.shm_remove = shm_remove;
    table.fd_send = fd_send;
    table.fd_receive = fd_receive;
    table.park = park;
    table.park_any = park_any;
    table.wake = wake;
    table.fence_register = fence_register;
    table.fence_all = fence_all;
}

void faulty_begin(unsigned turn_number, unsigned variant)
{
    fill_table();
    failed = NULL;
    left = turn_number;
    picked = variant;
    covei_os = &table;
}

bool faulty_end(void)
{
    left = 0;
    covei_os = &covei_os_native;
    return failed != NULL;
}

const char *faulty_name(void)
{
    return failed ? failed : "none";
}
