/* testing_inner.h - what the files of the test harness share with each other.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef TESTING_INNER_H
#define TESTING_INNER_H

#include "testing.h"

#include <stdatomic.h>

#define TESTING_REPORTS 24u
#define TESTING_REPORT_BYTES 400u
#define TESTING_PATH_BYTES 512u

enum testing_phase {
    TESTING_RUNNING, /* the test function has not returned */
    TESTING_RETURNED, /* it has, and was looked at for what it leaves */
    TESTING_SKIPPED
};

/* One page or more that the runner and all processes of a test share; cleared before each test. */
struct testing_control {
    _Atomic unsigned phase; /* enum testing_phase; written by the test's process, read by the runner after its death */
    _Atomic unsigned leaves_open;
    _Atomic unsigned leaves_files;
    _Atomic unsigned report_count; /* slots handed out; may exceed TESTING_REPORTS */
    _Atomic unsigned steps[TESTING_STEPS];
    char reports[TESTING_REPORTS]
                [TESTING_REPORT_BYTES]; /* a slot is written by whom it was handed to; empty: died first */
};

/* Where this process is; set by the runner before the fork, the same in all processes of a test. */
struct testing_context {
    struct testing_control *control;
    const struct testing_case *test;
    int64_t deadline_ns; /* the test's, on testing_now_ns's clock */
    char dir[TESTING_PATH_BYTES]; /* COVE_DIR */
    char tag[64]; /* part of every name from testing_name() */
};
extern struct testing_context testing_context;

/* testing.c */
void testing_arm_alarm(void);

/* testing_process.c */
int64_t testing_now_ns(void); /* CLOCK_MONOTONIC */
int64_t testing_scaled_ns(double seconds);
void testing_status_text(int status, char *text, size_t text_size);

/* testing_leak.c: what the test's own process holds. */
void testing_holdings_note(void); /* at the start */
void testing_holdings_compare(void); /* at the end: a report for each difference */

/* testing_debris.c: what is left after the test's own process is gone; for the runner. */
void testing_debris_begin(void); /* once for a run: which children are not ours to touch */
void testing_processes_reap(void); /* all who ended */
void testing_processes_end(int64_t grace_ns); /* kill and reap all descendants; report those that outlived the grace */
void testing_dir_make(void); /* fills context's dir and tag */
void testing_dir_clear(void); /* report what is in it and in /dev/shm, then remove all */

#endif
