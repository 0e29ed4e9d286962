/* conformance.c - runs every case against every backend and compares the verdicts with the expected ones.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     conformance EXPECTED [--case NAME] [--backend NAME] [--times]
 *     conformance --planted
 *
 * Two workers share the columns; each has a machine of its own (machine.c), so that what a cell left can be found by
 * looking around. A cell runs as a process group: when its first process has ended, nothing of the group, no file
 * and no System V segment may be left. --planted runs cases that must fail, and fails where one does not. */
#include "cell.h"
#include "machine.h"
#include "table.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 2u
#define CELL_LIMIT_S 10

static const struct rows *const all_rows[] = {
    &region_open_rows,    &region_view_rows,  &region_system_rows,  &region_share_rows,
    &region_fault_rows,   &segment_open_rows, &segment_system_rows, &segment_work_rows,
    &segment_stream_rows, &segment_life_rows, &segment_sync_rows,
};

struct result {
    char verdict[VERDICT_BYTES];
    char sentence[512];
    unsigned took_ms;
};

struct suite {
    const struct row *row[TABLE_ROWS];
    unsigned row_count;
    const char *only_case, *only_backend;
    bool times;
    time_t limit_s;
    struct result (*results)[TABLE_COLUMNS]; /* shared with the workers */
};

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- one cell */

_Noreturn static void run_cell(struct cell *cell, const struct row *row, const struct backend *backend, unsigned number)
{
    sigset_t none;
    struct subject subject;
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    cell_begin(cell);
    if (backend->kind == KIND_HUGE && !huge_directory())
        ends("absent");
    subject_init(&subject, backend, number);
    if (cove_supports(subject.name, COVE_CAN_USE) != 1)
        FAIL("cove_supports says that this machine does not have it: %s", cove_last_error());
    if (row->feature != NO_FEATURE)
        cell->supports = cove_supports(subject.name, (enum cove_feature)row->feature);
    row->run(&subject);
    ends("pass");
}

/* Until its end, or the limit; its whole group is gone then. Says what there is to say of its end. */
static void await_cell(pid_t pid, time_t limit_s, struct cell *cell)
{
    sigset_t child;
    int status = 0;
    int64_t until_ms = now_ms() + limit_s * 1000;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    while (waitpid(pid, &status, WNOHANG) == 0 && now_ms() < until_ms)
        (void)sigtimedwait(&child, NULL, &(struct timespec){0, 100000000});
    bool late = now_ms() >= until_ms;
    bool left = kill(-pid, SIGKILL) == 0;
    if (late) {
        (void)waitpid(pid, &status, 0);
        (void)snprintf(cell->sentence, sizeof cell->sentence, "it takes longer than %d s", (int)limit_s);
    } else if (WIFSIGNALED(status))
        (void)snprintf(cell->sentence, sizeof cell->sentence, "died of %s", strsignal(WTERMSIG(status)));
    else if (!atomic_load_explicit(&cell->decided, memory_order_acquire))
        (void)snprintf(cell->sentence, sizeof cell->sentence, "ended with status %d", WEXITSTATUS(status));
    else if (left && strcmp(cell->verdict, "pass") == 0)
        (void)snprintf(cell->sentence, sizeof cell->sentence, "left a process behind");
    else
        return;
    (void)snprintf(cell->verdict, sizeof cell->verdict, "FAIL");
}

/* A verdict that is about a feature agrees with what cove_supports says of it. */
static void compare_with_promise(const struct row *row, struct cell *cell)
{
    const char *verdict = cell->verdict;
    if (row->feature == NO_FEATURE || strcmp(verdict, "FAIL") == 0 || strcmp(verdict, "-") == 0 ||
        strcmp(verdict, "absent") == 0 || strcmp(verdict, "skip") == 0)
        return;
    if (cell->supports == (strcmp(verdict, "pass") == 0))
        return;
    (void)snprintf(cell->sentence, sizeof cell->sentence, "cove_supports says %d, and the verdict is %s",
                   cell->supports, verdict);
    (void)snprintf(cell->verdict, sizeof cell->verdict, "FAIL");
}

static void do_cell(struct suite *suite, struct cell *cell, unsigned row, unsigned column)
{
    char left[PATH_BYTES + 300];
    int64_t from_ms = now_ms();
    struct result *result = &suite->results[row][column];
    memset(cell, 0, sizeof *cell);
    cell->supports = -1;
    pid_t pid = fork();
    if (pid == 0)
        run_cell(cell, suite->row[row], &backends[column], row * 16 + column);
    await_cell(pid, suite->limit_s, cell);
    compare_with_promise(suite->row[row], cell);
    if (machine_sweep(cell->key, left, sizeof left) > 0 && strcmp(cell->verdict, "pass") == 0) {
        (void)snprintf(cell->sentence, sizeof cell->sentence, "left %.400s", left);
        (void)snprintf(cell->verdict, sizeof cell->verdict, "FAIL");
    }
    memcpy(result->verdict, cell->verdict, sizeof result->verdict);
    memcpy(result->sentence, cell->sentence, sizeof result->sentence);
    result->took_ms = (unsigned)(now_ms() - from_ms);
}

/* ---- all of them */

static unsigned worker_of(unsigned column)
{
    return backends[column].kind == KIND_HUGE ? 0 : column % WORKERS; /* those share the machine's huge pages */
}

static bool wanted(const struct suite *suite, unsigned row, unsigned column)
{
    return (!suite->only_case || strcmp(suite->only_case, suite->row[row]->name) == 0) &&
           (!suite->only_backend || strcmp(suite->only_backend, backends[column].label) == 0);
}

_Noreturn static void work(struct suite *suite, struct cell *cell, unsigned worker)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!machine_begin()) {
        (void)fprintf(stderr, "conformance: making directories failed: %s\n", strerror(errno));
        exit(1);
    }
    for (unsigned column = 0; column < backend_count; column++)
        for (unsigned row = 0; row < suite->row_count && worker_of(column) == worker; row++)
            if (wanted(suite, row, column))
                do_cell(suite, cell, row, column);
    exit(0);
}

static void *shared(size_t size_bytes)
{
    void *data = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        perror("conformance: mmap");
        exit(1);
    }
    return data;
}

static bool run_all(struct suite *suite)
{
    pid_t workers[WORKERS];
    bool good = true;
    struct janitor janitor;
    suite->results = shared(sizeof *suite->results * TABLE_ROWS);
    struct cell *cells = shared(sizeof *cells * WORKERS);
    if (!machine_prepare(&janitor)) {
        perror("conformance: making directories failed");
        exit(1);
    }
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        workers[worker] = fork();
        if (workers[worker] == 0)
            work(suite, &cells[worker], worker);
    }
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        int status = 1;
        good = waitpid(workers[worker], &status, 0) > 0 && status == 0 && good;
    }
    machine_clear(&janitor);
    return good;
}

static void table_of(const struct suite *suite, struct table *table)
{
    memset(table, 0, sizeof *table);
    table->row_count = suite->row_count;
    table->column_count = backend_count;
    for (unsigned column = 0; column < backend_count; column++)
        (void)snprintf(table->column[column], VERDICT_BYTES, "%s", backends[column].label);
    for (unsigned row = 0; row < suite->row_count; row++) {
        (void)snprintf(table->row[row], sizeof table->row[row], "%s", suite->row[row]->name);
        for (unsigned column = 0; column < backend_count; column++)
            memcpy(table->verdict[row][column], suite->results[row][column].verdict, VERDICT_BYTES);
    }
}

static void add_rows(struct suite *suite, const struct rows *rows)
{
    for (unsigned i = 0; i < rows->count && suite->row_count < TABLE_ROWS; i++)
        suite->row[suite->row_count++] = &rows->row[i];
}

/* ---- what comes out */

static void tell_difference(const char *row, const char *column, const char *expected, const char *found)
{
    (void)printf("%s on %s: %s, expected %s\n", row, column, found, expected);
}

/* The sentences of failures, and of refusals that nobody expected. */
static void tell_sentences(const struct suite *suite, const struct table *expected)
{
    struct table found;
    table_of(suite, &found);
    for (unsigned row = 0; row < suite->row_count; row++)
        for (unsigned column = 0; column < backend_count; column++) {
            const struct result *result = &suite->results[row][column];
            bool as_expected = row < expected->row_count && column < expected->column_count &&
                               strcmp(expected->verdict[row][column], result->verdict) == 0;
            if (*result->sentence && !as_expected)
                (void)printf("%s on %s: %s: %s\n", suite->row[row]->name, backends[column].label, result->verdict,
                             result->sentence);
            if (suite->times && result->took_ms >= 50)
                (void)printf("%s on %s: %u ms\n", suite->row[row]->name, backends[column].label, result->took_ms);
        }
}

static void count_verdicts(const struct table *found, unsigned different)
{
    unsigned cells = 0, passed = 0, away = 0;
    for (unsigned row = 0; row < found->row_count; row++)
        for (unsigned column = 0; column < found->column_count; column++) {
            const char *verdict = found->verdict[row][column];
            cells += *verdict != '\0';
            passed += strcmp(verdict, "pass") == 0;
            away += strcmp(verdict, "absent") == 0 || strcmp(verdict, "skip") == 0;
        }
    (void)printf("%u cells: %u pass, %u refused or without meaning, %u absent or skipped; %u not as expected\n", cells,
                 passed, cells - passed - away, away, different);
}

static int run_suite(struct suite *suite, const char *path)
{
    struct table expected, found;
    for (unsigned i = 0; i < sizeof all_rows / sizeof *all_rows; i++)
        add_rows(suite, all_rows[i]);
    if (!table_read(&expected, path))
        return 2;
    unsigned blind = table_blind_spots(&expected);
    bool good = run_all(suite) && blind == 0;
    table_of(suite, &found);
    table_print(&found, stdout);
    unsigned different = table_compare(&expected, &found, suite->only_case || suite->only_backend, tell_difference);
    tell_sentences(suite, &expected);
    count_verdicts(&found, different);
    if (blind > 0)
        (void)printf("the comparison does not see %u of the changes made to the expected table\n", blind);
    return good && different == 0 ? 0 : 1;
}

static const char *first_sentence(const struct suite *suite, unsigned row)
{
    for (unsigned column = 0; column < backend_count; column++)
        if (*suite->results[row][column].sentence)
            return suite->results[row][column].sentence;
    return "";
}

/* Each planted case must be found, on every backend that is here. */
static int run_planted(struct suite *suite)
{
    struct table found;
    unsigned missed = 0, caught = 0;
    add_rows(suite, &planted_rows);
    suite->limit_s = 1;
    bool good = run_all(suite);
    table_of(suite, &found);
    table_print(&found, stdout);
    for (unsigned row = 0; row < suite->row_count; row++)
        (void)printf("%s: %s\n", suite->row[row]->name, first_sentence(suite, row));
    for (unsigned row = 0; row < suite->row_count; row++)
        for (unsigned column = 0; column < backend_count; column++) {
            const char *verdict = found.verdict[row][column];
            caught += strcmp(verdict, "FAIL") == 0;
            missed += *verdict && strcmp(verdict, "FAIL") != 0 && strcmp(verdict, "-") != 0 &&
                      strcmp(verdict, "absent") != 0;
        }
    (void)printf("%u planted faults found, %u missed\n", caught, missed);
    return good && missed == 0 && caught >= suite->row_count ? 0 : 1;
}

static time_t scaled_limit(void)
{
    const char *scale = getenv("COVE_TEST_SCALE");
    int times = scale ? atoi(scale) : 1;
    return CELL_LIMIT_S * (times > 1 ? times : 1);
}

static bool read_arguments(struct suite *suite, bool *planted, const char **expected, int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        bool more = i + 1 < count;
        if (strcmp(arguments[i], "--planted") == 0)
            *planted = true;
        else if (strcmp(arguments[i], "--times") == 0)
            suite->times = true;
        else if (strcmp(arguments[i], "--case") == 0 && more)
            suite->only_case = arguments[++i];
        else if (strcmp(arguments[i], "--backend") == 0 && more)
            suite->only_backend = arguments[++i];
        else if (arguments[i][0] != '-' && !*expected)
            *expected = arguments[i];
        else
            return false;
    }
    return *planted || *expected;
}

int main(int count, char **arguments)
{
    struct suite suite = {.limit_s = scaled_limit()};
    const char *expected = NULL;
    bool planted = false;
    sigset_t blocked;
    if (count > 1 && strcmp(arguments[1], "--other") == 0)
        return other_main(count - 2, arguments + 2);
    if (!read_arguments(&suite, &planted, &expected, count, arguments)) {
        (void)fprintf(stderr, "usage: conformance EXPECTED [--case NAME] [--backend NAME] [--times] | --planted\n");
        return 2;
    }
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGCHLD);
    (void)sigaddset(&blocked, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
    return planted ? run_planted(&suite) : run_suite(&suite, expected);
}
