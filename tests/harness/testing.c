/* testing.c - the runner: one process for each test, a time limit, and the verdict.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *   runner (cmocka counts here; subreaper)
 *     `- the test's process: function(), then a look at what it holds
 *          `- what it spawns; orphans of these come back to the runner
 *
 * cmocka runs run_case() for every test, in the runner. It forks, waits for the end or for the limit, kills and reaps
 * all descendants, empties the test's directory, and then fails, skips or returns on behalf of the test: cmocka's own
 * counts and closing lines are right, and nothing that a test does to its process reaches the next one.
 *
 * In the test's process and those that it forks, cmocka leaves a failed assertion by abort() (CMOCKA_TEST_ABORT), as
 * its longjmp would go back into the copy of a runner, and from a thread into another's stack. A handler for SIGABRT
 * records the failure in the page shared with the runner.
 *
 * The runner waits with its signals blocked, by sigtimedwait: an interrupt also kills and cleans, then ends it. If the
 * runner itself is killed, its test's process dies with it, and those spawned end soon after by an alarm. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing_inner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORPHANS_GRACE_S 0.1 /* for those whose parent was killed and who are about to notice */
#define ALARM_SPARE_S 5 /* beyond the limit: only if there is no runner any more */
#define COMMAND_LINE_BYTES 65536u
#define NAMES_MAX 256u

struct testing_context testing_context;

static pid_t runner_pid, test_pid;

/* What the processes of tests get back: cmocka takes these five signals, and a sanitizer may have had them. */
static const int crash_signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS};
#define CRASH_SIGNALS (sizeof crash_signals / sizeof crash_signals[0])
static struct sigaction crash_actions[CRASH_SIGNALS];

/* What may end a run early, unless it is ignored (nohup, a shell's background job). */
static const int interrupts[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static sigset_t watched_signals, signals_before;

enum end { END_ITSELF, END_TIMEOUT, END_INTERRUPTED };

struct outcome {
    enum end end;
    int status; /* END_ITSELF: as from waitpid */
    int interrupted; /* END_INTERRUPTED: by this signal */
};

/* ---- in all processes of a test ---------------------------------------------------------------------------------- */

void testing_report(const char *format, ...)
{
    struct testing_control *control = testing_context.control;
    /* relaxed: only the number matters; the runner reads the slots when their writers are dead */
    unsigned slot = atomic_fetch_add_explicit(&control->report_count, 1u, memory_order_relaxed);
    if (slot >= TESTING_REPORTS)
        return; /* counted, and the count is told */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(control->reports[slot], TESTING_REPORT_BYTES, format, arguments);
    va_end(arguments);
}

const char *testing_dir(void)
{
    return testing_context.dir;
}

const char *testing_name(const char *suffix)
{
    static struct name {
        struct name *next;
        char text[256];
    } * names; /* keeps them reachable: not a leak */
    struct name *name = malloc(sizeof *name);
    if (name == NULL)
        fail_msg("testing_name: %s", strerror(errno));
    name->next = names;
    names = name;
    snprintf(name->text, sizeof name->text, "%s-%s", testing_context.tag, suffix);
    return name->text;
}

void testing_leaves_open(void)
{
    atomic_store_explicit(&testing_context.control->leaves_open, 1u, memory_order_relaxed); /* read after our end */
}

void testing_leaves_files(void)
{
    atomic_store_explicit(&testing_context.control->leaves_files, 1u, memory_order_relaxed); /* read after our end */
}

void testing_arm_alarm(void)
{
    int64_t left_ns = testing_context.deadline_ns - testing_now_ns();
    alarm((unsigned)(left_ns > 0 ? left_ns / 1000000000 : 0) + ALARM_SPARE_S);
}

static void on_abort(int signal_number)
{
    testing_report("process %d: an assertion failed, or abort() was called", (int)getpid());
    raise(signal_number); /* its default action is back: SA_RESETHAND; delivered when we return */
}

/* ---- the test's process ------------------------------------------------------------------------------------------ */

static _Noreturn void end_test(enum testing_phase phase)
{
    testing_holdings_compare();
    atomic_store_explicit(&testing_context.control->phase, (unsigned)phase,
                          memory_order_relaxed); /* read after our end */
    exit(0); /* with what is registered for it: leak checks, coverage */
}

void testing_skip_at(const char *reason, const char *file, int line)
{
    if (getpid() != test_pid) {
        print_error("%s:%d: only a test's first process can skip it\n", file, line);
        abort();
    }
    print_message("%s:%d: %s\n", file, line, reason);
    end_test(TESTING_SKIPPED);
}

static void take_signals_back(void)
{
    for (size_t i = 0; i < CRASH_SIGNALS; i++)
        sigaction(crash_signals[i], &crash_actions[i], NULL);
    sigaction(SIGABRT, &(struct sigaction){.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND}, NULL);
    sigprocmask(SIG_SETMASK, &signals_before, NULL);
}

static _Noreturn void be_test(void)
{
    void *state = NULL;
    test_pid = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != runner_pid)
        _exit(1); /* it died before the line above */
    setpgid(0, 0); /* a signal that the test sends to its group does not reach the runner */
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    setenv("COVE_DIR", testing_context.dir, 1);
    take_signals_back();
    testing_arm_alarm();
    testing_holdings_note();
    testing_context.test->function(&state);
    end_test(TESTING_RETURNED);
}

/* ---- the runner: to the end of one test -------------------------------------------------------------------------- */

static bool reap_until(pid_t pid, int *status)
{
    for (pid_t ended; (ended = waitpid(-1, status, WNOHANG)) > 0;) {
        if (ended == pid)
            return true;
    }
    return false;
}

static struct outcome wait_for_end(pid_t pid)
{
    struct outcome outcome = {.end = END_ITSELF};
    while (!reap_until(pid, &outcome.status)) {
        int64_t left_ns = testing_context.deadline_ns - testing_now_ns();
        if (left_ns <= 0) {
            outcome.end = END_TIMEOUT;
            kill(pid, SIGKILL);
            break;
        }
        struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000), .tv_nsec = (long)(left_ns % 1000000000)};
        int signal_number = sigtimedwait(&watched_signals, NULL, &left);
        if (signal_number > 0 && signal_number != SIGCHLD) {
            outcome.end = END_INTERRUPTED;
            outcome.interrupted = signal_number;
            kill(pid, SIGKILL);
            break;
        }
    }
    return outcome;
}

static void report_outcome(const struct outcome *outcome)
{
    unsigned phase = atomic_load_explicit(&testing_context.control->phase,
                                          memory_order_relaxed); /* its writer is dead */
    char text[128];
    if (outcome->end == END_TIMEOUT) {
        testing_report("hung: it was killed after %.1f s",
                       (double)testing_scaled_ns(testing_context.test->timeout_s) / 1e9);
    } else if (outcome->status != 0) {
        testing_status_text(outcome->status, text, sizeof text);
        testing_report("%s%s", text,
                       phase == TESTING_RUNNING ? "" : " after its end (a sanitizer, or an atexit handler)");
    } else if (phase == TESTING_RUNNING) {
        testing_report("exited with status 0 before its end");
    }
}

static unsigned print_reports(void)
{
    unsigned count = atomic_load_explicit(&testing_context.control->report_count, memory_order_relaxed);
    for (unsigned i = 0; i < count && i < TESTING_REPORTS; i++) {
        const char *text = testing_context.control->reports[i];
        print_error("%s: %s\n", testing_context.test->name, text[0] != '\0' ? text : "a report whose writer died");
    }
    if (count > TESTING_REPORTS)
        print_error("%s: and %u more\n", testing_context.test->name, count - TESTING_REPORTS);
    return count;
}

static void die_by(int signal_number)
{
    signal(signal_number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &signals_before, NULL);
    raise(signal_number);
    _exit(128 + signal_number);
}

/* The test is over and nothing of it lives. Its page goes with it: each test has fresh memory. */
static void conclude(const struct outcome *outcome)
{
    struct testing_control *control = testing_context.control;
    if (outcome->end == END_INTERRUPTED)
        die_by(outcome->interrupted);
    report_outcome(outcome);
    unsigned reports = print_reports();
    bool skipped = atomic_load_explicit(&control->phase, memory_order_relaxed) ==
                   TESTING_SKIPPED; /* its writer is dead */
    testing_context.control = NULL;
    munmap(control, sizeof *control);
    if (reports > 0)
        fail();
    if (skipped)
        _skip(__FILE__, __LINE__);
}

static void run_case(void **state)
{
    static struct testing_case test;
    test = *(const struct testing_case *)*state;
    if (test.timeout_s == 0)
        test.timeout_s = TESTING_TIMEOUT_S;
    testing_context.test = &test;
    testing_context.control = testing_shared(sizeof *testing_context.control);
    testing_dir_make();
    testing_context.deadline_ns = testing_now_ns() + testing_scaled_ns(test.timeout_s);
    fflush(NULL); /* or the test's process would print our unwritten output once more */
    pid_t pid = fork();
    if (pid == 0)
        be_test();
    struct outcome outcome = {.end = END_ITSELF};
    if (pid > 0)
        outcome = wait_for_end(pid);
    else
        testing_report("fork: %s", strerror(errno));
    testing_processes_end(testing_scaled_ns(ORPHANS_GRACE_S));
    testing_dir_clear();
    conclude(&outcome);
}

/* cmocka calls it after each test. In another process than the runner it means that a failed assertion jumped. */
static int stop_copy_of_runner(void **state)
{
    (void)state;
    if (getpid() == runner_pid)
        return 0;
    testing_report("process %d failed with CMOCKA_TEST_ABORT taken out of its environment", (int)getpid());
    _exit(1);
}

/* ---- the runner: tables ------------------------------------------------------------------------------------------ */

static void runner_begin(void)
{
    runner_pid = getpid();
    unsetenv("CMOCKA_TEST_ABORT"); /* it may be set, where a test of this harness runs it */
    signal(SIGABRT, SIG_DFL);
    signal(SIGCHLD, SIG_DFL); /* ignored, children would not wait for us to ask */
    for (size_t i = 0; i < CRASH_SIGNALS; i++)
        sigaction(crash_signals[i], NULL, &crash_actions[i]);
    sigemptyset(&watched_signals);
    sigaddset(&watched_signals, SIGCHLD);
    for (size_t i = 0; i < sizeof interrupts / sizeof interrupts[0]; i++) {
        struct sigaction action;
        if (sigaction(interrupts[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&watched_signals, interrupts[i]);
    }
    sigprocmask(SIG_BLOCK, &watched_signals, &signals_before);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        print_error("prctl(PR_SET_CHILD_SUBREAPER): %s: processes that are left will not be found\n", strerror(errno));
    testing_debris_begin();
}

static const struct testing_case *case_find(const struct testing_case *table, size_t table_count, const char *name)
{
    for (size_t i = 0; i < table_count; i++) {
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    }
    print_error("there is no test %s; --list lists them\n", name);
    return NULL;
}

int testing_run_names(const char *group, const struct testing_case *table, size_t table_count, const char *const *names,
                      size_t name_count)
{
    size_t count = name_count > 0 ? name_count : table_count;
    struct CMUnitTest *tests = calloc(count, sizeof *tests);
    int failed = 2;
    if (tests == NULL)
        return failed;
    for (size_t i = 0; i < count; i++) {
        const struct testing_case *test = name_count > 0 ? case_find(table, table_count, names[i]) : &table[i];
        if (test == NULL)
            goto done;
        /* cmocka passes it on as void *; run_case takes it back as const */
        tests[i] = (struct CMUnitTest){test->name, run_case, NULL, stop_copy_of_runner, (void *)(uintptr_t)test};
    }
    runner_begin();
    failed = _cmocka_run_group_tests(group, tests, count, NULL, NULL) != 0;
    sigprocmask(SIG_SETMASK, &signals_before, NULL);
done:
    free(tests);
    return failed;
}

/* What stands behind the program's name on the command line. Returns how many; the text holds them. */
static size_t command_line(char *text, size_t text_size, const char **names, size_t names_max)
{
    FILE *file = fopen("/proc/self/cmdline", "re");
    size_t length = file != NULL ? fread(text, 1, text_size - 1, file) : 0;
    size_t count = 0;
    if (file != NULL)
        fclose(file);
    text[length] = '\0';
    for (char *word = text + strlen(text) + 1; word < text + length && count < names_max; word += strlen(word) + 1)
        names[count++] = word;
    return count;
}

int testing_run_table(const char *group, const struct testing_case *table, size_t table_count)
{
    static char text[COMMAND_LINE_BYTES];
    const char *names[NAMES_MAX];
    size_t name_count = command_line(text, sizeof text, names, NAMES_MAX);
    if (name_count == 1 && strcmp(names[0], "--list") == 0) {
        for (size_t i = 0; i < table_count; i++)
            puts(table[i].name);
        return 0;
    }
    return testing_run_names(group, table, table_count, names, name_count);
}
