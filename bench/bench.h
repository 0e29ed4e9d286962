/* bench.h - what the parts of cove-bench share: settings, clock, figures, processes, reports, rows.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A row is one question ("what does a 64 B round trip cost?"). It is answered by contestants that take turns in blocks
 * of about a millisecond: the limit (what the hardware or the kernel allows), Cove, and peers. Machines change their
 * speed from one second to the next, so only ratios of figures that were measured in turn are compared.
 *
 * A new row is one entry in main.c's table; a new peer is one channel type (channel.h) and one line in the rows that
 * it is for. */
#ifndef BENCH_H
#define BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct settings {
    bool quick;
    double row_seconds; /* how long the contestants of a row take turns */
    unsigned small_kills; /* of a small process */
    unsigned large_kills; /* of a process with 1 GiB resident */
    unsigned member_count; /* others attached while attaching is timed */
    char segment[64]; /* the one segment name that this run uses; main.c removes it after each row */
    char directory[64]; /* for files of the peers; main.c empties it after each row */
};

/* What ftok is told beside a file in settings->directory: main.c removes System V objects that have such a key. (Qt's
 * choice, so that its own are found too.) */
#define KEY_OF_FILE 'Q'

/* ---- clock and figures: measure.c ---- */

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct series {
    double *values;
    size_t count, capacity;
};

void series_add(struct series *series, double value);
/* The value below which `share` (0..1) of the values lie; 0 where there are none. Sorts the series. */
double series_quantile(struct series *series, double share);
void series_clear(struct series *series);

/* ---- processes: process.c ---- */

/* Two CPUs that this process may run on; false where there is one alone (then both are that one). */
bool two_cpus(int cpu[2]);
void pin_to(int cpu);
/* A child that dies with its parent. Returns as fork; exits this process where there can be none. */
pid_t fork_or_die(void);
/* From now on a child that ends badly (but by SIGKILL, which is ours) ends this process too: a row does not wait for
 * the dead. */
void fail_with_children(void);
/* Wait until this process has no children left; returns how many of them did not end well. */
unsigned reap_all(void);
/* Zeroed memory that children share. */
void *shared_memory(size_t size_bytes);
/* Involuntary context switches of this thread so far: a block in which there was one is not counted. */
long preemptions(void);
/* CPU time that the whole machine has spent, -1 where it does not say; and all children that were waited for. */
double busy_seconds(void);
double children_seconds(void);
/* For how long this process, of one thread, has waited for a CPU so far; 0 where the kernel does not say. */
uint64_t runnable_ns(void);
/* Does the process sleep, waiting for something? */
bool is_asleep(pid_t pid);
/* Sleep; what "idle" means in the rows about sleeping processes. */
void idle_ns(uint64_t duration_ns);
/* Stop this row: a sentence on stderr, and an exit status that main.c counts as a failed check. */
void fail_row(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

/* Plain futex calls on words that processes share. */
void futex_wait(_Atomic uint32_t *word, uint32_t expected);
void futex_wake(_Atomic uint32_t *word);

/* Wait until `*word` is no longer `old`, spinning briefly and then asleep; returns its new value. Whoever changes the
 * word does so by signal_store. Edge S: signal_store release -> await_change acquire. */
uint32_t await_change(_Atomic uint32_t *word, uint32_t old);
void signal_store(_Atomic uint32_t *word, uint32_t value);

/* ---- what peers leave in the system: names.c ---- */

void names_begin(struct settings *settings); /* makes settings->directory */
void names_clear(const struct settings *settings);
void names_end(const struct settings *settings);

/* ---- reports: report.c ---- */

enum role { ROLE_LIMIT, ROLE_COVE, ROLE_VARIANT, ROLE_PEER, ROLE_GAUGE };

/* One contestant's result. */
struct figure {
    char name[24];
    enum role role;
    double value; /* what is compared: the median of the blocks, or what the row says */
    double p10, p50, p90, p99, max;
    uint32_t samples;
    uint32_t disturbed; /* blocks left out, since a process was preempted in them */
    struct extra {
        const char *is; /* "fairness"; NULL: no more of them */
        double value;
    } extra[2];
};

enum goal_kind { GOAL_NONE, GOAL_RATIO_AT_MOST, GOAL_RATIO_AT_LEAST, GOAL_VALUE_AT_MOST };

/* One more goal of a row: each has to be reached. */
struct aim {
    const char *what; /* "x pthread robust", "fairness"; NULL: no more of them */
    bool at_least; /* or at most */
    double wanted, reached;
};

enum { FIGURES_MAX = 24, AIMS_MAX = 3 };

struct report {
    const char *row;
    const char *unit;
    const char *value_is; /* "p50", "p99" */
    enum goal_kind goal_kind;
    double goal;
    bool more_is_better;
    bool tails; /* print how the samples spread */
    bool limit_is_floor; /* nothing can be faster than the limit: below 1 the measurement is wrong */
    double limit_spread; /* how far two measurements of the limit in this run lay apart: 0.02 is 2 % */
    double gauge_ns; /* the line's way there and back in this row; 0: not measured */
    bool gauge_mixed; /* the machine changed its state during the row */
    double others; /* share of the CPUs that other programs took meanwhile */
    bool needs_all; /* with others on the CPUs the row says nothing about its goals */
    bool failed;
    struct aim aims[AIMS_MAX];
    uint32_t figure_count;
    struct figure figures[FIGURES_MAX];
    char note[200];
    char missing[1000]; /* peers that are not there, each with the reason */
};

/* Add a contestant's figure from its samples; the series is sorted. `value_at` is the quantile that is compared. */
struct figure *report_add(struct report *report, const char *name, enum role role, struct series *series,
                          double value_at);
/* The figure gets one more number beside its value. */
void figure_extra(struct figure *figure, const char *is, double value);
/* A number of a figure, by names: its value (`extra` NULL) or an extra; 0 where there is none. */
double report_value(const struct report *report, const char *name, const char *extra);
void report_aim(struct report *report, const char *what, bool at_least, double wanted, double reached);
void report_missing(struct report *report, const char *name, const char *why);
/* Add to the note. */
void report_note(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_head(const struct settings *settings);
void report_print(const struct report *report, bool json);

/* ---- rows ---- */

typedef void row_run(const struct settings *settings, struct report *report);

row_run row_roundtrip_spin, row_roundtrip_adaptive, row_message_single, row_message_batch, row_bulk;
row_run row_asleep_two, row_asleep_one;
row_run row_mutex, row_mutex_2, row_mutex_8, row_rwlock, row_rwlock_write, row_rwlock_8, row_rwlock_mixed;
row_run row_semaphore, row_semaphore_2, row_semaphore_8, row_counter, row_counter_2, row_counter_8;
row_run row_barrier_2, row_barrier_8, row_bank, row_bank_8;
row_run row_event, row_event_asleep, row_condition, row_condition_asleep;
row_run row_transaction, row_alloc_pair, row_alloc_mixed;
row_run row_attach_alone, row_attach_crowd, row_grow;
row_run row_kill_mutex, row_kill_mutex_large, row_kill_stream;
row_run row_kill_fair, row_kill_reader, row_kill_writer, row_kill_permit, row_kill_barrier;
row_run row_idle;

#endif
