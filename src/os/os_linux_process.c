/* os_linux_process.c - who a process is, and whether it has run its last instruction, from /proc.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The kernel frees a dying process's memory before it closes its files, which takes a third of a second for a
 * gigabyte. But each of its threads is marked as exiting (PF_EXITING) before that, and runs no instruction of its own
 * from then on;
 * /proc/PID/task/TID/stat shows the mark. A process is past its end when every thread is marked. Without /proc, or
 * from another PID namespace, the answer is "nobody can tell", and callers wait for the lock's word. */
#include "os/os_linux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXITING_MARK 0x4u /* PF_EXITING in the ninth field of stat */

struct proc_stat {
    char command[32];
    char state;
    unsigned long flags;
    long threads;
    unsigned long long start_ticks;
};

/* The whole of a small file as text. Returns its length or a negated errno. */
static int64_t read_text(const char *path, char *text, size_t size_bytes)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    ssize_t count = read(file, text, size_bytes - 1);
    int64_t result = count < 0 ? -errno : count;
    (void)close(file);
    text[count < 0 ? 0 : count] = '\0';
    return result;
}

/* "123 (name) S 1 ..." : the name may hold anything, so the last ')' ends it. */
static bool parse_stat(char *text, struct proc_stat *stat)
{
    char *open_at = strchr(text, '('), *close_at = strrchr(text, ')');
    if (!open_at || !close_at || close_at < open_at)
        return false;
    *close_at = '\0';
    (void)snprintf(stat->command, sizeof stat->command, "%s", open_at + 1);
    /* Fields 3 (state), 9 (flags), 20 (threads), 22 (start time) of proc(5). */
    return sscanf(close_at + 1, " %c %*d %*d %*d %*d %*d %lu %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu",
                  &stat->state, &stat->flags, &stat->threads, &stat->start_ticks) == 4;
}

static bool read_stat(const char *path, struct proc_stat *stat)
{
    char text[1024];
    return read_text(path, text, sizeof text) > 0 && parse_stat(text, stat);
}

static uint64_t own_pid_namespace(void)
{
    struct stat info;
    return stat("/proc/self/ns/pid", &info) < 0 ? 0 : (uint64_t)info.st_ino;
}

void covei_linux_process_self(struct covei_process *process)
{
    int before = covei_linux_hold();
    *process = (struct covei_process){.pid = getpid(), .uid = geteuid(), .pid_namespace = own_pid_namespace()};
    struct proc_stat stat;
    if (read_stat("/proc/self/stat", &stat)) {
        process->start_ticks = stat.start_ticks;
        memcpy(process->command, stat.command, sizeof process->command);
    } else
        (void)snprintf(process->command, sizeof process->command, "%.31s", program_invocation_short_name);
    covei_linux_restore(before);
}

/* Is every thread below /proc/PID/task marked as exiting? One that vanishes meanwhile has ended. Reading a directory
 * whose entries vanish may pass over some, so as many must have been seen as the process has. */
static bool all_threads_exiting(const char *tasks, DIR *directory, long threads)
{
    struct dirent *entry;
    long seen = 0;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        char path[96];
        (void)snprintf(path, sizeof path, "%s/%.20s/stat", tasks, entry->d_name);
        struct proc_stat stat;
        seen++;
        if (read_stat(path, &stat) && !(stat.flags & EXITING_MARK) && stat.state != 'Z' && stat.state != 'X')
            return false;
    }
    return seen >= threads;
}

static int find_ended(const struct covei_process *process)
{
    if (process->pid <= 0 || process->start_ticks == 0 || process->pid_namespace == 0 ||
        process->pid_namespace != own_pid_namespace())
        return 0;
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)process->pid);
    struct proc_stat stat;
    if (!read_stat(path, &stat)) /* gone; or hidden from us: then the lock tells */
        return kill(process->pid, 0) < 0 && errno == ESRCH;
    if (stat.start_ticks != process->start_ticks)
        return 1;
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)process->pid);
    DIR *directory = opendir(path);
    if (!directory)
        return 0;
    bool ended = all_threads_exiting(path, directory, stat.threads);
    (void)closedir(directory);
    return ended ? 1 : -1;
}

int covei_linux_process_ended(const struct covei_process *process)
{
    int before = covei_linux_hold(), result = find_ended(process);
    covei_linux_restore(before);
    return result;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t boot[16];
static pthread_once_t boot_read = PTHREAD_ONCE_INIT;

static void read_boot_id(void)
{
    char text[64];
    int before = covei_linux_hold();
    int64_t length = read_text("/proc/sys/kernel/random/boot_id", text, sizeof text);
    covei_linux_restore(before);
    if (length <= 0)
        return;
    int digits = 0;
    for (const char *c = text; *c && digits < 32; c++)
        if (hex_digit(*c) >= 0) {
            boot[digits / 2] = (uint8_t)(boot[digits / 2] << 4 | hex_digit(*c));
            digits++;
        }
}

void covei_linux_boot_id(uint8_t id[16])
{
    (void)pthread_once(&boot_read, read_boot_id);
    memcpy(id, boot, sizeof boot);
}
