/* faulty_os.c - a table of system calls of which the n-th fails, and likewise allocations of memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Every call that os.h lets fail stands here with two errors that it may give. A failing call does nothing, like the system's.
 * Those that cannot fail (closing, unmapping, clocks, who we are) go through. wiped_page is asked for once a process,
 * long before; a process without one is a case of test_fork. */
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

#define OR_FAIL(name, first, second)            \
    do {                                        \
        if (turn(name))                         \
            return picked ? (second) : (first); \
    } while (0)

static int file_open(const char *path, enum covei_open how)
{
    OR_FAIL("file_open", -EMFILE, -EACCES);
    return covei_os_native.file_open(path, how);
}

static int file_make_nameless(const char *directory)
{
    OR_FAIL("file_make_nameless", -ENOSPC, -EOPNOTSUPP);
    return covei_os_native.file_make_nameless(directory);
}

static int file_make(const char *path)
{
    OR_FAIL("file_make", -ENOSPC, -EMFILE);
    return covei_os_native.file_make(path);
}

static int file_reopen(int file, enum covei_open how)
{
    OR_FAIL("file_reopen", -EMFILE, -ENOENT);
    return covei_os_native.file_reopen(file, how);
}

static int file_publish(int file, const char *path)
{
    OR_FAIL("file_publish", -ENOSPC, -ENOENT);
    return covei_os_native.file_publish(file, path);
}

static int file_rename_new(const char *from, const char *to)
{
    OR_FAIL("file_rename_new", -ENOSPC, -EINVAL);
    return covei_os_native.file_rename_new(from, to);
}

static int file_stat(int file, struct covei_file_stat *stat)
{
    OR_FAIL("file_stat", -EIO, -ENOMEM);
    return covei_os_native.file_stat(file, stat);
}

static int path_stat(const char *path, struct covei_file_stat *stat)
{
    OR_FAIL("path_stat", -ENOMEM, -EACCES);
    return covei_os_native.path_stat(path, stat);
}

static int file_set_mode(int file, uint32_t mode)
{
    OR_FAIL("file_set_mode", -EPERM, -EROFS);
    return covei_os_native.file_set_mode(file, mode);
}

static int file_set_group(int file, uint32_t gid)
{
    OR_FAIL("file_set_group", -EPERM, -EROFS);
    return covei_os_native.file_set_group(file, gid);
}

static int file_reserve(int file, uint64_t offset, uint64_t size_bytes)
{
    OR_FAIL("file_reserve", -ENOSPC, -EFBIG);
    return covei_os_native.file_reserve(file, offset, size_bytes);
}

static int64_t file_read_at(int file, void *data, size_t size_bytes, uint64_t offset)
{
    OR_FAIL("file_read_at", -EIO, -ENOMEM);
    return covei_os_native.file_read_at(file, data, size_bytes, offset);
}

static int64_t file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset)
{
    OR_FAIL("file_write_at", -EIO, -ENOSPC);
    return covei_os_native.file_write_at(file, data, size_bytes, offset);
}

static int path_remove(const char *path)
{
    OR_FAIL("path_remove", -EPERM, -EROFS);
    return covei_os_native.path_remove(path);
}

static int file_space(int file, uint64_t *free_bytes, uint64_t *total_bytes)
{
    OR_FAIL("file_space", -EIO, -ENOMEM);
    return covei_os_native.file_space(file, free_bytes, total_bytes);
}

static int directory_each(const char *path, int (*visit)(const char *name, void *context), void *context)
{
    OR_FAIL("directory_each", -EMFILE, -EACCES);
    return covei_os_native.directory_each(path, visit, context);
}

static int group_find(const char *name, uint32_t *gid)
{
    OR_FAIL("group_find", -EIO, -EMFILE);
    return covei_os_native.group_find(name, gid);
}

static int lock_try(int file, uint64_t byte, bool exclusive)
{
    OR_FAIL("lock_try", -ENOLCK, -EAGAIN);
    return covei_os_native.lock_try(file, byte, exclusive);
}

static int lock_drop(int file, uint64_t byte)
{
    OR_FAIL("lock_drop", -ENOLCK, -EINTR);
    return covei_os_native.lock_drop(file, byte);
}

static int lock_held(int file, uint64_t byte)
{
    OR_FAIL("lock_held", -ENOLCK, -EINTR);
    return covei_os_native.lock_held(file, byte);
}

static int map(void **address, int file, uint64_t size_bytes, bool writable)
{
    OR_FAIL("map", -ENOMEM, -EPERM);
    return covei_os_native.map(address, file, size_bytes, writable);
}

static int map_keep_from_dumps(void *address, uint64_t size_bytes)
{
    OR_FAIL("map_keep_from_dumps", -EINVAL, -ENOMEM);
    return covei_os_native.map_keep_from_dumps(address, size_bytes);
}

static int park(void *word, uint32_t expected, int64_t timeout_ns)
{
    OR_FAIL("park", -EINTR, -ENOMEM);
    return covei_os_native.park(word, expected, timeout_ns);
}

static int park2(void *word, uint32_t expected, void *word2, uint32_t expected2, int64_t timeout_ns)
{
    OR_FAIL("park2", -ENOSYS, -EINTR);
    return covei_os_native.park2(word, expected, word2, expected2, timeout_ns);
}

static int wake(void *word, int32_t count)
{
    OR_FAIL("wake", -EINVAL, -EFAULT);
    return covei_os_native.wake(word, count);
}

static int fence_register(void)
{
    OR_FAIL("fence_register", -ENOSYS, -EPERM);
    return covei_os_native.fence_register();
}

static int fence_all(void)
{
    OR_FAIL("fence_all", -ENOSYS, -EPERM);
    return covei_os_native.fence_all();
}

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

void faulty_begin(unsigned turn_number, unsigned variant)
{
    table = covei_os_native;
    table.file_open = file_open;
    table.file_make_nameless = file_make_nameless;
    table.file_make = file_make;
    table.file_reopen = file_reopen;
    table.file_publish = file_publish;
    table.file_rename_new = file_rename_new;
    table.file_stat = file_stat;
    table.path_stat = path_stat;
    table.file_set_mode = file_set_mode;
    table.file_set_group = file_set_group;
    table.file_reserve = file_reserve;
    table.file_read_at = file_read_at;
    table.file_write_at = file_write_at;
    table.path_remove = path_remove;
    table.file_space = file_space;
    table.directory_each = directory_each;
    table.group_find = group_find;
    table.lock_try = lock_try;
    table.lock_drop = lock_drop;
    table.lock_held = lock_held;
    table.map = map;
    table.map_keep_from_dumps = map_keep_from_dumps;
    table.park = park;
    table.park2 = park2;
    table.wake = wake;
    table.fence_register = fence_register;
    table.fence_all = fence_all;
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
