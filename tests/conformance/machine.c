/* machine.c - settings that belong to this run, or to one cell, alone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Root gets a machine of its own for each worker: private mounts (an empty /dev/shm, a hugetlbfs) and private System V
 * objects; the kernel takes them away with the worker, however it ends. Others get a COVE_DIR of their own, and the cells
 * that must change a setting are skipped.
 *
 * Huge pages are the machine's, not a namespace's. So they are asked for as so many more than there are, and a process
 * of its own gives them back at the end of a pipe, that is also when this program is killed. A lock on the file of
 * the setting keeps two runs of this program from losing each other's change. */
#include "machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <mntent.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HUGE_PAGES 16
#define HUGE_SETTING "/proc/sys/vm/nr_hugepages"
#define POSIX_DIRECTORY "/dev/shm"

static char work[PATH_BYTES], disk[PATH_BYTES / 2], huge[PATH_BYTES];
static bool ours, has_huge;
static int run_id; /* the worker's pid */

int machine_id(void)
{
    return run_id;
}

const char *work_directory(void)
{
    return work;
}

const char *disk_directory(void)
{
    return disk;
}

const char *huge_directory(void)
{
    return has_huge ? huge : NULL;
}

bool machine_is_ours(void)
{
    return ours;
}

void need_own_machine(void)
{
    if (!ours)
        ends("skip");
}

/* ---- huge pages */

static uint64_t memory_figure(const char *what)
{
    char line[128];
    unsigned long long value = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, what, strlen(what)) == 0)
            (void)sscanf(line + strlen(what), ": %llu", &value);
    if (file)
        (void)fclose(file);
    return value;
}

uint64_t huge_page_bytes(void)
{
    return memory_figure("Hugepagesize") * 1024;
}

/* So many more, or fewer. Returns by how many it changed. */
static int change_huge_pages(int by)
{
    char text[32] = {0};
    int file = open(HUGE_SETTING, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return 0;
    (void)flock(file, LOCK_EX);
    int before = pread(file, text, sizeof text - 1, 0) > 0 ? atoi(text) : 0;
    int length = snprintf(text, sizeof text, "%d", before + by > 0 ? before + by : 0);
    int changed = 0;
    if (pwrite(file, text, (size_t)length, 0) == length) {
        memset(text, 0, sizeof text);
        changed = pread(file, text, sizeof text - 1, 0) > 0 ? atoi(text) - before : 0;
    }
    (void)close(file); /* the lock goes with it */
    return changed;
}

void machine_reserve_huge_pages(struct huge_pages *pages)
{
    *pages = (struct huge_pages){.keeper = -1, .pipe = -1};
    int ends_of_pipe[2];
    if (geteuid() != 0 || memory_figure("HugePages_Free") >= HUGE_PAGES || pipe2(ends_of_pipe, O_CLOEXEC) < 0)
        return;
    pages->keeper = fork();
    if (pages->keeper == 0) {
        char byte;
        (void)setsid(); /* what is meant for the program's group is not for it */
        (void)close(ends_of_pipe[1]);
        int changed = change_huge_pages(HUGE_PAGES);
        (void)prctl(PR_SET_NAME, "huge-pages");
        (void)kill(getppid(), SIGUSR1);
        while (read(ends_of_pipe[0], &byte, 1) < 0 && errno == EINTR) {}
        (void)change_huge_pages(-changed);
        _exit(0);
    }
    (void)close(ends_of_pipe[0]);
    pages->pipe = ends_of_pipe[1];
    int signal_number;
    sigset_t ready;
    (void)sigemptyset(&ready);
    (void)sigaddset(&ready, SIGUSR1);
    if (pages->keeper > 0)
        (void)sigwait(&ready, &signal_number); /* blocked by main before */
}

void machine_give_huge_pages_back(struct huge_pages *pages)
{
    if (pages->pipe >= 0)
        (void)close(pages->pipe);
    if (pages->keeper > 0)
        (void)waitpid(pages->keeper, NULL, 0);
}

/* ---- a worker's machine */

/* What is mounted of the machine's would be found first. */
static void unmount_huge(void)
{
    struct mntent *mount_entry;
    char found[PATH_BYTES];
    do {
        FILE *table = setmntent("/proc/self/mounts", "re");
        found[0] = '\0';
        while (table && (mount_entry = getmntent(table)))
            if (strcmp(mount_entry->mnt_type, "hugetlbfs") == 0)
                (void)snprintf(found, sizeof found, "%s", mount_entry->mnt_dir);
        if (table)
            (void)endmntent(table);
    } while (*found && umount2(found, MNT_DETACH) == 0);
}

static bool take_machine(void)
{
    return geteuid() == 0 && unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", POSIX_DIRECTORY, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=1777") == 0;
}

static void mount_huge(void)
{
    unmount_huge();
    (void)snprintf(huge, sizeof huge, "%s/huge", disk);
    has_huge = mkdir(huge, 0755) == 0 && mount("hugetlbfs", huge, "hugetlbfs", 0, "mode=1777") == 0 &&
               memory_figure("HugePages_Free") >= HUGE_PAGES;
}

bool machine_begin(void)
{
    const char *temporary = getenv("TMPDIR");
    run_id = (int)getpid();
    (void)snprintf(disk, sizeof disk, "%s/cove-conformance-%d", temporary && *temporary ? temporary : "/tmp", run_id);
    if (mkdir(disk, 0700) < 0)
        return false;
    ours = take_machine();
    if (ours)
        mount_huge();
    (void)snprintf(work, sizeof work, ours ? POSIX_DIRECTORY : POSIX_DIRECTORY "/cove-conformance-%d", run_id);
    return ours ? unsetenv("COVE_DIR") == 0 : mkdir(work, 0700) == 0 && setenv("COVE_DIR", work, 1) == 0;
}

void machine_end(void)
{
    if (*huge && umount2(huge, MNT_DETACH) == 0)
        (void)rmdir(huge);
    (void)rmdir(disk);
    if (!ours)
        (void)rmdir(work);
}

/* ---- a cell's machine */

static void private_mounts(void)
{
    need_own_machine();
    CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
}

static void write_setting(const char *path, uint64_t value)
{
    FILE *file = fopen(path, "we");
    CHECK(file && fprintf(file, "%" PRIu64, value) > 0 && fclose(file) == 0);
}

void shrink_machine(const struct subject *s, uint64_t size_bytes)
{
    char directory[PATH_BYTES], options[64];
    private_mounts();
    if (s->backend->kind == KIND_SYSV) {
        CHECK(unshare(CLONE_NEWIPC) == 0); /* gone with the cell, and what is in it too */
        write_setting("/proc/sys/kernel/shmall", size_bytes / s->page_bytes);
        return;
    }
    (void)snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(s->path, '/') - s->path), s->path);
    (void)snprintf(options, sizeof options, "size=%" PRIu64 ",mode=1777", size_bytes);
    bool on_huge = s->backend->kind == KIND_HUGE;
    CHECK(mount("small", directory, on_huge ? "hugetlbfs" : "tmpfs", 0, options) == 0);
}

void take_huge_pages_away(void)
{
    private_mounts();
    unmount_huge();
}

/* ---- what a cell left */

struct sweep {
    char *what;
    size_t size;
    unsigned count;
};

static void sweep_directory(struct sweep *sweep, const char *directory)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        char path[PATH_BYTES + 300];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (strcmp(path, huge) == 0)
            continue;
        (void)remove(path);
        if (strncmp(entry->d_name, "key-", 4) == 0) /* what a System V key is of */
            continue;
        (void)snprintf(sweep->what, sweep->size, "%s", path);
        sweep->count++;
    }
    if (entries)
        (void)closedir(entries);
}

static void sweep_sysv(struct sweep *sweep)
{
    struct shm_info info;
    int last = ours ? shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info) : -1;
    for (int index = 0; index <= last; index++) {
        struct shmid_ds books;
        int id = shmctl(index, SHM_STAT, &books);
        if (id < 0)
            continue;
        (void)shmctl(id, IPC_RMID, NULL);
        (void)snprintf(sweep->what, sweep->size, "System V segment with key %#x",
                       (unsigned)books.shm_perm.__key); /* glibc's and musl's name for it */
        sweep->count++;
    }
}

unsigned machine_sweep(char *what, size_t size)
{
    struct sweep sweep = {.what = what, .size = size};
    sweep_directory(&sweep, work);
    sweep_directory(&sweep, disk);
    if (has_huge)
        sweep_directory(&sweep, huge);
    sweep_sysv(&sweep);
    return sweep.count;
}
