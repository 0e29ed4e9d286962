/* watch.c - a maker that is stopped at each of its system calls, and what others see of its work there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Between two system calls nothing changes that a name leads to, as long as the bytes themselves are written before
 * the name is given; so the looks at those stops are all the looks there are, and no race has to be won. */
#include "watch.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void look_once(const struct subject *s, struct watched *watched,
                      bool (*is_whole)(const struct subject *subject, const struct figures *figures))
{
    struct figures figures;
    if (!foreign_look(s, &figures))
        watched->absent++;
    else if (is_whole(s, &figures))
        watched->whole++;
    else
        watched->half++;
}

static void be_watched(struct subject *s, void *make)
{
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    (void)raise(SIGSTOP);
    (*(void (**)(struct subject *))make)(s);
}

struct watched watch_maker(struct subject *s, void (*make)(struct subject *subject),
                           bool (*is_whole)(const struct subject *subject, const struct figures *figures))
{
    struct watched watched = {0};
    int status = 0;
    pid_t pid = start(be_watched, s, &make);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
    CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(intptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) == 0);
    int pass_on = 0;
    while (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)pass_on) == 0 && waitpid(pid, &status, 0) == pid &&
           WIFSTOPPED(status)) {
        pass_on = WSTOPSIG(status) & 0x80 ? 0 : WSTOPSIG(status); /* 0x80: a system call (TRACESYSGOOD) */
        look_once(s, &watched, is_whole);
    }
    if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0)
        FAIL("the maker ended with status %#x", (unsigned)status);
    return watched;
}
