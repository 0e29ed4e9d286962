/* stage.h - what a scenario of the kill table is made of: the ledger, the processes of a trial, the data they share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A trial plays one scenario once, with these processes, all children of the harness:
 *
 *   victim     does the operation under the stepper and is killed after instruction k (or not at all)
 *   sleeper    was attached before; asleep in the counterpart of the operation (waits for the lock, for the bytes) when
 *              the victim dies, or done with it if nothing stood in its way
 *   second     where a scenario wants one: was attached before; sleeps behind the sleeper, or is stopped, or dead already,
 *              or does its part when the victim is dead (enum second_part)
 *   middle     was attached before; in the middle of a transaction of its own all the while; commits it at the end
 *   greedy     was attached before; allocates and scribbles as soon as the victim is dead, before anybody was asked to recover
 *   recoverer  only where recovery itself is killed: was attached before, recovers under the stepper, dies too
 *   probe      a fresh process: checks, verifies, does a change of its own on top, recovers and clears up, looks again
 *
 * The ledger is memory shared by them and the harness, outside every segment, where each writes what it was told. */
#ifndef STAGE_H
#define STAGE_H

#include <cove.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum role {
    ROLE_BUILDER,
    ROLE_VICTIM,
    ROLE_SLEEPER,
    ROLE_SECOND,
    ROLE_MIDDLE,
    ROLE_GREEDY,
    ROLE_RECOVERER,
    ROLE_PROBE,
    ROLE_COUNT
};

/* How far a process of the crew has come; it sleeps on this word until the harness moves `baton` there. */
enum phase { PHASE_NEW, PHASE_READY, PHASE_GO, PHASE_DONE, PHASE_LAST };

enum verdict { VERDICT_HANG, VERDICT_CORRUPT, VERDICT_LOST, VERDICT_LEAKED, VERDICT_COUNT };

enum { LEDGER_NUMBERS = 16, LEDGER_FINDINGS = 6, FINDING_BYTES = 400 };

struct finding {
    uint32_t verdict;
    char text[FINDING_BYTES];
};

struct ledger {
    _Atomic uint32_t phase[ROLE_COUNT];
    _Atomic uint32_t baton[ROLE_COUNT];
    int64_t done_ns[ROLE_COUNT]; /* when its call on the stage returned, monotonic */
    int64_t result[ROLE_COUNT]; /* what that call returned */
    int64_t struck_ns; /* when the others were let go on: the victim is dead or done */
    _Atomic uint32_t killed; /* the victim was (the harness stores it) */
    _Atomic uint32_t stands; /* the victim is not killed at its point, but stands there, and goes on later */
    _Atomic uint32_t acknowledged; /* the victim's operation has returned, with this many steps of it done */
    uint64_t number[LEDGER_NUMBERS]; /* the scenario's own */
    uint64_t whole; /* what the unkilled operation gave; outlives the trial, until the next scenario */
    _Atomic uint32_t finding_count;
    struct finding finding[LEDGER_FINDINGS];
    /* what the probe measured at the very end, when all others were gone */
    uint64_t used_bytes;
    uint64_t block_count;
    uint64_t object_count;
};

/* The user's data in the test segment. */
struct account {
    cove_mutex lock;
    int64_t cents;
};

enum { ROOT_SLOTS = 8, WIDE_BYTES = 2048, STREAM_BYTES = 4096, START_CENTS = 1000 };

struct root {
    cove_mutex lock;
    cove_ref slot[ROOT_SLOTS]; /* written under the lock */
    int64_t change; /* the probe's own, on top of everything */
};

struct wide {
    cove_mutex lock;
    uint64_t cell[WIDE_BYTES / 8]; /* all equal, under the lock */
};

struct scenario;
struct hall;

/* One process's view of the trial. */
struct stage {
    const struct scenario *scenario;
    struct ledger *ledger;
    enum role role;
    cove_segment *segment;
    struct account *alice, *bob, *carol;
    struct root *root;
    struct wide *wide;
    cove_stream *stream;
    struct hall *hall; /* hall.h; with the trait IN_HALL alone */
    void *extra; /* the scenario's own */
};

/* traits of a scenario */
enum {
    EVERY_POINT = 1, /* has state in files and descriptors: points are all instructions, not the distinct ones */
    NO_IMAGE = 2, /* begins without a segment */
    SLEEP_FIRST = 4, /* the sleeper is asleep in the counterpart before the operation begins */
    THREADED = 8, /* the operation runs in a thread of its own, and the thread's end belongs to it */
    VICTIM_OPENS = 16, /* opening is (part of) the operation */
    SLEEPER_OPENS = 256, /* opening is what the sleeper does */
    PROBE_OPENS = 32, /* verify does all that the probe does, opening included: the segment may be gone by design */
    ALONE = 64, /* no bystanders but the sleeper: they would be in the operation's way */
    NO_MIDDLE = 512, /* nobody is inside a transaction all the while: it would hold up a copy */
    MIDDLE_HOLDS = 1024, /* the sleeper waits for the middle one too, which is sent on before it is awaited */
    /* long: played by its system calls, unless every point is wanted. So is all with EVERY_POINT that is not ON_POSIX */
    BY_CALLS = 2048,
    IN_HALL = 4096 /* the image holds locks and meeting points of all kinds (hall.h), and the middle one has some */
};

/* What the second one does. */
enum second_part {
    SECOND_NONE,
    SECOND_BEHIND, /* makes its call as soon as the sleeper sleeps */
    SECOND_AT_POINT, /* makes its call when the victim stands at its point, even where the sleeper slept before */
    SECOND_STOPPED, /* makes its call, if any, before the sleeper does, and stands still until the sleeper is done */
    SECOND_AFTER, /* makes its call when the victim is dead */
    SECOND_DEAD, /* is killed when it is ready, before the victim attaches, which so recovers it */
    SECOND_DIES /* is killed when the victim is about to begin its operation */
};

/* Where the trial's segment lies. */
enum backend { ON_POSIX, ON_FILE, ON_SYSV, BACKENDS };

#define STREAM_NAME "pipe"
#define PATIENCE_NS INT64_C(5000000000) /* whoever takes longer than this hangs */

/* Functions run in the process of their role; NULL: nothing to do. */
struct scenario {
    const char *name;
    unsigned traits;
    enum backend backend;
    uint32_t least, most; /* the kept range of its count of instructions */
    void (*alter)(unsigned char *image); /* harness, once: changes the file that each trial begins with */
    void (*build)(struct stage *); /* adds to the common image, once */
    void (*prepare)(struct stage *); /* victim, before the first point; the segment is open */
    void (*operate)(struct stage *); /* victim: what is stepped */
    void (*after)(struct stage *); /* victim, if it was not killed; then it closes the segment */
    void (*sleep_ready)(struct stage *); /* sleeper, attached, before the operation */
    void (*sleep)(struct stage *); /* sleeper: the call that may have to wait for the victim */
    void (*sleep_after)(struct stage *); /* sleeper, when the victim is dead and its call has returned */
    enum second_part second_part;
    void (*second_ready)(struct stage *); /* as those of the sleeper */
    void (*second)(struct stage *);
    void (*second_after)(struct stage *);
    void (*verify)(struct stage *); /* probe: was it done, whole? Then clears up what it left by design */
};

/* ---- ledger.c ---- */
struct ledger *ledger_make(void);
void ledger_reset(struct ledger *ledger);

/* Notes a verdict about the point at hand; printf-like. The first few are kept. */
void finding(struct stage *stage, enum verdict verdict, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As finding(CORRUPT), with cove_last_error, unless `good`. Returns good. */
int must(struct stage *stage, int good, const char *what);

/* The victim made it, or found it made where it had stood still and another was first. Its result is kept. */
void must_have_made(struct stage *stage, int got, const char *what);

/* The victim was told that step `count` of its operation is done. */
void acknowledge(struct stage *stage, uint32_t count);

/* Where the victim only stands: whoever has something stays in it for a while, so that the victim goes on meanwhile. */
void linger(struct stage *stage);

/* Children say where they are, and wait until they are sent on; the harness sends them on, and waits for them. */
void phase_tell(struct stage *stage, enum phase phase);
void baton_wait(struct stage *stage, enum phase phase);
void baton_pass(struct ledger *ledger, enum role role, enum phase phase);

/* Waits until `role` has told `phase`. Returns 0 when it has not until the deadline, or its process is gone. */
int phase_wait(struct ledger *ledger, enum role role, enum phase phase, int64_t deadline_ns);

/* ---- places.c: where a trial's segment and its regions lie ---- */
const char *stage_name(const struct stage *stage); /* of the segment; valid until the next call */
void place_path(enum backend backend, const char *directory, char *path, size_t size_bytes); /* of the file behind it */
const char *copy_path(void); /* of the copy that cove_sync makes of the segment on ON_FILE */
uint32_t place_key(unsigned which); /* System V keys of this run: 0 is the segment's */
void place_set_run(uint32_t number); /* before anything else: keys are made of it */
int name_is_there(const struct stage *stage); /* does the segment's name lead to anything? */
void sysv_sweep(uint32_t run); /* removes the memory of all keys of that run; 0: of this one */
/* What is in the directory and should not be, for a finding; NULL where there is nothing. */
const char *debris_left(const struct stage *stage);

/* ---- image.c: the segment that all scenarios but creation begin with ---- */
void image_fill(struct stage *stage); /* builder */
void stage_open(struct stage *stage); /* open the segment and the common objects */
void stage_open_at(struct stage *stage, const char *name); /* a copy of it */
void stage_close(struct stage *stage);
int stage_check(struct stage *stage); /* cove_segment_check; each finding is CORRUPT. Returns their number */
void fill_pattern(void *memory, size_t size_bytes, uint64_t seed);
int pattern_holds(const void *memory, size_t size_bytes, uint64_t seed);

/* ---- roles.c ---- */
int role_run(struct stage *stage); /* all of a process of the crew; returns its exit status */
int victim_run(void *stage); /* for the stepper */
int recoverer_run(void *stage);

/* ---- the scenarios, each list ends with a NULL name ---- */
extern const struct scenario ops_segment[];
extern const struct scenario ops_lock[];
extern const struct scenario ops_heap[];
extern const struct scenario ops_object[];
extern const struct scenario ops_stream[];
extern const struct scenario ops_region[];
extern const struct scenario ops_durable[];
extern const struct scenario ops_fair[];
extern const struct scenario ops_rwlock[];
extern const struct scenario ops_semaphore[];
extern const struct scenario ops_event[];
extern const struct scenario ops_condition[];
extern const struct scenario ops_barrier[];
extern const struct scenario ops_once[];
extern const struct scenario ops_counter[];
extern const struct scenario ops_revision[];
extern const struct scenario ops_named[];
extern const struct scenario ops_woken[];

#endif
