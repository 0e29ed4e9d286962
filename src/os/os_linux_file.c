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
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
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

/* No function of Cove is a cancellation point: a thread that ended in the middle of one would leave descriptors, and
 * with them locks, behind. So libc's cancellation points stand between these two. */
int covei_linux_hold(void)
{
    int before = PTHREAD_CANCEL_ENABLE;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

void covei_linux_restore(int before)
{
    int saved = errno;
    (void)pthread_setcancelstate(before, NULL);
    errno = saved;
}

static int open_file(const char *path, int flags, unsigned mode)
{
    int before = covei_linux_hold(), result = result_of(open(path, flags, mode));
    covei_linux_restore(before);
    return result;
}

int covei_linux_file_open(const char *path, enum covei_open how)
{
    /* O_NONBLOCK: a FIFO in the file's place must not make us wait. Somebody's lease on the file (a backup program's)
     * makes such an open fail until he has let go, which takes him a moment. */
    int result = open_file(path, flags_of(how) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    for (int tries = 0; result == -EWOULDBLOCK && tries < 1000; tries++) {
        (void)sched_yield();
        result = open_file(path, flags_of(how) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    }
    return result;
}

int covei_linux_file_make_nameless(const char *directory)
{
    return open_file(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

int covei_linux_file_make(const char *path)
{
    return open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
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
    return open_file(path, flags_of(how), 0);
}

int covei_linux_file_publish(int file, const char *path)
{
    char from[32];
    descriptor_path(from, file);
    return result_of(linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}

int covei_linux_file_rename_new(const char *from, const char *to)
{
    /* musl has no renameat2. */
    return result_of((int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
}

int covei_linux_file_rename(const char *from, const char *to)
{
    return result_of(rename(from, to));
}

int covei_linux_file_copy(int file)
{
    return result_of(fcntl(file, F_DUPFD_CLOEXEC, 3)); /* never in the place of standard input or output */
}

int covei_linux_file_inherit(int file)
{
    int result = result_of(fcntl(file, F_DUPFD, 10));
    return result == -EINVAL ? -EMFILE : result; /* the process may have no descriptor of so high a number */
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
        .links = (uint32_t)in->st_nlink,
        .allocated_bytes = (uint64_t)in->st_blocks * 512,
        .changed_ns = (uint64_t)in->st_mtim.tv_sec * 1000000000u + (uint64_t)in->st_mtim.tv_nsec,
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

int covei_linux_path_follow(const char *path, struct covei_file_stat *out)
{
    struct stat in;
    if (stat(path, &in) < 0)
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

int covei_linux_file_set_owner(int file, uint32_t uid)
{
    return result_of(fchown(file, uid, (gid_t)-1));
}

/* Past this limit the kernel would not only refuse but send SIGXFSZ, which kills by default. */
static bool past_limit(uint64_t end)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && end > limit.rlim_cur;
}

int covei_linux_file_reserve(int file, uint64_t offset, uint64_t size_bytes)
{
    if (past_limit(offset + size_bytes))
        return -EFBIG;
    /* A signal may end it, and older kernels then give back what they had: under a profiler's timer that would go on
     * for ever. SIGKILL is not blocked. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int cancel = covei_linux_hold(), result;
    do
        result = result_of(fallocate(file, 0, (off_t)offset, (off_t)size_bytes));
    while (result == -EINTR);
    covei_linux_restore(cancel);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

int64_t covei_linux_file_read_at(int file, void *data, size_t size_bytes, uint64_t offset)
{
    int before = covei_linux_hold();
    ssize_t count;
    do
        count = pread(file, data, size_bytes, (off_t)offset);
    while (count < 0 && errno == EINTR);
    covei_linux_restore(before);
    return count < 0 ? -errno : count;
}

int64_t covei_linux_file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset)
{
    if (past_limit(offset + size_bytes))
        return -EFBIG;
    int before = covei_linux_hold();
    ssize_t count;
    do
        count = pwrite(file, data, size_bytes, (off_t)offset);
    while (count < 0 && errno == EINTR);
    covei_linux_restore(before);
    return count < 0 ? -errno : count;
}

int covei_linux_file_sync(int file)
{
    int before = covei_linux_hold(), result;
    do
        result = result_of(fsync(file));
    while (result == -EINTR);
    covei_linux_restore(before);
    return result;
}

int covei_linux_directory_sync(const char *path)
{
    int directory = open_file(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (directory < 0)
        return directory;
    int result = covei_linux_file_sync(directory);
    covei_linux_file_close(directory);
    return result == -EINVAL ? 0 : result; /* there are file systems where a directory need not be synced */
}

void covei_linux_file_close(int file)
{
    int saved = errno, before = covei_linux_hold();
    (void)close(file); /* on Linux the descriptor is gone whatever close returns */
    covei_linux_restore(before);
    errno = saved;
}

int covei_linux_path_remove(const char *path)
{
    return result_of(unlink(path));
}

/* The numbers of linux/magic.h, and of file systems that are not in it. */
static bool is_network(uint64_t type)
{
    static const uint32_t types[] = {
        0x6969, /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB 2 */
        0x517b, /* SMB */
        0x01021997, /* 9P */
        0x5346414f, /* AFS */
        0x6b414653, /* AFS, kAFS */
        0x73757245, /* Coda */
        0x00c36400, /* Ceph */
        0x0bd00bd0, /* Lustre */
        0x564c, /* NCP */
        0x01161970, /* GFS2 */
        0x7461636f, /* OCFS2 */
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (type == types[i])
            return true;
    return false;
}

#define HUGETLBFS UINT32_C(0x958458f6)
#define TMPFS UINT32_C(0x01021994)

/* Huge pages of that size: a number that the system keeps of them; 0 where it cannot be read. */
static uint64_t huge_pages(uint64_t page_bytes, const char *which)
{
    char path[96];
    unsigned long long count = 0;
    (void)snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%llukB/%s",
                   (unsigned long long)(page_bytes >> 10), which);
    int before = covei_linux_hold();
    FILE *numbers = fopen(path, "re");
    if (numbers && fscanf(numbers, "%llu", &count) != 1)
        count = 0;
    if (numbers)
        (void)fclose(numbers);
    covei_linux_restore(before);
    return count;
}

/* A mount without a limit of its own says 0 blocks: what there is, is the machine's. */
static void fill_huge(struct covei_file_system *system)
{
    uint64_t page = system->block_bytes, kept = huge_pages(page, "resv_hugepages"),
             unused = huge_pages(page, "free_hugepages");
    system->total_bytes = huge_pages(page, "nr_hugepages") * page;
    system->free_bytes = unused > kept ? (unused - kept) * page : 0;
}

int covei_linux_file_system(int file, struct covei_file_system *system)
{
    struct statfs space;
    if (fstatfs(file, &space) < 0)
        return -errno;
    uint32_t type = (uint32_t)space.f_type;
    uint64_t block = (uint64_t)(space.f_frsize ? space.f_frsize : space.f_bsize);
    *system = (struct covei_file_system){
        .free_bytes = (uint64_t)space.f_bavail * block,
        .total_bytes = (uint64_t)space.f_blocks * block,
        .block_bytes = (uint64_t)space.f_bsize,
        .network = is_network(type),
        .huge = type == HUGETLBFS,
        .memory = type == TMPFS,
    };
    if (system->huge && system->total_bytes == 0)
        fill_huge(system);
    return 0;
}

int covei_linux_working_directory(char *path, size_t path_bytes)
{
    return getcwd(path, path_bytes) ? 0 : -errno;
}

int covei_linux_directory_each(const char *path, int (*visit)(const char *name, void *context), void *context)
{
    int before = covei_linux_hold(); /* for `visit` too, which may hold something */
    DIR *directory = opendir(path);
    int result = directory ? 0 : -errno;
    struct dirent *entry;
    while (result == 0 && (errno = 0, entry = readdir(directory)) != NULL)
        result = visit(entry->d_name, context);
    if (directory && result == 0 && errno != 0)
        result = -errno;
    if (directory)
        (void)closedir(directory);
    covei_linux_restore(before);
    return result;
}

int covei_linux_group_find(const char *name, uint32_t *gid)
{
    struct group group, *found = NULL;
    char buffer[65536]; /* groups have many members */
    int before = covei_linux_hold();
    int error = getgrnam_r(name, &group, buffer, sizeof buffer, &found);
    covei_linux_restore(before);
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
