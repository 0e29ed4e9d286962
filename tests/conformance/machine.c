/* machine.c - settings that belong to this run, or to one cell, alone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Root gets a machine of its own for each worker: private mounts (an empty /dev/shm, a hugetlbfs) and private
 * System V objects; the kernel takes them away with the worker, however it ends. Others get a COVE_DIR of their own,
 * and the cells that must change a setting are skipped.
 *
 * Huge pages are the machine's, not a namespace's. So they are asked for as so many more than there are, and a
 * process of its own, the janitor, gives them back and removes the directories at the end of a pipe, that is also
 * when this program is killed. A lock on the file of the setting keeps two runs from losing each other's change. */
#include "machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
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

static char work[PATH_BYTES], disk[PATH_BYTES / 2], huge[PATH_BYTES]; /* of the run; then of this worker */
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
    int file = by != 0 ? open(HUGE_SETTING, O_RDWR | O_CLOEXEC) : -1;
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

/* ---- the run's directories, and the janitor */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    (void)remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Waits for the end of all who have the pipe's other end: this program, its workers and cells, however they end. */
_Noreturn static void be_janitor(int begin, int end)
{
    char byte;
    (void)setsid(); /* what is meant for the program's group is not for it */
    (void)prctl(PR_SET_NAME, "janitor");
    (void)close(end);
    int changed = geteuid() == 0 ? change_huge_pages(HUGE_PAGES) : 0;
    (void)kill(getppid(), SIGUSR1);
    while (read(begin, &byte, 1) < 0 && errno == EINTR) {}
    (void)change_huge_pages(-changed);
    remove_tree(disk);
    remove_tree(work);
    _exit(0);
}

bool machine_prepare(struct janitor *janitor)
{
    const char *temporary = getenv("TMPDIR");
    int pipe_ends[2], number;
    sigset_t ready;
    (void)snprintf(disk, sizeof disk, "%s/cove-conformance-%d", temporary && *temporary ? temporary : "/tmp",
                   (int)getpid());
    (void)snprintf(work, sizeof work, POSIX_DIRECTORY "/cove-conformance-%d", (int)getpid());
    if (mkdir(disk, 0755) < 0 || mkdir(work, 0755) < 0 || pipe2(pipe_ends, O_CLOEXEC) < 0)
        return false;
    janitor->pid = fork();
    if (janitor->pid == 0)
        be_janitor(pipe_ends[0], pipe_ends[1]);
    (void)close(pipe_ends[0]);
    janitor->pipe = pipe_ends[1];
    (void)sigemptyset(&ready);
    (void)sigaddset(&ready, SIGUSR1);
    return janitor->pid > 0 && sigwait(&ready, &number) == 0; /* blocked by main before */
}

void machine_clear(struct janitor *janitor)
{
    (void)close(janitor->pipe);
    (void)waitpid(janitor->pid, NULL, 0);
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

/* One level deeper in `directory`. */
static bool own_directory(char *directory, size_t size)
{
    size_t length = strlen(directory);
    (void)snprintf(directory + length, size - length, "/%d", run_id);
    return mkdir(directory, 0755) == 0;
}

bool machine_begin(void)
{
    run_id = (int)getpid();
    if (!own_directory(disk, sizeof disk))
        return false;
    ours = take_machine();
    if (!ours)
        return own_directory(work, sizeof work) && setenv("COVE_DIR", work, 1) == 0;
    mount_huge();
    (void)snprintf(work, sizeof work, "%s", POSIX_DIRECTORY);
    return unsetenv("COVE_DIR") == 0;
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

static void sweep_memory(struct sweep *sweep, int id, unsigned key)
{
    if (id < 0)
        return;
    (void)shmctl(id, IPC_RMID, NULL);
    (void)snprintf(sweep->what, sweep->size, "System V segment with key %#x", key);
    sweep->count++;
}

/* All there are, or where others have some, that of the cell's key. */
static void sweep_sysv(struct sweep *sweep, int key)
{
    struct shm_info info;
    struct shmid_ds books;
    if (!ours && key != 0)
        sweep_memory(sweep, shmget(key, 0, 0), (unsigned)key);
    int last = ours ? shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info) : -1;
    for (int index = 0; index <= last; index++) {
        int id = shmctl(index, SHM_STAT, &books);
        sweep_memory(sweep, id, id < 0 ? 0 : (unsigned)books.shm_perm.__key); /* glibc's and musl's name for it */
    }
}

unsigned machine_sweep(int key, char *what, size_t size)
{
    struct sweep sweep = {.what = what, .size = size};
    sweep_directory(&sweep, work);
    sweep_directory(&sweep, disk);
    if (has_huge)
        sweep_directory(&sweep, huge);
    sweep_sysv(&sweep, key);
    return sweep.count;
}
