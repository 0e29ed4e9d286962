/* main.c - cove-bench: rows, options, one process for each row.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A row runs in a process of its own: what it maps, opens or breaks is gone with it. main waits, stops a row that
 * takes too long, reaps whatever the row left, removes the row's segment, and prints. Figures never decide the exit
 * status; checks of content, rows that do not end, and leftovers do. */
#include "bench.h"

#include <cove.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ONLY_MAX = 16, ROW_SECONDS_MAX = 300 };

static const struct row {
    const char *name, *what;
    row_run *run;
} rows[] = {
    {"roundtrip-spin", "64 B there and back, both sides spinning, over a stream", row_roundtrip_spin},
    {"roundtrip-adaptive", "the same, waiting as a stream does by default", row_roundtrip_adaptive},
    {"message-single", "64 B messages one way, one by one: time for each", row_message_single},
    {"message-batch", "64 B messages one way, in batches: time for each", row_message_batch},
    {"bulk-1m", "1 MiB blocks one way, copied in and out", row_bulk},
    {"asleep-two-cpus", "64 B there and back, each side asleep, on two CPUs", row_asleep_two},
    {"asleep-one-cpu", "the same on one CPU", row_asleep_one},
    {"mutex", "lock and unlock, uncontended", row_mutex},
    {"mutex-2", "lock, work, unlock, work: two processes on two CPUs", row_mutex_2},
    {"mutex-8", "the same, eight processes", row_mutex_8},
    {"rwlock", "lock to read and unlock, uncontended", row_rwlock},
    {"rwlock-write", "lock to write and unlock, uncontended", row_rwlock_write},
    {"rwlock-8", "eight readers on two CPUs", row_rwlock_8},
    {"rwlock-mixed", "eight that read or, now and then, write", row_rwlock_mixed},
    {"semaphore", "take the permit and give it back, uncontended", row_semaphore},
    {"semaphore-2", "the same with work inside and outside, two processes", row_semaphore_2},
    {"semaphore-8", "the same, eight processes", row_semaphore_8},
    {"counter", "add to a shared counter, one process", row_counter},
    {"counter-2", "the same, two processes", row_counter_2},
    {"counter-8", "the same, eight processes", row_counter_8},
    {"event", "set and wait, there and back, on two CPUs", row_event},
    {"event-asleep", "the same, each side asleep", row_event_asleep},
    {"condition", "signal and wait, there and back, on two CPUs", row_condition},
    {"condition-asleep", "the same, each side asleep", row_condition_asleep},
    {"barrier-2", "two processes meet, round after round", row_barrier_2},
    {"barrier-8", "eight do", row_barrier_8},
    {"bank", "a transfer: two locks, two saves, commit; one process", row_bank},
    {"bank-8", "the same, eight processes on eight accounts", row_bank_8},
    {"transaction", "begin, save 64 B, change, commit, under a held lock", row_transaction},
    {"attach-alone", "open a segment that nobody else has open", row_attach_alone},
    {"attach-crowd", "open a segment among many members", row_attach_crowd},
    {"grow", "a segment's growth", row_grow},
    {"alloc-pair", "take and give back 64 B", row_alloc_pair},
    {"alloc-mixed", "replace blocks of mixed sizes", row_alloc_mixed},
    {"kill-mutex", "from kill() of a lock's holder to the next holder", row_kill_mutex},
    {"kill-mutex-1g", "the same, of a holder with 1 GiB resident", row_kill_mutex_large},
    {"kill-fair", "of a fair mutex's holder", row_kill_fair},
    {"kill-reader", "of who reads under an rwlock, to who wants to write", row_kill_reader},
    {"kill-writer", "of who writes under it, to who wants to read", row_kill_writer},
    {"kill-permit", "of who owns a semaphore's permit", row_kill_permit},
    {"kill-barrier", "of a party of a barrier", row_kill_barrier},
    {"idle", "what a process costs that sleeps in a wait", row_idle},
    {"kill-stream", "from kill() of a stream's writer to its reader being told", row_kill_stream},
};

enum { ROW_COUNT = sizeof rows / sizeof *rows };

static volatile sig_atomic_t row_pid, interrupted, overdue;

/* Kills by itself, so that no signal can come between a look at a flag and the wait. */
static void stop_row(int signal_number)
{
    if (signal_number == SIGALRM)
        overdue = 1;
    else
        interrupted = signal_number;
    if (row_pid > 0)
        kill((pid_t)row_pid, SIGKILL);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = stop_row};

    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* Processes of a stopped row come to us, and are waited for: the row is over when the last of them is gone. */
    prctl(PR_SET_CHILD_SUBREAPER, 1UL);
}

static void remove_segment(const struct settings *settings, struct report *report)
{
    int result = cove_unlink(settings->segment, 1);

    if (result < 0 && result != -ENOENT) {
        fprintf(stderr, "cove-bench: %s: %s\n", settings->segment, cove_last_error());
        report->failed = true;
    }
}

static void run_row(const struct row *row, const struct settings *settings, struct report *report)
{
    int status = 0;

    *report = (struct report){.row = row->name, .unit = "", .value_is = "p50"};
    overdue = 0;
    double busy = busy_seconds(), own = children_seconds();
    uint64_t start = now_ns();
    pid_t pid = fork_or_die();
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        signal(SIGINT, SIG_IGN); /* main's to handle */
        row->run(settings, report);
        _exit(0);
    }
    row_pid = pid;
    alarm(ROW_SECONDS_MAX);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    alarm(0);
    row_pid = 0;
    if (overdue)
        fprintf(stderr, "cove-bench: %s: not done after %d s\n", row->name, ROW_SECONDS_MAX);
    report->failed = status != 0;
    reap_all();
    own = children_seconds() - own;
    if (busy >= 0)
        report->others = (busy_seconds() - busy - own) / ((double)(now_ns() - start) / 1e9) /
                         (double)sysconf(_SC_NPROCESSORS_ONLN);
    remove_segment(settings, report);
    names_clear(settings);
}

static int usage(FILE *to)
{
    fputs("usage: cove-bench [--quick] [--seconds S] [--json] [--only ROW]... [--list]\n"
          "  --quick    about a minute instead of a few\n"
          "  --seconds  for each row that is not about single events, about S\n"
          "  --json     one object a line\n"
          "  --only     rows whose name begins with ROW\n"
          "  --list     the rows\n",
          to);
    return to == stderr ? 2 : 0;
}

static int list_rows(void)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        printf("%-20s %s\n", rows[i].name, rows[i].what);
    return 0;
}

struct selection {
    const char *only[ONLY_MAX];
    size_t count;
};

static bool is_selected(const struct selection *selection, const char *name)
{
    for (size_t i = 0; i < selection->count; i++)
        if (strncmp(name, selection->only[i], strlen(selection->only[i])) == 0)
            return true;
    return selection->count == 0;
}

static bool selection_add(struct selection *selection, const char *prefix)
{
    struct selection one = {{prefix}, 1};

    if (selection->count == ONLY_MAX)
        return false;
    selection->only[selection->count++] = prefix;
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (is_selected(&one, rows[i].name))
            return true;
    fprintf(stderr, "cove-bench: no row begins with '%s'; --list shows them\n", prefix);
    return false;
}

static void settle(struct settings *settings, bool quick, double seconds)
{
    *settings = (struct settings){
        .quick = quick,
        .row_seconds = seconds > 0 ? seconds
                       : quick     ? 2
                                   : 10,
        .small_kills = quick ? 100 : 200,
        .large_kills = quick ? 5 : 20,
        .member_count = 999,
    };
    snprintf(settings->segment, sizeof settings->segment, "cove-bench-%d", (int)getpid());
}

static int run_rows(const struct settings *settings, const struct selection *selection, bool json)
{
    struct report *report = shared_memory(sizeof *report);
    int result = 0;

    if (!json)
        report_head(settings);
    for (size_t i = 0; i < ROW_COUNT && !interrupted; i++) {
        if (!is_selected(selection, rows[i].name))
            continue;
        run_row(&rows[i], settings, report);
        if (interrupted)
            break;
        report_print(report, json);
        result |= report->failed;
    }
    return interrupted ? 128 + interrupted : result;
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct selection selection = {.count = 0};
    bool quick = false, json = false;
    double seconds = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--list") == 0)
            return list_rows();
        else if (strcmp(argv[i], "--help") == 0)
            return usage(stdout);
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "--only") != 0 || ++i == argc)
            return usage(stderr);
        else if (!selection_add(&selection, argv[i]))
            return 2;
    }
    settle(&settings, quick, seconds);
    catch_signals();
    names_begin(&settings);
    int result = run_rows(&settings, &selection, json);
    names_end(&settings);
    return result;
}
