/* scratch.c - a directory of its own in /dev/shm, and a guardian that removes it however the run ends.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The process that the user started is the guardian: it waits for its child, which does the work, passes an interrupt on
 * as SIGKILL (stepped children die with their tracer), and clears up, System V memory too. If the guardian itself is killed the child goes with it,
 * and the next run finds the directory by the dead pid in its name. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "scratch.h"

#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHARED_DIRECTORY "/dev/shm"
#define PREFIX "cove-kill-"

static volatile sig_atomic_t worker_pid;

static void on_end(int signal)
{
    (void)signal;
    if (worker_pid > 0)
        kill((pid_t)worker_pid, SIGKILL);
}

void scratch_remove(const char *directory)
{
    char path[600];
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        unlink(path);
    }
    closedir(entries);
    rmdir(directory);
}

static void remove_stale(void)
{
    char path[600];
    DIR *entries = opendir(SHARED_DIRECTORY);
    if (entries == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        int pid = 0;
        if (sscanf(entry->d_name, PREFIX "%d-", &pid) != 1 || pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH)
            continue;
        snprintf(path, sizeof path, SHARED_DIRECTORY "/%s", entry->d_name);
        sysv_sweep((uint32_t)pid);
        scratch_remove(path);
    }
    closedir(entries);
}

static int guard(const char *directory, pid_t pid)
{
    int status;
    struct sigaction action = {.sa_handler = on_end};
    worker_pid = pid;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return 2;
    sysv_sweep(0);
    scratch_remove(directory);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    fprintf(stderr, "the worker was killed by signal %d\n", WTERMSIG(status));
    return 2;
}

int scratch_run(int (*work)(const char *directory))
{
    char directory[64];
    remove_stale();
    place_set_run((uint32_t)getpid());
    snprintf(directory, sizeof directory, SHARED_DIRECTORY "/" PREFIX "%d-XXXXXX", (int)getpid());
    if (mkdtemp(directory) == NULL || setenv("COVE_DIR", directory, 1) < 0) {
        perror(SHARED_DIRECTORY "/" PREFIX);
        return 2;
    }
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(2);
        int status = work(directory);
        fflush(NULL);
        _exit(status);
    }
    return pid < 0 ? 2 : guard(directory, pid);
}
