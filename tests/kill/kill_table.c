/* kill_table.c - kills every operation at its instructions, and prints what the others found.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *   kill_table [--all] [--calls] [--stops] [--seconds S] [--seed N] [--only OPERATION [--point K [--recovery-point R]]]
 *              [--recovery] [--until-found] [--trace] [--list]
 *
 * For each operation: it is played whole and stepped through, which counts its instructions and shows the points at which shared
 * bytes change and where system calls are; played whole again, to see that it does its work; then killed at point after point.
 * The points of an operation are taken in this order: those around system calls and changes of shared bytes, in an order
 * shuffled by the seed; then, shuffled too, all the others. Each operation gets its part of the time (--seconds); --all takes
 * every point of every operation. --until-found ends with the first failure.
 *
 * Long operations whose state is in files and descriptors are not among them, unless they are named or --all is given. --calls plays
 * those alone, and kills before and after system calls, which it finds without single steps.
 *
 * --stops kills nobody: the victim stands at point after point while the others do what they can, and then goes on to
 * its end. Nothing of what was found before may be wrong then; nobody may wait for what has come already. Its rows are
 * called "stops of: ...", also for --only.
 *
 * --trace prints the points instead: number, next instruction, "changed" and "call" where the instruction before it was that.
 *
 * Recovery is killed too: a victim dies at a distinct point of an operation, the recoverer at a distinct point of its
 * recovery, and others must put right what both left. With --recovery that alone; its rows are called "recovery of: ...", also for
 * --only.
 *
 * A row of the table: the operation, its count of instructions, points killed at of how many; how many of these ended in a
 * hang, a corrupt segment, something acknowledged lost, something leaked; p50, p99 and max of the recovery time in ms. Exit
 * status 1 if any of these is not 0, if an operation fails when nobody kills it, or if its count leaves its kept range: a
 * harness that steps something else than it means to must not pass. 77 where ptrace is refused. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "rows.h"
#include "scratch.h"
#include "symbols.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define RECOVERY_PREFIX "recovery of: "
#define STOPS_PREFIX "stops of: "

#define OPERATIONS_SHARE 0.7 /* of the time; the rest is for the killing of recovery */
#define RECOVERY_SECONDS 2.5 /* for a row of it at least */

struct settings {
    int all, calls, stops, recovery_only, list, trace, until_found;
    double seconds;
    uint64_t seed;
    const char *only;
    size_t point, recovery_point;
};

static const struct scenario *const all_scenarios[] = {
    ops_segment,   ops_region, ops_durable,   ops_lock,    ops_heap, ops_object,  ops_stream,   ops_fair,  ops_rwlock,
    ops_semaphore, ops_event,  ops_condition, ops_barrier, ops_once, ops_counter, ops_revision, ops_named, ops_woken};
static struct settings settings = {.seconds = 60, .point = NOT_KILLED, .recovery_point = NOT_KILLED};
static const char *directory;

/* ---- numbers -------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

/* splitmix64: the order of points must be the same wherever the seed is */
static uint64_t random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void shuffle(uint32_t *points, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = random_next() % i;
        uint32_t kept = points[i - 1];
        points[i - 1] = points[j];
        points[j] = kept;
    }
}

static double seconds_now(void)
{
    return (double)stepper_now_ns() / 1e9;
}

/* ---- points --------------------------------------------------------------------------------------------------- */

static int is_distinct(const struct stepper_trace *trace, size_t k)
{
    if (trace->flags[k] != 0 || k == 0)
        return 1;
    return k < trace->count && (trace->flags[k + 1] & STEPPER_SYSCALL) != 0; /* just before a call */
}

/* All points, the distinct ones first, each part shuffled. Returns how many are distinct. */
static size_t order_points(const struct stepper_trace *trace, uint32_t *points)
{
    size_t distinct = 0, count = trace->count + 1;
    for (size_t k = 0; k < count; k++)
        if (is_distinct(trace, k))
            points[distinct++] = (uint32_t)k;
    size_t at = distinct;
    for (size_t k = 0; k < count; k++)
        if (!is_distinct(trace, k))
            points[at++] = (uint32_t)k;
    shuffle(points, distinct);
    shuffle(points + distinct, count - distinct);
    return distinct;
}

/* ---- one operation -------------------------------------------------------------------------------------------- */

/* Two whole plays: the first is stepped through, the second runs freely. */
static int play_whole(struct theatre *theatre, struct row *row)
{
    struct trial trial;
    trial_whole(theatre, 1, &trial);
    row_count(row, &trial);
    if (trial.finding_count == 0) {
        trial_whole(theatre, 0, &trial);
        row_count(row, &trial);
    }
    row->broken = trial.finding_count != 0;
    row->instructions = theatre->trace.count;
    row->points = theatre->trace.count + 1;
    row->steps_per_second = theatre->trace.steps_per_second;
    const struct scenario *scenario = theatre->scenario;
    row->out_of_range = settings.calls ? row->instructions == 0
                                       : row->instructions < scenario->least || row->instructions > scenario->most;
    if (row->out_of_range)
        printf("  %s took %zu instructions, kept range %u to %u: what is stepped, or its range, is wrong\n", row->name,
               row->instructions, scenario->least, scenario->most);
    return !row->broken;
}

static int go_on(const struct row *row, double until)
{
    if (settings.until_found && row->shown > 0)
        return 0;
    return settings.all || seconds_now() < until;
}

static void print_trace(const struct stepper_trace *trace)
{
    char symbol[256];
    for (size_t k = 0; k <= trace->count; k++) {
        symbol_name(trace->address[k], symbol, sizeof symbol);
        printf("%7zu %s%s%s\n", k, symbol, trace->flags[k] & STEPPER_CHANGED ? "  changed" : "",
               trace->flags[k] & STEPPER_SYSCALL ? "  call" : "");
    }
}

/* Where the sleeper is to wait for what the operation does, it must have been asleep: else nobody's waking is tested. */
static void must_have_slept(const struct scenario *scenario, struct row *row)
{
    if (!(scenario->traits & SLEEP_FIRST) || row->slept * 2 >= row->killed)
        return;
    printf("  %s: the sleeper slept in %zu of %zu trials only\n", row->name, row->slept, row->killed);
    row->broken = 1;
}

static void play_point(struct theatre *theatre, size_t point, struct trial *trial)
{
    if (settings.stops)
        trial_stopped(theatre, point, settings.seed + point, trial);
    else
        trial_killed(theatre, point, settings.seed + point, trial);
}

static void kill_points(struct theatre *theatre, struct row *row, double until)
{
    size_t count = theatre->trace.count + 1;
    uint32_t *points = calloc(count, sizeof *points);
    struct trial trial;
    if (points == NULL)
        abort();
    order_points(&theatre->trace, points);
    for (size_t i = 0; i < count && go_on(row, until); i++) {
        play_point(theatre, points[i], &trial);
        row_count(row, &trial);
    }
    free(points);
}

static void play_operation(const struct scenario *scenario, struct ledger *ledger, struct row *row, double until)
{
    struct theatre theatre;
    struct trial trial;
    static char name[96];
    snprintf(name, sizeof name, "%s%s", settings.stops ? STOPS_PREFIX : "", scenario->name);
    row->name = name;
    if (!theatre_open(&theatre, scenario, ledger, directory)) {
        row->broken = 1;
    } else if (theatre.by_calls = settings.calls, play_whole(&theatre, row)) {
        if (settings.trace) {
            print_trace(&theatre.trace);
        } else if (settings.point == NOT_KILLED) {
            kill_points(&theatre, row, until);
            if (!settings.stops)
                must_have_slept(scenario, row);
        } else if (settings.recovery_point == NOT_KILLED) {
            play_point(&theatre, settings.point, &trial);
            row_count(row, &trial);
        }
    }
    row->drifted = theatre.drifted;
    row->missed = theatre.missed;
    theatre_close(&theatre);
}

/* ---- recovery ------------------------------------------------------------------------------------------------- */

/* The victim dies at `point`; the recovery is played whole and recorded, then killed at its distinct points. */
static void kill_recovery_at(struct theatre *theatre, size_t point, struct row *row, double until)
{
    struct stepper_trace trace = {0};
    struct trial trial;
    trial_recovery_killed(theatre, point, &trace, NOT_KILLED, settings.seed + point, &trial);
    row_count(row, &trial);
    uint32_t *points = calloc(trace.count + 1, sizeof *points);
    if (points == NULL)
        abort();
    size_t distinct = trace.address != NULL && trial.finding_count == 0 ? order_points(&trace, points) : 0;
    row->instructions += trace.count;
    row->points += distinct;
    for (size_t i = 0; i < distinct && go_on(row, until); i++) {
        size_t chosen = settings.recovery_point != NOT_KILLED ? settings.recovery_point : points[i];
        trial_recovery_killed(theatre, point, &trace, chosen, settings.seed + point, &trial);
        row_count(row, &trial);
        if (settings.recovery_point != NOT_KILLED)
            break;
    }
    free(points);
    stepper_trace_free(&trace);
}

static void play_recovery(const struct scenario *scenario, struct ledger *ledger, struct row *row, double until)
{
    struct theatre theatre;
    struct trial whole;
    static char name[96];
    snprintf(name, sizeof name, RECOVERY_PREFIX "%s", scenario->name);
    row->name = name;
    row->broken = !theatre_open(&theatre, scenario, ledger, directory);
    if (!row->broken) {
        trial_whole(&theatre, 1, &whole);
        row_count(row, &whole);
        row->broken = whole.finding_count != 0;
    }
    if (row->broken) {
        theatre_close(&theatre);
        return;
    }
    uint32_t *points = calloc(theatre.trace.count + 1, sizeof *points);
    if (points == NULL)
        abort();
    size_t distinct = order_points(&theatre.trace, points);
    for (size_t i = 0; i < distinct && go_on(row, until); i++) {
        kill_recovery_at(&theatre, settings.point != NOT_KILLED ? settings.point : points[i], row, until);
        if (settings.point != NOT_KILLED)
            break;
    }
    row->drifted = theatre.drifted;
    row->missed = theatre.missed;
    free(points);
    theatre_close(&theatre);
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */

static int wanted(const struct scenario *scenario, int recovery)
{
    int named = settings.only != NULL && strcmp(settings.only, scenario->name) == 0;
    int by_calls = (scenario->traits & BY_CALLS) != 0 ||
                   (scenario->traits & EVERY_POINT && scenario->backend != ON_POSIX);
    if (settings.stops && scenario->traits & (EVERY_POINT | NO_IMAGE | PROBE_OPENS | BY_CALLS))
        return 0; /* the others come and go where it stands: what it is told may well differ */
    if (settings.only != NULL ? !named : settings.calls != by_calls && !(settings.all && !settings.calls))
        return 0;
    if (!recovery)
        return !settings.recovery_only;
    /* MIDDLE_HOLDS: a recoverer waits at the gate that is shut for the middle one, who goes on only after the recovery. */
    return !(scenario->traits & (EVERY_POINT | NO_IMAGE | ALONE | PROBE_OPENS | MIDDLE_HOLDS)) &&
           (settings.only == NULL || settings.recovery_only);
}

enum { MOST_SCENARIOS = 256 };

static size_t collect_wanted(const struct scenario **wanted_ones, int recovery)
{
    size_t count = 0;
    for (size_t i = 0; i < sizeof all_scenarios / sizeof *all_scenarios; i++)
        for (const struct scenario *scenario = all_scenarios[i]; scenario->name != NULL; scenario++)
            if (wanted(scenario, recovery) && count < MOST_SCENARIOS)
                wanted_ones[count++] = scenario;
    return count;
}

typedef void play(const struct scenario *scenario, struct ledger *ledger, struct row *row, double until);

static void play_one(play *how, const struct scenario *scenario, double until, struct row *total)
{
    static struct ledger *ledger;
    struct row row = {0};
    if (ledger == NULL)
        ledger = ledger_make();
    how(scenario, ledger, &row, until);
    row_print(&row);
    row_add(total, &row);
    total->broken |= row_failed(&row);
    free(row.recovery_us);
}

/* Every operation; what one leaves of its time, the later ones get. */
static void play_operations(double end, struct row *total)
{
    const struct scenario *scenarios[MOST_SCENARIOS];
    size_t count = collect_wanted(scenarios, 0);
    for (size_t i = 0; i < count; i++)
        play_one(play_operation, scenarios[i], seconds_now() + (end - seconds_now()) / (double)(count - i), total);
}

/* The recoveries of as many operations as there is time for: each needs some seconds, so that they rotate with the seed. */
static void play_recoveries(double end, struct row *total)
{
    const struct scenario *scenarios[MOST_SCENARIOS];
    uint32_t order[MOST_SCENARIOS];
    size_t count = collect_wanted(scenarios, 1), played = 0;
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    shuffle(order, count);
    for (; played < count && (settings.all || played == 0 || seconds_now() < end); played++) {
        double part = (end - seconds_now()) / (double)(count - played);
        part = part < RECOVERY_SECONDS ? RECOVERY_SECONDS : part;
        double until = seconds_now() + part;
        play_one(play_recovery, scenarios[order[played]], until < end ? until : end, total);
    }
    if (played < count)
        printf("(recovery of %zu more operations had no time; which ones rotates with the seed)\n", count - played);
}

static int play_all(struct row *total)
{
    double now = seconds_now(), share = settings.recovery_only                                      ? 0
                                        : settings.only != NULL || settings.calls || settings.stops ? 1
                                                                                                    : OPERATIONS_SHARE;
    play_operations(now + settings.seconds * share, total);
    if (share < 1)
        play_recoveries(now + settings.seconds, total);
    return total->broken;
}

static void list(void)
{
    for (size_t i = 0; i < sizeof all_scenarios / sizeof *all_scenarios; i++)
        for (const struct scenario *scenario = all_scenarios[i]; scenario->name != NULL; scenario++)
            printf("%s\n", scenario->name);
}

static void only(const char *name)
{
    int recovery = strncmp(name, RECOVERY_PREFIX, strlen(RECOVERY_PREFIX)) == 0;
    int stops = strncmp(name, STOPS_PREFIX, strlen(STOPS_PREFIX)) == 0;
    settings.recovery_only |= recovery;
    settings.stops |= stops;
    settings.only = name + (recovery ? strlen(RECOVERY_PREFIX) : stops ? strlen(STOPS_PREFIX) : 0);
}

static int parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--all") == 0)
            settings.all = 1;
        else if (strcmp(argv[i], "--calls") == 0)
            settings.calls = 1;
        else if (strcmp(argv[i], "--stops") == 0)
            settings.stops = 1;
        else if (strcmp(argv[i], "--recovery") == 0)
            settings.recovery_only = 1;
        else if (strcmp(argv[i], "--until-found") == 0)
            settings.until_found = 1;
        else if (strcmp(argv[i], "--trace") == 0)
            settings.trace = 1;
        else if (strcmp(argv[i], "--list") == 0)
            settings.list = 1;
        else if (value == NULL)
            return 0;
        else if (strcmp(argv[i], "--seconds") == 0)
            settings.seconds = atof(argv[++i]);
        else if (strcmp(argv[i], "--seed") == 0)
            settings.seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--only") == 0)
            only(argv[++i]);
        else if (strcmp(argv[i], "--point") == 0)
            settings.point = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--recovery-point") == 0)
            settings.recovery_point = strtoull(argv[++i], NULL, 0);
        else
            return 0;
    }
    return 1;
}

/* The file whose instructions these are: that it is the one which was meant is the caller's to see. */
static const char *stepped_library(void)
{
    Dl_info info;
    const char *(*function)(void) = cove_version;
    void *address;
    memcpy(&address, &function, sizeof address);
    return dladdr(address, &info) != 0 ? info.dli_fname : "?";
}

static int work(const char *scratch)
{
    struct row total = {.name = "total"};
    directory = scratch;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* a victim's own children are waited for here */
    stepper_pin(0);
    random_state = settings.seed;
    rows_show(settings.seed, settings.point != NOT_KILLED);
    printf("seed %" PRIu64 "%s%s%s, stepping %s\n", settings.seed, settings.all ? ", every point" : "",
           settings.calls ? ", --calls" : "", settings.stops ? ", --stops" : "", stepped_library());
    rows_print_head();
    int failed = play_all(&total);
    row_print(&total);
    printf("somebody was asleep in the counterpart at %zu of these %s\n", total.slept,
           settings.stops ? "stops" : "deaths");
    if (total.killed == 0 && !settings.trace) {
        printf("nothing was killed\n");
        return 1;
    }
    return failed;
}

int main(int argc, char **argv)
{
    settings.seed = (uint64_t)time(NULL) % 1000000;
    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: kill_table [--all] [--calls] [--stops] [--seconds S] [--seed N] [--recovery] [--trace]\n"
                "                  [--until-found] [--list]\n"
                "                  [--only OPERATION [--point K [--recovery-point R]]]\n");
        return 2;
    }
    if (settings.list) {
        list();
        return 0;
    }
    stepper_fix_addresses(argv);
    return scratch_run(work);
}
