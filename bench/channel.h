/* channel.h - contestants: a way to move bytes (channel type), and what is done with it (pattern).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A channel type connects two processes in both directions. The leader (side 0) makes it before the fork and starts
 * and times each block; the follower (side 1) answers. A pattern is generic over channel types, except for the
 * limits', which work on bare memory.
 *
 * To add a peer: one file with a `const struct channel_type`, its declaration below, and a line in the rows it takes
 * part in. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include "bench.h"

enum wait_mode {
    WAIT_BLOCK, /* as the channel does it when nothing special is asked for */
    WAIT_SPIN, /* never asleep */
    WAIT_SLEEP /* asleep at once, where the channel lets one choose */
};

struct contestant;

struct channel_type {
    /* Before the fork. 0, or -errno where this machine does not have it: it is left out. NULL: nothing to do. */
    int (*make)(struct contestant *self);
    /* In each process, after the fork. NULL: nothing to do. */
    void (*enter)(struct contestant *self);
    /* One whole message. They return only when it is done, and call fail_row on any error. */
    void (*send)(struct contestant *self, const void *data, size_t size_bytes);
    void (*receive)(struct contestant *self, void *data, size_t size_bytes);
    /* `count` messages back to back; NULL: one by one. What is received lies at `*data`, valid until the next call.
     * Returns how many messages it is, at least one and at most `count`. */
    void (*send_many)(struct contestant *self, const void *data, size_t size_bytes, size_t count);
    size_t (*receive_many)(struct contestant *self, const void **data, size_t size_bytes, size_t count);
    /* In each process. NULL: nothing to do. */
    void (*leave)(struct contestant *self);
};

struct pattern {
    /* Leader: `count` operations. Returns the nanoseconds they took, or 0: as the engine timed them. */
    double (*lead)(struct contestant *self, uint64_t count);
    /* Follower; NULL where the leader works alone. */
    void (*follow)(struct contestant *self, uint64_t count);
    /* Follower, after the block, when the clock stands: checks that take long. NULL: none. */
    void (*check)(struct contestant *self);
    /* The block ends when the follower is through, not when the leader is. */
    bool one_way;
};

struct contestant {
    const char *name;
    enum role role;
    const struct channel_type *type; /* NULL: the pattern needs none */
    const struct pattern *pattern;
    enum wait_mode wait;
    size_t message_bytes;
    size_t capacity_bytes; /* of the channel, where it can be chosen; 0: its default */
    size_t batch; /* messages at once, in patterns with batches */
    uint64_t warm_count; /* operations before anything is timed */
    const char *segment; /* for Cove's channels */
    const char *tag; /* tells two of Cove's channels in one row apart */
    void *state; /* the channel type's, or the pattern's own */

    /* The patterns' and the engine's. */
    int side;
    uint64_t sent, received; /* messages so far, which number them */
    uint64_t filled; /* messages written into `out`, to be sent later */
    char *out, *in; /* buffers of OUT_SLOTS messages, or of one where it is large */
    uint64_t block_count; /* operations in a block */
    struct series blocks;
    struct series disturbed_blocks;
    bool missing;
};

enum { OUT_SLOTS = 64 };

struct contest {
    struct contestant *contestants;
    size_t count;
    bool one_cpu; /* both sides share a CPU */
    bool alone; /* there is no follower */
    bool keep_disturbed; /* preemption is part of what is measured */
    double block_seconds; /* 0: 1.5 ms */
    uint64_t block_count_max; /* 0: no bound */
    bool as_rate; /* the figure is GB/s, not ns */
    bool in_us; /* the figure is us, not ns */
};

/* Let all take turns for settings->row_seconds and add their figures to the report. */
void contest_run(struct contest *contest, const struct settings *settings, struct report *report);

/* Page that leader and follower share, beside the channel that is measured. */
struct contest_page {
    _Alignas(128) _Atomic uint32_t command; /* number of the block to be run; the leader writes */
    uint32_t blocks; /* begun so far; the leader's */
    uint32_t which; /* contestant; QUIT */
    uint64_t count;
    _Alignas(128) _Atomic uint32_t done; /* number of the last block run; the follower writes */
    _Atomic uint32_t ready; /* number of the last block checked; the follower writes */
    uint32_t preempted;
    _Alignas(128) _Atomic uint64_t idled_ns; /* how long the follower idled before its answer (asleep rows) */
};
extern struct contest_page *contest_page;

/* Messages: numbered, and every word known to the receiver. */
void message_fill(char *data, size_t size_bytes, uint64_t number);
void message_check(const char *data, size_t size_bytes, uint64_t number, const char *who);
/* Large ones: words in each page are stamped with the number, the rest is a lasting pattern that is checked outside
 * the timing. */
void block_prepare(char *data, size_t size_bytes);
void block_stamp(char *data, size_t size_bytes, uint64_t number);
void block_check(const char *data, size_t size_bytes, uint64_t number, const char *who);
void blocks_check(struct contestant *self); /* all of the last one received; a pattern's `check` */

extern const struct pattern pattern_round_trip; /* an operation: there and back */
extern const struct pattern pattern_one_way; /* an operation: one message */
extern const struct pattern pattern_batches; /* an operation: one message, `batch` at a time */
extern const struct pattern pattern_blocks; /* an operation: one large message */
extern const struct pattern pattern_asleep; /* an operation: there and back, each side idle before it sends */

extern const struct channel_type channel_cove, channel_cove_zero_copy, channel_pipe, channel_unix, channel_mq;

/* A message of 8 bytes and something to wait for beside it, signal.c. */
extern const struct channel_type signal_cove_event, signal_cove_semaphore, signal_cove_counter, signal_cove_condition;
extern const struct channel_type signal_sem, signal_cond;

/* The limits, limit.c. */
extern const struct channel_type limit_memory, limit_futex, limit_buffers;
extern const struct pattern limit_line_round_trip; /* one word there and back */
/* 64 B and a word there and back; the reader pauses between looks, or does not. Which is faster depends on the
 * machine. */
extern const struct pattern limit_message_pausing, limit_message_eager;
extern const struct pattern limit_handover; /* copy in, a flag, copy out; two buffers in turn */

#endif
