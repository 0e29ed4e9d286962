/* os_linux_file.c - files and byte locks on Linux.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Byte locks are open-file-description locks (F_OFD_SETLK, Linux 3.15): the kernel drops them with the last
 * descriptor of the description, so also when the process is killed, and unlike POSIX locks not when some other
 * descriptor of the file is closed. */
#include "os/os_linux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "files, and their bytes that are locked, are numbered by 64 bits");

static int flags_of(enum covei_open how)
{
    return (how == COVEI_OPEN_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC;
}

static int result_of(int returned)
{
    return returned < 0 ? -errno : returned;
}

int covei_linux_file_open(const char *path, enum covei_open how)
{
    /* O_NONBLOCK: a FIFO in the file's place must not make us wait. */
    return result_of(open(path, flags_of(how) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
}

int covei_linux_file_make_nameless(const char *directory)
{
    return result_of(open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

int covei_linux_file_make(const char *path)
{
    return result_of(open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

/* The path by which /proc names a descriptor of ours. */
static void descriptor_path(char path[32], int file)
{
    (void)snprintf(path, 32, "/proc/self/fd/%d", file);
}

int covei_linux_file_reopen(int file, enum covei_open how)
{
    char path[32];
    descriptor_path(path, file);
    return result_of(open(path, flags_of(how)));
}

int covei_linux_file_publish(int file, const char *path)
{
    char from[32];
    descriptor_path(from, file);
    return result_of(linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}

int covei_linux_file_rename_new(const char *from, const char *to)
{
    return result_of(renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
}

static enum covei_file_kind kind_of(mode_t mode)
{
    if (S_ISREG(mode))
        return COVEI_FILE_REGULAR;
    if (S_ISLNK(mode))
        return COVEI_FILE_LINK;
    if (S_ISDIR(mode))
        return COVEI_FILE_DIRECTORY;
    return S_ISFIFO(mode) ? COVEI_FILE_FIFO : COVEI_FILE_OTHER;
}

static void fill_stat(struct covei_file_stat *out, const struct stat *in)
{
    *out = (struct covei_file_stat){
        .kind = kind_of(in->st_mode),
        .device = (uint64_t)in->st_dev,
        .inode = (uint64_t)in->st_ino,
        .size_bytes = (uint64_t)in->st_size,
        .allocated_bytes = (uint64_t)in->st_blocks * 512,
        .mode = in->st_mode & 07777,
        .uid = in->st_uid,
        .gid = in->st_gid,
    };
}

int covei_linux_file_stat(int file, struct covei_file_stat *out)
{
    struct stat in;
    if (fstat(file, &in) < 0)
        return -errno;
    fill_stat(out, &in);
    return 0;
}

int covei_linux_path_stat(const char *path, struct covei_file_stat *out)
{
    struct stat in;
    if (lstat(path, &in) < 0)
        return -errno;
    fill_stat(out, &in);
    return 0;
}

int covei_linux_file_set_mode(int file, uint32_t mode)
{
    return result_of(fchmod(file, mode));
}

int covei_linux_file_set_group(int file, uint32_t gid)
{
    return result_of(fchown(file, (uid_t)-1, gid));
}

int covei_linux_file_reserve(int file, uint64_t offset, uint64_t size_bytes)
{
    /* Past this limit the kernel would not only refuse but send SIGXFSZ, which kills by default. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && offset + size_bytes > limit.rlim_cur)
        return -EFBIG;
    int result;
    do
        result = result_of(fallocate(file, 0, (off_t)offset, (off_t)size_bytes));
    while (result == -EINTR);
    return result;
}

int64_t covei_linux_file_read_at(int file, void *data, size_t size_bytes, uint64_t offset)
{
    ssize_t count = pread(file, data, size_bytes, (off_t)offset);
    return count < 0 ? -errno : count;
}

int64_t covei_linux_file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset)
{
    ssize_t count = pwrite(file, data, size_bytes, (off_t)offset);
    return count < 0 ? -errno : count;
}

void covei_linux_file_close(int file)
{
    int saved = errno;
    (void)close(file); /* on Linux the descriptor is gone whatever close returns */
    errno = saved;
}

int covei_linux_path_remove(const char *path)
{
    return result_of(unlink(path));
}

int covei_linux_file_space(int file, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct statvfs space;
    if (fstatvfs(file, &space) < 0)
        return -errno;
    *free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    *total_bytes = (uint64_t)space.f_blocks * space.f_frsize;
    return 0;
}

int covei_linux_directory_each(const char *path, int (*visit)(const char *name, void *context), void *context)
{
    DIR *directory = opendir(path);
    if (!directory)
        return -errno;
    int result = 0;
    struct dirent *entry;
    while (result == 0 && (errno = 0, entry = readdir(directory)) != NULL)
        result = visit(entry->d_name, context);
    if (result == 0 && errno != 0)
        result = -errno;
    (void)closedir(directory);
    return result;
}

int covei_linux_group_find(const char *name, uint32_t *gid)
{
    struct group group, *found = NULL;
    char buffer[65536]; /* groups have many members */
    int error = getgrnam_r(name, &group, buffer, sizeof buffer, &found);
    if (error != 0)
        return -error;
    if (!found)
        return -ENOENT;
    *gid = group.gr_gid;
    return 0;
}

static struct flock one_byte(uint64_t byte, short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
}

int covei_linux_lock_try(int file, uint64_t byte, bool exclusive)
{
    struct flock lock = one_byte(byte, exclusive ? F_WRLCK : F_RDLCK);
    int result = result_of(fcntl(file, F_OFD_SETLK, &lock));
    return result == -EACCES ? -EAGAIN : result;
}

int covei_linux_lock_drop(int file, uint64_t byte)
{
    struct flock lock = one_byte(byte, F_UNLCK);
    return result_of(fcntl(file, F_OFD_SETLK, &lock));
}

int covei_linux_lock_held(int file, uint64_t byte)
{
    struct flock lock = one_byte(byte, F_WRLCK);
    if (fcntl(file, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type != F_UNLCK;
}
