/* run.c - running a command that must not go on without us.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * From before the fork until the command has ended all signals that concern it are blocked, and taken one by one by
 * sigwaitinfo: there is no moment at which one could be missed, or find no command yet.
 *
 * What the terminal sends (Ctrl-C) goes to the whole foreground group, so that the command has it already; what comes
 * from a process came to us alone, and is passed on.
 *
 * Ctrl-Z: the command stops when it likes to (an editor gives the terminal back first), and then we do, by the same
 * signal, which is what the shell waits for. A command that somebody stops where there is no shell to continue us stays
 * stopped alone.
 *
 * Killed: the command asked the kernel for SIGKILL at our death (PR_SET_PDEATHSIG). It looks once whether we were there
 * still when it asked. */
#include "run.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_INHERITED 10 /* scripts use smaller descriptors for themselves */
#define LINGER_MS 100 /* for those who are just ending, as the parts of a pipeline */

static const int concerning[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                 SIGUSR2, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU};
#define CONCERNING_COUNT (sizeof concerning / sizeof *concerning)

struct supervision {
    pid_t command;
    sigset_t before; /* the mask that we were started with, and the command is */
    struct sigaction child_before; /* likewise, of SIGCHLD */
    sigset_t waited_for;
    int life; /* the reading end of a pipe whose other end the command and its children inherit */
    int told_to_stop; /* the signal that stops jobs, if one came */
    int stopped; /* the signal that stopped the command, while it is */
};

/* ---- before and behind the fork ---- */

static bool is_ignored(int number)
{
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* What our caller ignores (nohup does) the command ignores too. A SIGCHLD that is ignored would take its status away. */
static void hold_signals(struct supervision *run)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigemptyset(&plain.sa_mask);
    sigemptyset(&run->waited_for);
    sigaddset(&run->waited_for, SIGCHLD);
    for (size_t i = 0; i < CONCERNING_COUNT; i++)
        if (!is_ignored(concerning[i]))
            sigaddset(&run->waited_for, concerning[i]);
    (void)sigprocmask(SIG_BLOCK, &run->waited_for, &run->before);
    (void)sigaction(SIGCHLD, &plain, &run->child_before);
}

static void give_signals_back(const struct supervision *run)
{
    (void)sigaction(SIGCHLD, &run->child_before, NULL);
    (void)sigprocmask(SIG_SETMASK, &run->before, NULL);
}

/* A handler of ours would swallow a signal that comes before the exec. */
static void drop_handlers(void)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigemptyset(&plain.sa_mask);
    for (size_t i = 0; i < CONCERNING_COUNT; i++)
        if (!is_ignored(concerning[i]))
            (void)sigaction(concerning[i], &plain, NULL);
}

static _Noreturn void become(const struct supervision *run, char *const *command, pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before we asked */
        _exit(CLI_RUN_FAILED);
    drop_handlers();
    give_signals_back(run);
    (void)execvp(command[0], command);
    int error = errno;
    cli_say(command[0], "the command cannot be run: %s", strerror(error));
    _exit(error == ENOENT ? CLI_RUN_MISSING : CLI_RUN_UNFIT);
}

/* Returns the end that is to be inherited, or a negated errno. */
static int open_life(struct supervision *run)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int inherited = fcntl(ends[1], F_DUPFD, FIRST_INHERITED), error = errno;
    (void)close(ends[1]);
    run->life = ends[0];
    if (inherited >= 0)
        return inherited;
    (void)close(ends[0]);
    return -error;
}

static int start(struct supervision *run, char *const *command)
{
    int inherited = open_life(run);
    if (inherited < 0)
        return inherited;
    pid_t us = getpid();
    hold_signals(run);
    run->command = fork();
    int error = errno;
    if (run->command == 0)
        become(run, command, us);
    (void)close(inherited);
    if (run->command > 0)
        return 0;
    give_signals_back(run);
    (void)close(run->life);
    return -error;
}

/* ---- while it runs ---- */

/* Does a shell wait for us that could continue us? */
static bool in_foreground(const struct supervision *run)
{
    int terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0)
        return false;
    pid_t group = tcgetpgrp(terminal);
    (void)close(terminal);
    return group > 0 && (group == getpgrp() || group == getpgid(run->command));
}

/* Stop as the command did, until somebody continues us. */
static void stop_too(struct supervision *run)
{
    int number = run->stopped;
    if (!run->told_to_stop && !in_foreground(run))
        return;
    run->told_to_stop = run->stopped = 0;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    (void)raise(number);
    (void)sigprocmask(SIG_UNBLOCK, &one, NULL); /* here */
    (void)sigprocmask(SIG_BLOCK, &one, NULL);
}

/* What became of the command. Returns its status for a shell, or -1: it is there. */
static int look_at_command(struct supervision *run)
{
    int status;
    while (waitpid(run->command, &status, WNOHANG | WUNTRACED | WCONTINUED) > 0) {
        if (WIFEXITED(status))
            return WEXITSTATUS(status);
        if (WIFSIGNALED(status))
            return CLI_RUN_SIGNAL + WTERMSIG(status);
        run->stopped = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
    }
    return -1;
}

static bool stops_jobs(int number)
{
    return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

static void pass_on(struct supervision *run, int number, const siginfo_t *info)
{
    if (stops_jobs(number))
        run->told_to_stop = number;
    if (number == SIGCONT)
        run->told_to_stop = 0;
    /* The terminal's go to the command too; and its own do not come back to it. */
    if (info->si_code != SI_KERNEL && info->si_pid != run->command)
        (void)kill(run->command, number);
}

static int supervise(struct supervision *run)
{
    for (;;) {
        siginfo_t info;
        int number = sigwaitinfo(&run->waited_for, &info), status = -1;
        if (number == SIGCHLD)
            status = look_at_command(run);
        else if (number > 0)
            pass_on(run, number, &info);
        if (status >= 0)
            return status;
        if (run->stopped)
            stop_too(run);
    }
}

/* The pipe has no end to write to any more where all who inherited it are gone. */
static bool others_live(const struct supervision *run)
{
    struct pollfd end = {.fd = run->life, .events = 0};
    return poll(&end, 1, LINGER_MS) == 0 || !(end.revents & POLLHUP);
}

int run_command(const char *about, char *const *command, bool *go_on)
{
    struct supervision run = {0};
    *go_on = false;
    int result = start(&run, command);
    if (result < 0) {
        cli_say(about, "the command cannot be started: %s", strerror(-result));
        return CLI_RUN_FAILED;
    }
    int status = supervise(&run);
    *go_on = others_live(&run);
    (void)close(run.life);
    return status; /* and what came too late for the command is not to keep us from giving the lock back */
}
