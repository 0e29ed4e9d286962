/* cell.c - inside a cell: verdicts, processes, steps.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * All processes of a cell share one page with the runner: the verdict, a sentence, steps and numbers. The first
 * verdict stays, whoever says it: a child that fails ends with a status that join() passes on without a word. */
#include "cell.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct cell *the_cell;
static pid_t first_process; /* whose end is the cell's */

void cell_begin(struct cell *cell)
{
    the_cell = cell;
    first_process = getpid();
}

/* ---- verdicts */

_Noreturn static void finish(const char *verdict)
{
    bool expected = false;
    /* acq_rel: who is first writes the verdict alone; the runner reads it after the cell's end. */
    if (atomic_compare_exchange_strong_explicit(&the_cell->decided, &expected, true, memory_order_acq_rel,
                                                memory_order_relaxed))
        (void)snprintf(the_cell->verdict, sizeof the_cell->verdict, "%s", verdict);
    _exit(getpid() == first_process ? 0 : CELL_CHILD_DECIDED);
}

_Noreturn void ends(const char *verdict)
{
    finish(verdict);
}

_Noreturn void fails(const char *file, int line, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *slash = strrchr(file, '/');
    bool expected = false;
    if (atomic_compare_exchange_strong_explicit(&the_cell->told, &expected, true, memory_order_acq_rel,
                                                memory_order_relaxed))
        (void)snprintf(the_cell->sentence, sizeof the_cell->sentence, "%s:%d: %s", slash ? slash + 1 : file, line,
                       text);
    finish("FAIL");
}

/* An error's sentence goes with it; there must be one. */
static void expect_sentence(const char *what, int64_t got, const char *file, int line)
{
    if (got < 0 && *cove_last_error() == '\0')
        fails(file, line, "%s: %s without a sentence", what, cove_errname((int)got));
}

void expect_equal(const char *what, int64_t expected, int64_t got, const char *file, int line)
{
    if (got != expected)
        fails(file, line, "%s: %" PRId64 " (%s: %s), not %" PRId64 " (%s)", what, got,
              got < 0 ? cove_errname((int)got) : "no error", got < 0 ? cove_last_error() : "", expected,
              expected < 0 ? cove_errname((int)expected) : "no error");
    expect_sentence(what, got, file, line);
}

int64_t expect_good(const char *what, int64_t got, const char *file, int line)
{
    if (got < 0)
        fails(file, line, "%s: %s: %s", what, cove_errname((int)got), cove_last_error());
    return got;
}

void expect_says(const char *what, int64_t expected, const char *wanted, int64_t got, const char *file, int line)
{
    expect_equal(what, expected, got, file, line);
    if (!strstr(cove_last_error(), wanted))
        fails(file, line, "%s: \"%s\" does not say \"%s\"", what, cove_last_error(), wanted);
}

static _Noreturn void refused(int64_t got)
{
    const char *name = cove_errname((int)got);
    (void)snprintf(the_cell->sentence, sizeof the_cell->sentence, "%s", cove_last_error());
    finish(strncmp(name, "COVE_", 5) == 0 ? name + 5 : name);
}

int64_t expect_or_refusal(const char *what, int64_t got, const char *file, int line)
{
    expect_sentence(what, got, file, line);
    if (got < 0)
        refused(got);
    return got;
}

void expect_answer(const char *what, int64_t expected, int64_t got, const char *file, int line)
{
    expect_sentence(what, got, file, line);
    if (got >= 0)
        ends("no");
    if (got != expected)
        refused(got);
}

/* ---- processes */

pid_t start(task *run, struct subject *subject, void *context)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        FAIL("fork: %s", strerror(errno));
    if (pid > 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    run(subject, context);
    _exit(0);
}

static int wait_status(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            FAIL("waitpid: %s", strerror(errno));
    return status;
}

void join(pid_t pid)
{
    int status = wait_status(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CELL_CHILD_DECIDED)
        _exit(0); /* it has said the verdict */
    if (WIFSIGNALED(status))
        FAIL("a process died of %s", strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        FAIL("a process ended with status %d", WEXITSTATUS(status));
}

void killed(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)wait_status(pid);
}

struct mortal {
    task *run;
    void *context;
};

static void die_quietly(struct subject *subject, void *context)
{
    const struct mortal *mortal = context;
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    /* a sanitizer's handlers would make an exit of it */
    (void)signal(SIGSEGV, SIG_DFL);
    (void)signal(SIGBUS, SIG_DFL);
    mortal->run(subject, mortal->context);
}

int signal_of(task *run, struct subject *subject, void *context)
{
    struct mortal mortal = {run, context};
    int status = wait_status(start(die_quietly, subject, &mortal));
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    if (WEXITSTATUS(status) == CELL_CHILD_DECIDED)
        _exit(0);
    return 0;
}

_Noreturn void wait_for_death(void)
{
    for (;;)
        (void)pause();
}

int run_other(const char *role, const char *name, const char *argument)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        FAIL("fork: %s", strerror(errno));
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            (void)execl("/proc/self/exe", "conformance", "--other", role, name, argument, (char *)NULL);
        _exit(126);
    }
    int status = wait_status(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void note_key(int key)
{
    the_cell->key = key;
}

/* ---- steps */

void reach(enum step step)
{
    /* release: what came before is seen by who awaits it */
    (void)atomic_fetch_add_explicit(&the_cell->reached[step], 1, memory_order_release);
}

void await_count(enum step step, unsigned count)
{
    /* acquire: partner of reach */
    while (atomic_load_explicit(&the_cell->reached[step], memory_order_acquire) < count)
        (void)nanosleep(&(struct timespec){0, 50000}, NULL);
}

void await(enum step step)
{
    await_count(step, 1);
}

_Atomic uint64_t *number_of(unsigned which)
{
    return &the_cell->numbers[which];
}
