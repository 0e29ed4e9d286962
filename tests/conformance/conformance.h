/* conformance.h - one suite of cases that runs against every backend: what a case can say and ask.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A cell is one case on one backend. It runs in a process of its own, with a time limit, and ends with a verdict:
 *
 *     pass      what the case is about works
 *     ENOENT .. the backend refuses it with that result, and with a sentence
 *     no        the backend does not have the property, and nothing went wrong
 *     -         the case means nothing on this backend
 *     absent    this machine does not have the backend (cove_supports: COVE_CAN_USE is 0)
 *     skip      the case must change a setting of the machine, and this user may not
 *     FAIL      anything else: a wrong result, a crash, a hang, something left behind
 *
 * expected.txt holds the verdict of each cell. A cell that differs in either direction fails the run, and so does one
 * whose verdict contradicts cove_supports.
 *
 * Cases know a backend by a subject alone: the name that makes the thing, the name by which others get at it, and
 * the plain system calls of a program that knows nothing of Cove (foreign.c). */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cove.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define NAME_BYTES 512u
#define PATH_BYTES 1024u
#define VERDICT_BYTES 20u
#define SIZE_BYTES UINT64_C(10000) /* of most regions: two pages and a bit */
#define NO_FEATURE (-1)
#define PATIENCE_NS INT64_C(8000000000) /* after which something that should have happened has not */

/* ---- backends -------------------------------------------------------------------------------------------------- */

enum kind { KIND_FILE, KIND_HUGE, KIND_SYSV, KIND_MEMFD, KIND_FD };

struct subject;

struct backend {
    const char *label; /* its column */
    const char *told; /* what cove_region_info.backend says */
    enum kind kind;
    /* Fills in the names of a thing that does not exist yet. */
    void (*name)(struct subject *subject);
};

/* What a cell works on. */
struct subject {
    const struct backend *backend;
    unsigned number; /* of the cell: part of every name */
    char name[NAME_BYTES]; /* makes it */
    char other[NAME_BYTES]; /* opens it, in any process of the cell and those that they start */
    char path[PATH_BYTES]; /* KIND_FILE, KIND_HUGE: where it lies */
    char key_path[PATH_BYTES]; /* KIND_SYSV by path: the file that its key is of */
    int key, key_id; /* KIND_SYSV */
    int file; /* KIND_MEMFD, KIND_FD: an inheritable descriptor of it; -1 before there is one */
    uint64_t page_bytes;
};

extern const struct backend backends[];
extern const unsigned backend_count;

void subject_init(struct subject *subject, const struct backend *backend, unsigned number);
/* The same thing by another name; `which` counts from 0. False where there is none more. */
bool subject_alias(const struct subject *subject, unsigned which, char alias[NAME_BYTES]);
/* It was made: nameless memory gets the descriptor by which others open it. */
void subject_has(struct subject *subject, int file);
bool subject_named(const struct subject *subject);

/* A region of the subject, made now; the subject's, opened anew; closed and removed, with nothing left of it. */
cove_region *region_make(struct subject *subject, uint64_t size_bytes);
cove_region *region_make_as(struct subject *subject, const struct cove_region_options *options);
cove_region *region_open(const struct subject *subject, uint32_t flags);
void region_leave(struct subject *subject, cove_region *region);

/* The same of segments. Leaving checks it first: there must be no finding. */
cove_segment *segment_make(struct subject *subject);
cove_segment *segment_make_as(struct subject *subject, const struct cove_options *options);
cove_segment *segment_open(const struct subject *subject, uint32_t flags);
void segment_sound(cove_segment *segment);
void segment_leave(struct subject *subject, cove_segment *segment);
#define SMALL_OPTIONS                                                         \
    {                                                                         \
        .max_members = 16, .size_bytes = 64 << 10, .max_size_bytes = 16 << 20 \
    }

/* ---- foreign.c: what a program does that knows nothing of Cove ------------------------------------------------- */

struct figures {
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* 0 where the system does not say */
    uint32_t mode, uid, gid;
    uint64_t attached_count; /* System V */
    int32_t creator_pid, last_pid, system_id;
};

void foreign_make(struct subject *subject, uint64_t size_bytes); /* all zeros */
bool foreign_look(const struct subject *subject, struct figures *figures); /* false: there is none */
void *foreign_map(const struct subject *subject, uint64_t size_bytes); /* to read and write */
void foreign_unmap(const struct subject *subject, void *data, uint64_t size_bytes);
int foreign_open(const struct subject *subject); /* a descriptor to write by; -1: System V */
bool foreign_read(const struct subject *subject, void *data, size_t size_bytes); /* from its beginning */
void foreign_remove(struct subject *subject);

/* ---- verdicts -------------------------------------------------------------------------------------------------- */

/* End the cell. They may be called by any process of it. */
_Noreturn void ends(const char *verdict);
_Noreturn void fails(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define FAIL(...) fails(__FILE__, __LINE__, __VA_ARGS__)
#define NOT_HERE() ends("-")
#define IT_DOES_NOT() ends("no")

#define CHECK(holds)                          \
    do {                                      \
        if (!(holds))                         \
            FAIL("%s does not hold", #holds); \
    } while (0)
/* Exactly that result; 0 or more. An error must come with a sentence. */
#define EQUAL(expected, call) expect_equal(#call, (expected), (call), __FILE__, __LINE__)
#define GOOD(call) expect_good(#call, (call), __FILE__, __LINE__)
/* As EQUAL, and the sentence holds `part`. */
#define SAYS(expected, part, call) expect_says(#call, (expected), (part), (call), __FILE__, __LINE__)
/* What the case is about: an error is not a failure but the cell's verdict. */
#define TRY(call) expect_or_refusal(#call, (call), __FILE__, __LINE__)
/* The same where an error is what should come: another one is the verdict, and "no" where there is none. */
#define ANSWER(expected, call) expect_answer(#call, (expected), (call), __FILE__, __LINE__)

void expect_equal(const char *what, int64_t expected, int64_t got, const char *file, int line);
int64_t expect_good(const char *what, int64_t got, const char *file, int line);
void expect_says(const char *what, int64_t expected, const char *part, int64_t got, const char *file, int line);
int64_t expect_or_refusal(const char *what, int64_t got, const char *file, int line);
void expect_answer(const char *what, int64_t expected, int64_t got, const char *file, int line);

/* ---- processes of a cell --------------------------------------------------------------------------------------- */

typedef void task(struct subject *subject, void *context);

pid_t start(task *run, struct subject *subject, void *context); /* ends with status 0 when run returns */
void join(pid_t pid); /* until it ends, which must be with status 0 */
void killed(pid_t pid); /* SIGKILL, and wait until it is gone */
int signal_of(task *run, struct subject *subject, void *context); /* the signal that it dies of; 0: none */
_Noreturn void wait_for_death(void);
/* Run this program anew, as a process that shares nothing with us: other.c has the roles. Its exit status. */
int run_other(const char *role, const char *name, const char *argument);
int other_main(int count, char **arguments);

/* Steps of a cell, each reached once or more, seen by all its processes. Waits end with the cell's time limit. */
enum step { STEP_READY, STEP_GO, STEP_DONE, STEP_LAST, STEP_COUNT };
void reach(enum step step);
void await_count(enum step step, unsigned count);
void await(enum step step);
void note_key(int key); /* a System V key that this cell uses: the runner looks what is left under it */
_Atomic uint64_t *number_of(unsigned which); /* 0..7: numbers that all processes of the cell share */

/* ---- machine.c: settings that belong to this run or this cell alone -------------------------------------------- */

int machine_id(void); /* in every name that is not in a directory of its own */
const char *work_directory(void); /* where plain and posix: names lie: on tmpfs */
const char *disk_directory(void); /* where file: things lie: on a disk if there is one */
const char *huge_directory(void); /* where hugetlbfs is mounted; NULL: this machine has no huge pages for us */
uint64_t huge_page_bytes(void);
bool machine_is_ours(void); /* private mounts and System V objects */
void need_own_machine(void); /* or the cell ends with "skip" */
void shrink_machine(const struct subject *subject, uint64_t size_bytes); /* room for so much, for this cell alone */
void take_huge_pages_away(void); /* for this cell alone */

/* ---- the cases ------------------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    void (*run)(struct subject *subject);
    int feature; /* enum cove_feature that says whether it passes, or NO_FEATURE */
};

struct rows {
    const struct row *row;
    unsigned count;
};
#define ROWS(table)                                           \
    {                                                         \
        (table), (unsigned)(sizeof(table) / sizeof(table)[0]) \
    }

extern const struct rows region_open_rows, region_view_rows, region_system_rows, region_share_rows, region_fault_rows;
extern const struct rows segment_open_rows, segment_system_rows, segment_work_rows, segment_stream_rows,
    segment_life_rows, segment_sync_rows;
extern const struct rows planted_rows;

#endif
