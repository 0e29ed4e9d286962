/* storm.h - what the parts of the storm share: the world in the segment, the ledger outside of it, the workers' state.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A supervisor keeps eight workers at work on one segment, kills them at random moments and replaces them; in the end a judge
 * compares what is in the segment with what the ledger says, to the byte.
 *
 * world   an object in the segment: accounts, chains of blocks, locks. Its invariants are what transactions must keep.
 * ledger  memory that the supervisor shares with its children, no part of Cove: what was acknowledged, who does what.
 *
 * Order of the users' locks: accounts by index, then chains, then things. */
#ifndef STORM_STORM_H
#define STORM_STORM_H

#include <cove.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    WORKERS = 8,
    ACCOUNTS = 16,
    CHAINS = 4,
    THINGS = 6,
    STREAMS = 3,
    MEMBERS = 16, /* of the segment: few, so that rows of the dead are inherited */
    START_CENTS = 1000,
    LONGEST_CHAIN = 40,
    STREAM_CAPACITY = 4096 /* so that rings turn over often */
};

/* ---- the world */

struct account {
    cove_mutex lock; /* guards what follows */
    cove_revision revision;
    int64_t cents;
};

struct node {
    COVE_REF(struct node) next;
    uint32_t size_bytes; /* of `bytes` */
    uint32_t seed; /* what they are made of */
    unsigned char bytes[];
};

struct chain {
    cove_mutex lock; /* guards what follows, and the nodes */
    COVE_REF(struct node) first;
    uint64_t length;
    cove_ref spare; /* a block that comes and goes outside transactions */
};

struct world {
    struct account accounts[ACCOUNTS];
    struct chain chains[CHAINS];
    cove_mutex things; /* held around objects "thing/N" */
};

extern const struct cove_type world_type;
#define WORLD_NAME "world"

/* ---- the ledger */

enum doing {
    DOING_NOTHING,
    DOING_OPEN,
    DOING_CLOSE,
    DOING_TRANSFER,
    DOING_AUDIT,
    DOING_PUSH,
    DOING_POP,
    DOING_SPARE,
    DOING_MEMORY,
    DOING_GROWTH,
    DOING_THING,
    DOING_WRITE,
    DOING_READ,
    DOING_THREAD,
    DOING_RECOVER,
    DOING_JUDGE,
    DOING_UNLINK,
    DOING_GC,
    DOING_REPLACE,
    DOING_CAT,
    DOING_SYNC,
    DOING_LOOK, /* at what was synced */
    DOING_HOLD, /* the storms of locks and meeting points: take it, use it, give it back */
    DOING_MEET, /* wait for others, or for something to happen */
    DOING_COUNT
};

const char *doing_name(enum doing doing);

/* One worker's place. Written by the worker, read by the supervisor. */
struct seat {
    _Atomic uint32_t doing; /* enum doing */
    _Atomic uint64_t since_ns; /* when it began that */
    _Atomic uint64_t wants; /* ref of the lock that it waits for or took last; 0: none */
    _Atomic uint64_t done[DOING_COUNT];
};

/* Every byte of a stream is a function of its place, so places say all. The writer keeps the first two, the reader the last two. */
struct stream_ledger {
    _Atomic uint64_t written; /* all bytes below were acknowledged */
    _Atomic uint64_t writing; /* where the write in progress ends; == written: there is none */
    _Atomic bool whole; /* that write is there whole or not at all */
    _Atomic uint64_t read; /* all bytes below were read and compared */
    _Atomic uint64_t reading; /* where the read in progress ends at most */
};

/* What a region holds is made of its number, which grows. */
struct region_ledger {
    _Atomic uint64_t replaced; /* by this number: acknowledged */
    _Atomic uint64_t replacing; /* by this one perhaps */
    _Atomic uint64_t seen; /* the highest that a reader has seen */
};

enum { REGIONS = 2 };

/* What the storms of locks and meeting points note outside of them (hall.h says what for). */
struct hall_ledger {
    _Atomic int32_t pid[WORKERS];
    _Atomic uint64_t came_ns[WORKERS]; /* when it began to wait; 0: it does not */
    _Atomic uint64_t inside[WORKERS]; /* one more whenever it comes in or goes out: odd inside */
    _Atomic uint64_t arrived[WORKERS], left[WORKERS]; /* at the barrier: how often */
    _Atomic int64_t intent[WORKERS], sum[WORKERS]; /* an amount that is being counted, and those that were */
    _Atomic int64_t most_more, most_less; /* what killed workers may have counted, above and below 0 */
    _Atomic uint64_t tally[8]; /* of what happened, over all rounds of a storm; the last field */
};

struct ledger {
    struct seat seats[WORKERS + 1]; /* the last is the judge's */
    struct stream_ledger streams[STREAMS];
    struct region_ledger regions[REGIONS];
    struct hall_ledger hall;
    _Atomic bool stop; /* finish what you do, and end */
    _Atomic uint64_t world_ref;
    _Atomic uint64_t overhead_bytes; /* heap bytes that are not free in an empty segment */
    _Atomic uint64_t recovered; /* how often a locker was told COVE_RECOVERED */
    _Atomic uint64_t largest_bytes; /* of the segment */
    _Atomic uint64_t slowest_sync_ns;
    _Atomic int faulty; /* 0, 1: somebody is writing the sentence, 2: it is there */
    char fault[600];
};

extern struct ledger *ledger;
extern const char *segment_name;

/* ---- places */

enum place { IN_POSIX, IN_FILE, IN_SYSV, IN_FD, PLACES };

extern enum place storm_place; /* where the segments of this run lie */
const char *place_word(enum place place);
/* The name of segment `number` of this run, which lies there; System V keys are made of the supervisor's pid. */
void name_place(char name[200], enum place place, const char *plain, uint32_t number);
bool memory_left(void); /* System V memory of this run; tells, and removes it */

/* ---- a worker */

struct worker {
    struct seat *seat;
    cove_segment *segment;
    struct world *world;
    uint64_t random;
};

uint64_t now_ns(void);
void nap_ns(uint64_t ns);
uint64_t next_random(uint64_t *state); /* splitmix64 */
uint64_t below(uint64_t *state, uint64_t limit);
bool one_in(uint64_t *state, uint64_t n);

/* Note what begins, or that it is done. */
void begin_doing(struct worker *worker, enum doing doing);
void end_doing(struct worker *worker, enum doing doing);

/* Something is wrong: the first sentence of a run is kept, and the process ends with status 3. */
_Noreturn void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A call's result: faults where it is below 0. Returns it. */
int64_t must(int64_t result, const char *what);

void open_world(struct worker *worker);
void close_world(struct worker *worker);
/* Lock, noting for a report what is waited for. */
void lock(struct worker *worker, cove_mutex *mutex);
void unlock(struct worker *worker, cove_mutex *mutex);

/* money.c */
void do_transfer(struct worker *worker);
void do_audit(struct worker *worker);
void leave_transfer_open(struct worker *worker); /* half a transfer, saved and locked */
int64_t count_money(const struct world *world);

/* chains.c */
void do_chain(struct worker *worker);
void do_spare(struct worker *worker);
void check_chain(const cove_segment *segment, const struct chain *chain);
void free_chain(struct worker *worker, struct chain *chain);

/* things.c */
void do_memory(struct worker *worker);
void do_growth(struct worker *worker);
void do_thing(struct worker *worker);

/* passing.c */
void do_write(struct worker *worker);
void do_read(struct worker *worker);
void drain_streams(struct worker *worker);

/* How far the streams had come at a moment. */
struct stream_marks {
    uint64_t written[STREAMS], read[STREAMS];
};
void mark_streams(struct stream_marks *marks);
/* The worker's segment is a copy of the storm's that was made after `since`: what was acknowledged before is in it,
 * and all that is to be read is as it was written. */
void check_streams(struct worker *worker, const struct stream_marks *since);

/* worker.c */
void do_something(struct worker *worker);

/* What a child of the supervisor does; it does not return. */
typedef void part(uint32_t seat, uint64_t seed);
part work; /* worker.c */
part found_world, judge_world; /* judge.c */
void judge_members(struct worker *worker);
void judge_contents(struct worker *worker);
void check_sound(cove_segment *segment, char *when);
extern int founding_socket; /* where the descriptor of a nameless world goes */

/* supervise.c */
struct plan {
    uint64_t seed;
    uint64_t kills;
    uint64_t seconds; /* at most */
    bool stay; /* on failure, leave everything as it is for a debugger, until a key is pressed */
};

/* A round of a storm: somebody founds, WORKERS work and are killed, somebody judges. */
struct act {
    part *found, *work, *judge;
    bool (*found_here)(void); /* instead of found: in the supervisor itself */
    uint64_t gap_ns; /* longest time between two strikes */
    bool stops; /* stop some for a while, and let them go on */
};
bool storm_round(const struct plan *plan, const struct act *act, uint32_t round, uint64_t kills, uint64_t *killed);
/* Rounds of a hundred kills until plan->kills or plan->seconds are over. `each` is called after each. */
bool storm_rounds(const struct plan *plan, const struct act *act, const char *what, uint64_t *killed);
/* Fork. */
pid_t start(part *child, uint32_t seat, uint64_t seed);
/* Wait for a child's end: its status, or -1 if its seat did not change for too long (a report is printed, it is killed). */
int await_child(pid_t pid, uint32_t seat);
uint64_t patience_ns(void);
/* Is the directory of segments empty? Prints what is in it. */
bool directory_empty(void);

/* Prints how often that was done. False where something was never done. */
bool print_done(const char *what, const enum doing *doings, size_t count);

/* The storms; each prints what it did. */
bool work_storm(const struct plan *plan, uint64_t *killed); /* storm.c */
bool lifecycle_storm(const struct plan *plan, uint64_t *killed); /* lifecycle.c */
bool replace_storm(const struct plan *plan, uint64_t *killed); /* replacing.c */
bool copy_storm(const struct plan *plan, uint64_t *killed); /* copying.c */
/* locks.c */
bool fair_storm(const struct plan *plan, uint64_t *killed);
bool rwlock_storm(const struct plan *plan, uint64_t *killed);
bool owned_storm(const struct plan *plan, uint64_t *killed);
/* counts.c */
bool plain_storm(const struct plan *plan, uint64_t *killed);
bool counter_storm(const struct plan *plan, uint64_t *killed);
/* meetings.c */
bool goods_storm(const struct plan *plan, uint64_t *killed);
bool barrier_storm(const struct plan *plan, uint64_t *killed);
bool once_storm(const struct plan *plan, uint64_t *killed);
bool latency_storm(const struct plan *plan, uint64_t *killed); /* latency.c */

#endif
