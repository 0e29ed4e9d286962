/* crew.c - starts, follows and ends the processes of a trial that are not stepped.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * They are forks of the harness, which never opens a segment itself. Nobody waits for time to pass: whoever is
 * awaited tells its phase in the ledger, or is seen asleep in /proc, or is found dead. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "crew.h"

#include "stepper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AWAKE_NS INT64_C(100000000)

/* The harness is bound to one CPU with its victim; the others may run where they like. */
static void unpin(void)
{
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
}

void crew_start(struct crew *crew, enum role role)
{
    pid_t pid = fork();
    if (pid < 0) {
        perror("kill_table: fork");
        exit(2);
    }
    if (pid == 0) {
        struct stage stage = {.scenario = crew->scenario, .ledger = crew->ledger, .role = role};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        unpin();
        _exit(role_run(&stage));
    }
    crew->pid[role] = pid;
}

static struct stage voice_of(struct crew *crew, enum role role)
{
    return (struct stage){.scenario = crew->scenario, .ledger = crew->ledger, .role = role};
}

/* Notes an end that should not be. */
static void note_end(struct crew *crew, enum role role, int status)
{
    struct stage voice = voice_of(crew, role);
    crew->pid[role] = 0;
    if (WIFSIGNALED(status))
        finding(&voice, VERDICT_CORRUPT, "was killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        finding(&voice, VERDICT_CORRUPT, "gave up with exit status %d", WEXITSTATUS(status));
}

void crew_kill(struct crew *crew, enum role role)
{
    if (crew->pid[role] == 0)
        return;
    kill(crew->pid[role], SIGKILL);
    while (waitpid(crew->pid[role], NULL, 0) < 0 && errno == EINTR) {}
    crew->pid[role] = 0;
}

static void note_hang(struct crew *crew, enum role role, int phase)
{
    struct stage voice = voice_of(crew, role);
    finding(&voice, VERDICT_HANG, "hangs before phase %d of its part", phase);
    crew_kill(crew, role);
}

int crew_await(struct crew *crew, enum role role, enum phase phase)
{
    int64_t deadline_ns = stepper_now_ns() + PATIENCE_NS;
    while (crew->pid[role] != 0) {
        int64_t slice_ns = stepper_now_ns() + 20000000;
        if (phase_wait(crew->ledger, role, phase, slice_ns < deadline_ns ? slice_ns : deadline_ns))
            return 1;
        int status;
        if (waitpid(crew->pid[role], &status, WNOHANG) == crew->pid[role])
            note_end(crew, role, status);
        else if (stepper_now_ns() >= deadline_ns)
            note_hang(crew, role, (int)phase);
    }
    return 0;
}

void crew_send(struct crew *crew, enum role role, enum phase phase)
{
    if (crew->pid[role] != 0)
        baton_pass(crew->ledger, role, phase);
}

void crew_join(struct crew *crew, enum role role)
{
    int64_t deadline_ns = stepper_now_ns() + PATIENCE_NS;
    while (crew->pid[role] != 0) {
        int status;
        pid_t got = waitpid(crew->pid[role], &status, WNOHANG);
        if (got == crew->pid[role])
            note_end(crew, role, status);
        else if (stepper_now_ns() >= deadline_ns)
            note_hang(crew, role, (int)PHASE_LAST);
        else
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

void crew_end(struct crew *crew)
{
    for (int role = 0; role < ROLE_COUNT; role++)
        crew_kill(crew, (enum role)role);
}

/* ---- asleep? -------------------------------------------------------------------------------------------------- */

static int read_proc(pid_t pid, const char *file, char *text, size_t size_bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, size_bytes - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    return got > 0;
}

/* 'R', 'S', 'T' ... */
static char state_of(pid_t pid)
{
    char text[256];
    if (!read_proc(pid, "stat", text, sizeof text))
        return '?';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : '?';
}

static int in_futex(pid_t pid)
{
    char text[256];
    if (!read_proc(pid, "syscall", text, sizeof text))
        return 0;
    long number = strtol(text, NULL, 10); /* "running" gives 0, which is read */
#ifdef SYS_futex_waitv
    if (number == SYS_futex_waitv)
        return 1;
#else
    if (number == 449)
        return 1;
#endif
    return number == SYS_futex || number == SYS_restart_syscall;
}

/* Many short looks: the sleeper is on its way for some microseconds only. Returns whether `state` was seen. One that does not
 * sleep for a while (it spins, which may be right for a time) is not waited for longer. */
static int await_state(struct crew *crew, enum role role, char state)
{
    int64_t deadline_ns = stepper_now_ns() + AWAKE_NS;
    while (crew->pid[role] != 0 && stepper_now_ns() < deadline_ns) {
        if (phase_wait(crew->ledger, role, PHASE_DONE, 0))
            return 0;
        char now = state_of(crew->pid[role]);
        if (now == state)
            return 1;
        if (now == 'Z' || now == '?')
            return 0;
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return 0;
}

int crew_await_sleep(struct crew *crew, enum role role)
{
    if (!crew_await(crew, role, PHASE_GO))
        return 0;
    return await_state(crew, role, 'S');
}

void crew_freeze(struct crew *crew, enum role role)
{
    for (int tries = 0; tries < 50 && crew->pid[role] != 0; tries++) {
        kill(crew->pid[role], SIGSTOP);
        if (!await_state(crew, role, 'T') || in_futex(crew->pid[role]))
            return;
        kill(crew->pid[role], SIGCONT);
        if (!crew_await_sleep(crew, role))
            return;
    }
}

void crew_thaw(struct crew *crew, enum role role)
{
    if (crew->pid[role] != 0)
        kill(crew->pid[role], SIGCONT);
}
