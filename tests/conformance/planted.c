/* planted.c - cases that must fail: can the suite find what it is there to find?
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

static void wrong_result(struct subject *s)
{
    struct cove_segment_info info;
    EQUAL(0, cove_stat("there-is-no-such-segment", &info));
    (void)s;
}

static void good_where_an_error_is_due(struct subject *s)
{
    (void)s;
    EQUAL(-ENOENT, cove_supports("memfd:", COVE_CAN_USE));
}

static void other_sentence(struct subject *s)
{
    struct cove_segment_info info;
    SAYS(-ENOENT, "a sentence that nobody says", cove_stat("there-is-no-such-segment", &info));
    (void)s;
}

static void crash(struct subject *s)
{
    (void)s;
    (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would make an exit of it */
    (void)raise(SIGSEGV);
}

static void hang(struct subject *s)
{
    (void)s;
    wait_for_death();
}

static void end_early(struct subject *s)
{
    (void)s;
    _exit(0);
}

static void failing_part(struct subject *s, void *context)
{
    (void)s;
    CHECK(context == s);
}

static void failing_process(struct subject *s)
{
    join(start(failing_part, s, NULL));
}

static void left_process(struct subject *s, void *context)
{
    (void)s;
    (void)context;
    wait_for_death();
}

/* Its own pdeathsig would end it with the cell: then it is not left, and not found. */
static void leave_a_process(struct subject *s)
{
    if (fork() == 0)
        left_process(s, NULL);
}

static void leave_a_file(struct subject *s)
{
    char path[PATH_BYTES + 8];
    if (!*s->path)
        NOT_HERE();
    (void)snprintf(path, sizeof path, "%s.left", s->path);
    (void)close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static void leave_system_v(struct subject *s)
{
    if (s->backend->kind != KIND_SYSV || !machine_is_ours())
        NOT_HERE();
    CHECK(shmget(s->key, 4096, IPC_CREAT | 0600) >= 0);
}

/* These say "pass" or "no" against what cove_supports says of the backend. */
static void promise_nothing(struct subject *s)
{
    if (cove_supports(s->name, COVE_CAN_GROW) == 1)
        IT_DOES_NOT();
}

static const struct row table[] = {
    {"planted.wrong-result", wrong_result, NO_FEATURE},
    {"planted.good-for-error", good_where_an_error_is_due, NO_FEATURE},
    {"planted.other-sentence", other_sentence, NO_FEATURE},
    {"planted.crash", crash, NO_FEATURE},
    {"planted.hang", hang, NO_FEATURE},
    {"planted.end-early", end_early, NO_FEATURE},
    {"planted.failing-process", failing_process, NO_FEATURE},
    {"planted.leave-a-process", leave_a_process, NO_FEATURE},
    {"planted.leave-a-file", leave_a_file, NO_FEATURE},
    {"planted.leave-system-v", leave_system_v, NO_FEATURE},
    {"planted.contradiction", promise_nothing, COVE_CAN_GROW},
};
const struct rows planted_rows = ROWS(table);
