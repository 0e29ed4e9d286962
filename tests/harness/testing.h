/* testing.h - the test harness: each test in a process of its own, with a time limit and nothing left behind.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     static void test_ring_when_full_refuses(void **state) { ... cmocka's assertions ... }
 *
 *     static const struct testing_case tests[] = {
 *         TEST(test_ring_when_full_refuses),
 *         TEST_TIMEOUT(test_ring_under_load_keeps_order, 30),
 *     };
 *
 *     int main(void) { return testing_run("ring", tests); }
 *
 * The program runs all its tests, or those named on its command line; `--list` lists them. cmocka counts and reports.
 *
 * A test fails when an assertion fails in any of its processes and threads, when it crashes, ends early or takes too
 * long (all its processes are killed then), and when it leaves something behind: a descriptor, a shared mapping, a
 * process, a file in COVE_DIR, or an entry in /dev/shm under a name from testing_name(). Each is told in a sentence.
 * What was left is removed, so that one test's leak is not the next one's failure.
 *
 * Limits, so that nobody relies on what is not there: leaks of private memory are the sanitizers' to find; cmocka's
 * will_return() queues are not checked for leftovers; abort() counts as a failed assertion (a process that is meant to
 * die so first gives SIGABRT its default action); a test that empties its environment must keep CMOCKA_TEST_ABORT. */
#ifndef TESTING_H
#define TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <sys/types.h>

/* ---- tables of tests --------------------------------------------------------------------------------------------- */

struct testing_case {
    const char *name;
    void (*function)(void **state);
    unsigned timeout_s; /* 0: TESTING_TIMEOUT_S. Multiplied by testing_scale(). */
};

#define TESTING_TIMEOUT_S 10u

/* clang-format off */
#define TEST(function_name) {#function_name, function_name, 0u}
#define TEST_TIMEOUT(function_name, seconds) {#function_name, function_name, (seconds)}
/* clang-format on */

/* Run a table (an array, not a pointer). Returns what main should: 0, 1 when tests failed, 2 for a name not known. */
#define testing_run(group, table) testing_run_table((group), (table), sizeof(table) / sizeof((table)[0]))
int testing_run_table(const char *group, const struct testing_case *table, size_t table_count);

/* Run the named tests of a table, or all for no names, whatever the command line says. Returns as testing_run. */
int testing_run_names(const char *group, const struct testing_case *table, size_t table_count, const char *const *names,
                      size_t name_count);

/* How much longer everything may take here: the number in $COVE_TEST_SCALE (for sanitizers, valgrind); otherwise 1. */
double testing_scale(void);

/* ---- inside a test ----------------------------------------------------------------------------------------------- */

/* This test's own directory, on tmpfs where there is one; COVE_DIR names it. Empty at first, and again at the end. */
const char *testing_dir(void);

/* A name for a segment or a file that no other test and no other run has, for tests that unset COVE_DIR and so work in
 * /dev/shm itself. All processes of a test get the same name for the same suffix. The string lives as long as the
 * process. Letters, digits, '.', '_' and '-' in the suffix give a plain name. */
const char *testing_name(const char *suffix);

/* This test's process ends, on purpose, with descriptors and mappings open. */
void testing_leaves_open(void);

/* This test leaves files, on purpose, in COVE_DIR or under its names in /dev/shm; they are removed, untold. */
void testing_leaves_files(void);

/* Make the test fail with one more sentence, and go on. Any process of the test; async-signal-safe it is not. */
void testing_report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* End the test (its first process only) as skipped. The reason is printed. */
#define testing_skip(reason) testing_skip_at((reason), __FILE__, __LINE__)
_Noreturn void testing_skip_at(const char *reason, const char *file, int line);
#undef skip
#define skip() testing_skip("skipped")

/* ---- several processes in one test ------------------------------------------------------------------------------- */

/* Fork a process that calls function(argument) and exits with status 0. It may die open: only the test's own process
 * is looked at for what it leaves. A failed assertion in it fails the test. Returns its pid, which the test must wait
 * for. */
#define testing_spawn(function, argument) testing_spawn_named(#function, (function), (argument))
pid_t testing_spawn_named(const char *name, void (*function)(void *argument), void *argument);

int testing_wait(pid_t pid); /* until it ends: its status, as waitpid gives it */
void testing_kill(pid_t pid); /* SIGKILL, and wait until it is gone */

/* Wait, and fail the test unless it exited with status 0. */
#define testing_join(pid) testing_join_at((pid), __FILE__, __LINE__)
void testing_join_at(pid_t pid, const char *file, int line);

/* Memory that this process and those it forks later share; zeroes at first. Lives as long as they do. */
void *testing_shared(size_t size_bytes);

/* ---- waiting for conditions, never for time ---------------------------------------------------------------------- */

struct testing_patience {
    int64_t until_ns;
    unsigned looks;
};

/* Look at expr again and again until it holds; after timeout_ms (times testing_scale()) the test fails. */
#define UNTIL(expr, timeout_ms)                                              \
    do {                                                                     \
        struct testing_patience patience_ = testing_patience_of(timeout_ms); \
        while (!(expr)) {                                                    \
            if (!testing_pause(&patience_))                                  \
                testing_gave_up(#expr, __FILE__, __LINE__);                  \
        }                                                                    \
    } while (0)

struct testing_patience testing_patience_of(unsigned timeout_ms);
bool testing_pause(struct testing_patience *patience); /* a pause between two looks; false: the time is over */
void testing_gave_up(const char *what, const char *file, int line);

/* The same for a function, and without failing: whether it came to hold. */
bool testing_until(bool (*condition)(void *argument), void *argument, unsigned timeout_ms);

/* Steps, shared by all processes of a test: how often each was reached. What came before a testing_reach is visible
 * after the testing_await of it. An await that would outlast the test's time limit fails, naming the step. */
#define TESTING_STEPS 64u
void testing_reach(unsigned step);
unsigned testing_reached(unsigned step);
#define testing_await(step) testing_await_at((step), 1u, __FILE__, __LINE__)
#define testing_await_count(step, count) testing_await_at((step), (count), __FILE__, __LINE__)
void testing_await_at(unsigned step, unsigned count, const char *file, int line);

#endif
