/* doctor_machine.c - is this machine, or container, fit for shared memory: directories, memory, limits of a process.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "doctor.h"
#include "machine.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* 64 MiB is what container engines give /dev/shm unless told otherwise; the commonest cause of trouble there. */
#define SMALL_BYTES (UINT64_C(64) << 20)
#define DEFAULT_MAX_SIZE_BYTES (UINT64_C(64) << 30)
#define LEAST_LOCKED_BYTES (UINT64_C(8) << 20) /* the kernel's default since 5.16; 64 KiB before, which is too little */

static bool in_container(void)
{
    return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
}

/* ---- the directory ---- */

static bool is_network(long type)
{
    return type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC || type == (long)CIFS_SUPER_MAGIC ||
           type == (long)SMB2_SUPER_MAGIC || type == V9FS_MAGIC || type == CEPH_SUPER_MAGIC || type == AFS_SUPER_MAGIC;
}

static void check_file_system(const char *directory)
{
    struct statfs system;
    if (statfs(directory, &system) != 0)
        return;
    long type = (long)system.f_type;
    if (is_network(type))
        doctor_say(DOCTOR_FINDING, directory, "unset COVE_DIR",
                   "lies on a network file system; processes of one machine share memory through local ones");
    else if (type != TMPFS_MAGIC)
        doctor_say(DOCTOR_NOTE, directory, "unset COVE_DIR",
                   "is not in memory (tmpfs): segments are written to a disk behind the processes' backs");
}

static void check_room(const char *directory)
{
    struct statvfs room;
    char size[16], free_size[16], mend[256];
    if (statvfs(directory, &room) != 0)
        return;
    uint64_t total = (uint64_t)room.f_blocks * room.f_frsize, available = (uint64_t)room.f_bavail * room.f_frsize;
    if (in_container())
        (void)snprintf(mend, sizeof mend,
                       "docker run --shm-size=1g ...   (Kubernetes: an emptyDir of medium Memory at %.80s)", directory);
    else if (total <= SMALL_BYTES)
        (void)snprintf(mend, sizeof mend, "sudo mount -o remount,size=1G %.80s", directory);
    else
        (void)snprintf(mend, sizeof mend, "cove ls; du -ah %.80s | sort -h   (and remove what nobody needs)",
                       directory);
    cli_show_size(size, total);
    cli_show_size(free_size, available);
    if (total == 0) /* a tmpfs without a limit */
        doctor_say(DOCTOR_GOOD, directory, NULL, "has no limit of its own");
    else if (total <= SMALL_BYTES)
        doctor_say(DOCTOR_FINDING, directory, mend, "holds only %s in all", size);
    else if (available < SMALL_BYTES)
        doctor_say(DOCTOR_FINDING, directory, mend, "only %s of %s are free", free_size, size);
    else
        doctor_say(DOCTOR_GOOD, directory, NULL, "%s, %s of it free", size, free_size);
    if (room.f_files > 0 && room.f_favail == 0)
        doctor_say(DOCTOR_FINDING, directory, "cove ls", "no file can be created: all %" PRIu64 " inodes are taken",
                   (uint64_t)room.f_files);
}

static void check_rights(const char *directory)
{
    struct stat status;
    char mend[4200];
    if (stat(directory, &status) != 0) {
        (void)snprintf(mend, sizeof mend, "mkdir -m 1777 %s", directory);
        doctor_say(DOCTOR_FINDING, directory, mend, "%s", strerror(errno));
        return;
    }
    (void)snprintf(mend, sizeof mend, "sudo chmod 1777 %s", directory);
    if (!S_ISDIR(status.st_mode))
        doctor_say(DOCTOR_FINDING, directory, "unset COVE_DIR", "is not a directory");
    else if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX))
        doctor_say(DOCTOR_FINDING, directory, mend,
                   "anybody may remove anybody's segments there: mode %04o has no sticky bit", status.st_mode & 07777);
    else if (access(directory, R_OK | W_OK | X_OK) == 0)
        return;
    else if (errno == EROFS) {
        (void)snprintf(mend, sizeof mend, "sudo mount -o remount,rw %s", directory);
        doctor_say(DOCTOR_FINDING, directory, mend, "is mounted read-only: no segment can be created there");
    } else
        doctor_say(DOCTOR_FINDING, directory, mend, "this user may not create segments there (mode %04o)",
                   status.st_mode & 07777);
}

/* libc's own shm_open and sem_open know one directory only, wherever ours is. */
static void check_libc_directory(const char *directory)
{
    struct stat ours, libcs;
    if (strcmp(directory, MACHINE_SHM) == 0)
        return;
    if (stat(directory, &ours) == 0 && stat(MACHINE_SHM, &libcs) == 0 && ours.st_dev == libcs.st_dev &&
        ours.st_ino == libcs.st_ino)
        return;
    check_rights(MACHINE_SHM);
}

/* ---- memory limits of control groups ---- */

/* A file with one number in it, as control groups have them. "max", and what cannot be read, is no limit. */
static uint64_t read_number(const char *path)
{
    char word[64];
    FILE *file = fopen(path, "re");
    if (!file)
        return UINT64_MAX;
    uint64_t number = UINT64_MAX;
    if (fgets(word, sizeof word, file) && isdigit((unsigned char)word[0]))
        number = strtoull(word, NULL, 10);
    (void)fclose(file);
    return number;
}

struct limit {
    uint64_t limit_bytes, used_bytes;
    uint64_t killed; /* processes of this one's own group, for lack of memory */
    char path[4096];
};

/* "oom_kill N" in a file of several such lines: both versions have it. 0 where there is none. */
static uint64_t read_killed(const char *root, const char *group, const char *file_name)
{
    char path[4096], line[128];
    unsigned long long killed = 0;
    (void)snprintf(path, sizeof path, "%s%s/%s", root, strcmp(group, "/") == 0 ? "" : group, file_name);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "oom_kill %llu", &killed) != 1)
        ;
    if (file)
        (void)fclose(file);
    return killed;
}

/* The tightest limit from the group of this process up to the root: the one with the least room left. */
static void walk_groups(struct limit *tightest, const char *root, const char *group, const char *limit_file,
                        const char *used_file)
{
    char path[3000], file[4096];
    (void)snprintf(path, sizeof path, "%s%s", root, strcmp(group, "/") == 0 ? "" : group);
    for (;;) {
        (void)snprintf(file, sizeof file, "%s/%s", path, used_file);
        uint64_t used = read_number(file);
        (void)snprintf(file, sizeof file, "%s/%s", path, limit_file);
        uint64_t limit = read_number(file);
        /* Version 1 says "no limit" with a number near 2^63. */
        if (limit < (UINT64_C(1) << 60) && used != UINT64_MAX &&
            (limit > used ? limit - used : 0) <=
                (tightest->limit_bytes > tightest->used_bytes ? tightest->limit_bytes - tightest->used_bytes : 0)) {
            tightest->limit_bytes = limit;
            tightest->used_bytes = used;
            (void)snprintf(tightest->path, sizeof tightest->path, "%s", file);
        }
        char *slash = strrchr(path, '/');
        if (!slash || strlen(path) <= strlen(root))
            return;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: version 2 names no controllers, and lies elsewhere beside version 1. */
static void look_at_group(struct limit *tightest, const char *controllers, const char *group)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    if (strcmp(controllers, ":") != 0) {
        if (!strstr(controllers, "memory"))
            return;
        walk_groups(tightest, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", "memory.usage_in_bytes");
        tightest->killed += read_killed("/sys/fs/cgroup/memory", group, "memory.oom_control");
        return;
    }
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        walk_groups(tightest, roots[i], group, "memory.max", "memory.current");
        tightest->killed += read_killed(roots[i], group, "memory.events");
    }
}

static void check_memory_groups(void)
{
    char line[3100], left[16], size[16];
    struct limit tightest = {.limit_bytes = UINT64_MAX};
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        look_at_group(&tightest, controllers, group);
    }
    if (file)
        (void)fclose(file);
    if (tightest.killed > 0)
        doctor_say(DOCTOR_NOTE, "memory", NULL,
                   "the kernel has killed %" PRIu64 " process%s of this control group for lack of memory",
                   tightest.killed, tightest.killed == 1 ? "" : "es");
    if (tightest.limit_bytes == UINT64_MAX) {
        doctor_say(DOCTOR_GOOD, "memory", NULL, "no control group limits it");
        return;
    }
    uint64_t room = tightest.limit_bytes > tightest.used_bytes ? tightest.limit_bytes - tightest.used_bytes : 0;
    cli_show_size(left, room);
    cli_show_size(size, tightest.limit_bytes);
    if (room < SMALL_BYTES)
        doctor_say(DOCTOR_FINDING, "memory",
                   in_container() ? "docker update --memory 4g CONTAINER" : "systemctl set-property UNIT MemoryMax=4G",
                   "%s of the control group's %s are left, then the kernel kills processes (%s)", left, size,
                   tightest.path);
    else
        doctor_say(DOCTOR_NOTE, "memory", NULL, "a control group limits it to %s, %s of it left; segments count (%s)",
                   size, left, tightest.path);
}

/* ---- limits of this process ---- */

static void check_limits(void)
{
    struct rlimit limit;
    char size[16];
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        doctor_say(limit.rlim_cur < (UINT64_C(1) << 30) ? DOCTOR_FINDING : DOCTOR_NOTE, "file size",
                   "ulimit -f unlimited", "no segment may grow beyond %s (RLIMIT_FSIZE)",
                   cli_show_size(size, limit.rlim_cur));
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        doctor_say(limit.rlim_cur < DEFAULT_MAX_SIZE_BYTES ? DOCTOR_FINDING : DOCTOR_NOTE, "address space",
                   "ulimit -v unlimited", "limited to %s (RLIMIT_AS); a segment that may grow to 64 GiB maps that much",
                   cli_show_size(size, limit.rlim_cur));
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 64)
        doctor_say(DOCTOR_FINDING, "open files", "ulimit -n 1024",
                   "limited to %llu (RLIMIT_NOFILE); a segment takes two or three", (unsigned long long)limit.rlim_cur);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < LEAST_LOCKED_BYTES && geteuid() != 0)
        doctor_say(DOCTOR_NOTE, "locked memory", "ulimit -l unlimited   (root sets how far: /etc/security/limits.conf)",
                   "mlock keeps at most %s of segments from being swapped out (RLIMIT_MEMLOCK)",
                   cli_show_size(size, limit.rlim_cur));
}

void doctor_machine(void)
{
    const char *directory = cove_directory();
    check_rights(directory);
    check_file_system(directory);
    check_room(directory);
    check_libc_directory(directory);
    check_memory_groups();
    check_limits();
}
