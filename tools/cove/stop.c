/* stop.c - signals that ask the command to stop, and waits that notice them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Cove's waits are broken off by cove_interrupt, a blocked read(2) or write(2) by the signal itself (no SA_RESTART). A
 * signal that comes just before such a call begins to wait would be missed; so the handler also sets an alarm, which
 * breaks it off a second later. (Where there is something to show meanwhile, a wait goes in slices of 100 ms.)
 *
 * Whoever stops does so by the signal's own death, in the end: the shell then knows, and ends a script's loop too. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal;

static void on_stop(int signal_number)
{
    int saved = errno;
    if (signal_number != SIGALRM)
        stop_signal = signal_number;
    (void)cove_interrupt();
    (void)alarm(1);
    errno = saved;
}

static void install(int signal_number)
{
    struct sigaction action = {.sa_handler = on_stop}, before;
    sigemptyset(&action.sa_mask);
    /* What the caller ignores (nohup does) stays ignored. */
    if (sigaction(signal_number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        (void)sigaction(signal_number, &action, NULL);
}

void cli_stop_install(void)
{
    struct sigaction alarmed = {.sa_handler = on_stop};
    sigemptyset(&alarmed.sa_mask);
    (void)sigaction(SIGALRM, &alarmed, NULL);
    install(SIGINT);
    install(SIGTERM);
    install(SIGHUP);
}

int cli_stopped(void)
{
    return (int)stop_signal;
}

_Noreturn void cli_stop_die(int signal_number)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t one;
    (void)fflush(NULL);
    sigemptyset(&plain.sa_mask);
    (void)sigaction(signal_number, &plain, NULL);
    sigemptyset(&one);
    sigaddset(&one, signal_number);
    (void)sigprocmask(SIG_UNBLOCK, &one, NULL);
    (void)raise(signal_number);
    _exit(128 + signal_number);
}

int64_t cli_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t cli_wait_slice(struct cli_wait *wait)
{
    if (wait->timeout_ns == COVE_NOWAIT)
        return COVE_NOWAIT;
    if (wait->timeout_ns == COVE_FOREVER)
        return CLI_SLICE_NS;
    int64_t now = cli_now_ns();
    if (wait->began_ns == 0)
        wait->began_ns = now;
    int64_t left = wait->timeout_ns - (now - wait->began_ns);
    return left < 0 ? 0 : left < CLI_SLICE_NS ? left : CLI_SLICE_NS;
}

bool cli_wait_over(const struct cli_wait *wait)
{
    if (wait->timeout_ns == COVE_FOREVER)
        return false;
    return wait->timeout_ns == COVE_NOWAIT || cli_now_ns() - wait->began_ns >= wait->timeout_ns;
}

void cli_wait_reset(struct cli_wait *wait)
{
    wait->began_ns = 0;
}
