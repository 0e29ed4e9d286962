/* doctor_kernel.c - what the kernel grants besides: System V objects, POSIX queues, huge pages, sight of processes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Cove's own segments need none of these; programs beside it do, and its backends sysv: and huge:. So what is
 * missing is a note, and what has run out, so that the next call of somebody fails, is a finding. */
#include "doctor.h"
#include "machine.h"

#include <inttypes.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#define LEAST_SYSV_BYTES (UINT64_C(64) << 20) /* older systems granted 32 MiB, too little for a picture or two */
#define QUEUE_OVERHEAD_BYTES 128 /* what the kernel counts of a message besides its bytes, at most (mq_overview) */

union semaphore_argument { /* semctl wants the caller to define it */
    struct seminfo *info;
};

/* A setting of the kernel; false where it has none of that name. */
static bool read_setting(const char *path, uint64_t *value)
{
    unsigned long long number;
    FILE *file = fopen(path, "re");
    bool good = file && fscanf(file, "%llu", &number) == 1;
    if (file)
        (void)fclose(file);
    if (good)
        *value = number;
    return good;
}

/* ---- System V ---- */

/* So many of at most so many are there. The limit is of this IPC namespace. */
static void check_count(const char *what, const char *setting, uint64_t used, uint64_t most)
{
    char mend[160];
    (void)snprintf(mend, sizeof mend, "cove ls --stale; sudo sysctl -w %s", setting);
    if (used >= most)
        doctor_say(DOCTOR_FINDING, "System V", mend, "all %" PRIu64 " %s are taken: the next program gets ENOSPC", most,
                   what);
    else if (used + most / 10 >= most)
        doctor_say(DOCTOR_NOTE, "System V", mend, "%" PRIu64 " of %" PRIu64 " %s are taken", used, most, what);
}

static void check_sysv_memory(const struct shm_info *used, const struct shminfo *limits)
{
    char size[16];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), most = limits->shmmax;
    uint64_t all = limits->shmall > UINT64_MAX / page ? UINT64_MAX : limits->shmall * page;
    uint64_t taken = used->shm_tot * page, left = all > taken ? all - taken : 0;
    if (most < LEAST_SYSV_BYTES)
        doctor_say(DOCTOR_FINDING, "System V", "sudo sysctl -w kernel.shmmax=18446744073692774399",
                   "a segment may have at most %s (kernel.shmmax)", cli_show_size(size, most));
    if (left < LEAST_SYSV_BYTES)
        doctor_say(DOCTOR_FINDING, "System V", "sudo sysctl -w kernel.shmall=18446744073692774399",
                   "only %s are left of what all segments may have together (kernel.shmall)",
                   cli_show_size(size, left));
    check_count("segments", "kernel.shmmni=32768", (uint64_t)used->used_ids, limits->shmmni);
}

static void check_sysv(void)
{
    struct shm_info memory;
    struct shminfo memory_limits;
    struct msginfo queues, queue_limits;
    struct seminfo sets, set_limits;
    union semaphore_argument sets_argument = {.info = &sets}, limits_argument = {.info = &set_limits};
    uint64_t forced = 0;
    if (shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&memory) < 0 ||
        shmctl(0, IPC_INFO, (struct shmid_ds *)(void *)&memory_limits) < 0 ||
        msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&queues) < 0 ||
        msgctl(0, IPC_INFO, (struct msqid_ds *)(void *)&queue_limits) < 0 ||
        semctl(0, 0, SEM_INFO, sets_argument) < 0 || semctl(0, 0, IPC_INFO, limits_argument) < 0) {
        doctor_say(DOCTOR_NOTE, "System V", NULL, "this kernel has no System V shared memory (CONFIG_SYSVIPC)");
        return;
    }
    check_sysv_memory(&memory, &memory_limits);
    /* In what MSG_INFO and SEM_INFO give, these fields count what is there. */
    check_count("message queues", "kernel.msgmni=32000", (uint64_t)queues.msgpool, (uint64_t)queue_limits.msgmni);
    check_count("sets of semaphores", "kernel.sem='32000 1024000000 500 32000'", (uint64_t)sets.semusz,
                (uint64_t)set_limits.semmni);
    if (read_setting("/proc/sys/kernel/shm_rmid_forced", &forced) && forced != 0)
        doctor_say(DOCTOR_NOTE, "System V", "sudo sysctl -w kernel.shm_rmid_forced=0",
                   "segments go with their last user, whatever that user wanted (kernel.shm_rmid_forced)");
    doctor_say(DOCTOR_GOOD, "System V", NULL, "%d segment%s, %d queue%s, %d set%s of semaphores", memory.used_ids,
               memory.used_ids == 1 ? "" : "s", queues.msgpool, queues.msgpool == 1 ? "" : "s", sets.semusz,
               sets.semusz == 1 ? "" : "s");
}

/* ---- file systems that are mounted, or not ---- */

static bool find_mount(const char *type, char path[256])
{
    bool found = false;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *mount; mounts && !found && (mount = getmntent(mounts));) {
        found = strcmp(mount->mnt_type, type) == 0;
        if (found)
            (void)snprintf(path, 256, "%s", mount->mnt_dir);
    }
    if (mounts)
        (void)endmntent(mounts);
    return found;
}

/* ---- POSIX queues ---- */

/* What one queue of default size takes of RLIMIT_MSGQUEUE. */
static void check_queue_bytes(void)
{
    struct rlimit limit;
    uint64_t messages = 10, message_bytes = 8192;
    char size[16], need[16];
    (void)read_setting("/proc/sys/fs/mqueue/msg_default", &messages);
    (void)read_setting("/proc/sys/fs/mqueue/msgsize_default", &message_bytes);
    uint64_t needed = messages * (message_bytes + QUEUE_OVERHEAD_BYTES);
    if (getrlimit(RLIMIT_MSGQUEUE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < needed)
        doctor_say(DOCTOR_FINDING, "POSIX queues", "ulimit -q 819200",
                   "this user's queues may take %s together, and one takes %s (RLIMIT_MSGQUEUE)",
                   cli_show_size(size, limit.rlim_cur), cli_show_size(need, needed));
}

static void check_queues(void)
{
    struct machine_list list = {.queues = -1};
    char mount[256];
    uint64_t most_queues = 0, most_messages = 0, most_bytes = 0;
    if (!read_setting("/proc/sys/fs/mqueue/queues_max", &most_queues) ||
        !read_setting("/proc/sys/fs/mqueue/msg_max", &most_messages) ||
        !read_setting("/proc/sys/fs/mqueue/msgsize_max", &most_bytes)) {
        doctor_say(DOCTOR_NOTE, "POSIX queues", NULL,
                   "this kernel has none (CONFIG_POSIX_MQUEUE), or /proc/sys is hidden");
        return;
    }
    bool listed = machine_add_mqueue(&list) == 0 && !*list.queues_unseen;
    if (listed && list.count >= most_queues && most_queues > 0)
        doctor_say(DOCTOR_FINDING, "POSIX queues", "cove ls --stale; sudo sysctl -w fs.mqueue.queues_max=1024",
                   "all %" PRIu64 " queues are taken: the next program gets ENOSPC (fs.mqueue.queues_max)",
                   most_queues);
    machine_free(&list);
    check_queue_bytes();
    if (!find_mount("mqueue", mount))
        doctor_say(DOCTOR_NOTE, "POSIX queues", "sudo mkdir -p /dev/mqueue && sudo mount -t mqueue none /dev/mqueue",
                   "their file system is not mounted: they work, but only root can list them");
    doctor_say(most_messages < 10 ? DOCTOR_NOTE : DOCTOR_GOOD, "POSIX queues",
               most_messages < 10 ? "sudo sysctl -w fs.mqueue.msg_max=10" : NULL,
               "one holds at most %" PRIu64 " messages of %" PRIu64 " bytes (fs.mqueue.msg_max, msgsize_max); Cove's "
               "have no such limits",
               most_messages, most_bytes);
}

/* ---- huge pages ---- */

static bool read_memory_figure(const char *key, uint64_t *value)
{
    char line[160];
    bool found = false;
    size_t length = strlen(key);
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        found = strncmp(line, key, length) == 0 && line[length] == ':';
        if (found)
            *value = strtoull(line + length + 1, NULL, 10);
    }
    if (file)
        (void)fclose(file);
    return found;
}

static void check_huge_pages(void)
{
    uint64_t total, unused, size_kib, more = 0;
    char mend[120], path[256], size[16];
    if (!read_memory_figure("HugePages_Total", &total) || !read_memory_figure("HugePages_Free", &unused) ||
        !read_memory_figure("Hugepagesize", &size_kib)) {
        doctor_say(DOCTOR_NOTE, "huge pages", NULL, "this kernel has none (CONFIG_HUGETLBFS)");
        return;
    }
    (void)read_setting("/proc/sys/vm/nr_overcommit_hugepages", &more);
    cli_show_size(size, size_kib << 10);
    (void)snprintf(mend, sizeof mend, "sudo sysctl -w vm.nr_hugepages=%" PRIu64 "   (each takes %s)", total + 64, size);
    bool mounted = find_mount("hugetlbfs", path);
    if (total == 0 && more == 0)
        doctor_say(DOCTOR_NOTE, "huge pages", mend,
                   "none are reserved: no segment huge:NAME (hugetry:NAME takes others)");
    else if (unused == 0 && more == 0)
        doctor_say(DOCTOR_NOTE, "huge pages", mend, "all %" PRIu64 " are taken", total);
    else
        doctor_say(DOCTOR_GOOD, "huge pages", NULL, "%" PRIu64 " of %s, %" PRIu64 " of them free", total, size, unused);
    if (!mounted)
        doctor_say(DOCTOR_NOTE, "huge pages",
                   "sudo mkdir -p /dev/hugepages && sudo mount -t hugetlbfs -o mode=1777 none /dev/hugepages",
                   "their file system is not mounted: no segment huge:NAME");
    else if (access(path, W_OK | X_OK) != 0) {
        (void)snprintf(mend, sizeof mend, "sudo chmod 1777 %.100s", path);
        doctor_say(DOCTOR_NOTE, "huge pages", mend, "this user may not create files in %s", path);
    }
}

/* ---- processes ---- */

static void check_sight(void)
{
    struct machine_list list = {.queues = -1};
    const char *mend = geteuid() == 0 ? NULL : "sudo cove ls";
    int result = machine_find_users(&list);
    if (result < 0)
        doctor_say(DOCTOR_NOTE, "processes", NULL, "/proc cannot be read: %s", cove_strerror(result));
    else if (list.sight.hidden || list.sight.denied > 0) {
        if (list.sight.hidden && strstr(list.sight.sentence, "namespace"))
            mend = "docker run --pid=host ...   (or run cove outside of the container)";
        else if (list.sight.hidden)
            mend = "sudo mount -o remount,hidepid=0 /proc";
        doctor_say(DOCTOR_NOTE, "processes", mend, "%s: cove ls cannot name every user (deaths are seen all the same)",
                   list.sight.sentence);
    } else
        doctor_say(DOCTOR_GOOD, "processes", NULL, "all are seen");
    machine_free(&list);
}

void doctor_kernel(void)
{
    check_sysv();
    check_queues();
    check_huge_pages();
    check_sight();
}
