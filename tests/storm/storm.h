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
    cove_mutex lock;
    int64_t cents; /* guarded by lock */
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

struct ledger {
    struct seat seats[WORKERS + 1]; /* the last is the judge's */
    struct stream_ledger streams[STREAMS];
    _Atomic bool stop; /* finish what you do, and end */
    _Atomic uint64_t world_ref;
    _Atomic uint64_t overhead_bytes; /* heap bytes that are not free in an empty segment */
    _Atomic uint64_t recovered; /* how often a locker was told COVE_RECOVERED */
    _Atomic uint64_t largest_bytes; /* of the segment */
    _Atomic int faulty; /* 0, 1: somebody is writing the sentence, 2: it is there */
    char fault[600];
};

extern struct ledger *ledger;
extern const char *segment_name;

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

/* worker.c */
_Noreturn void work(uint32_t seat, uint64_t seed);

/* judge.c: run in processes of their own. */
_Noreturn void found_world(void);
_Noreturn void judge_world(void);

/* supervise.c */
struct plan {
    uint64_t seed;
    uint64_t kills;
    uint64_t seconds; /* at most */
    bool stay; /* on failure, leave everything as it is for a debugger, until a key is pressed */
};
bool storm_round(const struct plan *plan, uint32_t round, uint64_t kills, uint64_t *killed);
/* Fork; the child's work must not return. */
pid_t start(void (*child)(uint32_t, uint64_t), uint32_t seat, uint64_t seed);
/* Wait for a child's end: its status, or -1 if its seat did not change for too long (a report is printed, it is killed). */
int await_child(pid_t pid, uint32_t seat);
uint64_t patience_ns(void);
/* Is the directory of segments empty? Prints what is in it. */
bool directory_empty(void);

/* lifecycle.c */
bool lifecycle_storm(const struct plan *plan, uint64_t *killed);

#endif
