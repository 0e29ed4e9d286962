/* heir.c - who takes over a dead member's row while the segment is copied holds up neither the copy nor himself.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A roster of three: one in the middle of a transaction, one that copies the segment and waits for him at the shut
 * gate, one that looks on. The copier is stopped, the one in the middle is killed, and a fourth opens the segment: the
 * only row for him is the dead one's, which he must recover first, and the gate is shut. When the copier goes on it
 * waits for the dead one's lane; whichever of the two recovers it, both must be done at once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "scratch.h"

#include <cove.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_NS INT64_C(20000000000) /* of the copy, which must not come near it */
#define SOON_NS INT64_C(5000000000)
#define LOOK_NS 1000000

struct account {
    cove_mutex lock;
    int64_t cents;
    cove_ref block;
};

static const struct cove_type account_type = {"account", 1, 0, sizeof(struct account)};
static char name[300];

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void look_again(void)
{
    nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
}

static void must(int good, const char *what)
{
    if (good)
        return;
    printf("FAIL %s: %s\n", what, cove_last_error());
    fflush(stdout);
    _exit(1);
}

static struct account *open_account(cove_segment **segment)
{
    void *memory = NULL;
    must(cove_open(segment, name, &(struct cove_options){.max_members = 3}) >= 0, "opening");
    must(cove_object_open(&memory, *segment, "account", &account_type, 0) >= 0, "the account");
    return memory;
}

static pid_t start(void (*run)(int told), int *told)
{
    int ends[2];
    must(pipe2(ends, O_CLOEXEC) == 0, "pipe");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            run(ends[1]);
        _exit(0);
    }
    must(pid > 0, "fork");
    close(ends[1]);
    *told = ends[0];
    return pid;
}

static void await(int told, const char *what)
{
    char byte;
    must(read(told, &byte, 1) == 1, what);
}

/* ---- the four ------------------------------------------------------------------------------------------------- */

static void be_in_the_middle(int told)
{
    cove_segment *segment = NULL;
    struct account *account = open_account(&segment);
    must(cove_begin(segment) == 0 && cove_mutex_lock(segment, &account->lock, TIMEOUT_NS) == 0 &&
             cove_save(segment, &account->cents, sizeof account->cents) == 0 &&
             cove_alloc_into(segment, &account->block, 500) == 0,
         "a transaction");
    account->cents = 1;
    must(write(told, "", 1) == 1, "telling");
    for (;;)
        pause();
}

static void copy(int told)
{
    cove_segment *segment = NULL;
    (void)open_account(&segment);
    must(write(told, "", 1) == 1, "telling");
    must(cove_sync(segment, TIMEOUT_NS) == 0, "cove_sync");
    must(cove_close(segment) == 0, "closing");
}

static void inherit(int told)
{
    cove_segment *segment = NULL;
    (void)told;
    struct account *account = open_account(&segment);
    must(account->cents == 0 && account->block == 0, "what the dead one was in the middle of is undone");
    must(cove_close(segment) == 0, "closing");
}

/* A lock that nobody holds is refused when the gate is shut. */
static void await_shut(cove_segment *segment, cove_mutex *free_lock)
{
    int64_t until_ns = now_ns() + SOON_NS;
    while (cove_mutex_lock(segment, free_lock, COVE_NOWAIT) >= 0) {
        must(cove_mutex_unlock(segment, free_lock) == 0, "unlocking");
        must(now_ns() < until_ns, "the copier shuts the gate");
        look_again();
    }
}

static int in_futex(pid_t pid)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, sizeof text - 1) < 0)
        text[0] = 0;
    close(fd);
    long number = text[0] >= '0' && text[0] <= '9' ? strtol(text, NULL, 10) : -1;
    return number == SYS_futex || number == 449 /* futex_waitv */;
}

static void await_end(pid_t pid, int64_t until_ns, const char *what)
{
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (now_ns() >= until_ns) {
            printf("FAIL %s hangs\n", what);
            exit(1); /* the others go with us */
        }
        look_again();
    }
    must(WIFEXITED(status) && WEXITSTATUS(status) == 0, what);
}

static int play(void)
{
    struct look_on {
        cove_mutex lock;
    };
    static const struct cove_type look_on_type = {"look-on", 1, 0, sizeof(struct look_on)};
    cove_segment *segment = NULL;
    void *own = NULL;
    int told = -1;
    (void)open_account(&segment);
    must(cove_object_open(&own, segment, "own", &look_on_type, 0) >= 0, "a lock of my own");
    pid_t middle = start(be_in_the_middle, &told);
    await(told, "the one in the middle");
    pid_t copier = start(copy, &told);
    await(told, "the copier");
    await_shut(segment, &((struct look_on *)own)->lock);
    kill(copier, SIGSTOP);
    kill(middle, SIGKILL);
    waitpid(middle, NULL, 0);
    pid_t heir = start(inherit, &told);
    for (int64_t until_ns = now_ns() + SOON_NS; !in_futex(heir) && now_ns() < until_ns;)
        look_again();
    kill(copier, SIGCONT);
    int64_t began_ns = now_ns();
    await_end(copier, began_ns + SOON_NS, "the copier");
    await_end(heir, began_ns + SOON_NS, "the heir");
    printf("both done after %lld ms\n", (long long)(now_ns() - began_ns) / 1000000);
    must(cove_close(segment) == 0 && cove_unlink(name, 0) == 0, "the end");
    return 0;
}

static int work(const char *directory)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    snprintf(name, sizeof name, "file:%s/heir.file", directory);
    return play();
}

int main(void)
{
    return scratch_run(work);
}
