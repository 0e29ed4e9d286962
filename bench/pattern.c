/* pattern.c - what is done with a channel: round trips, streams of messages, large blocks, waking sleepers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Receivers check each message: its number and every word of a small one, two stamped words in each 4 KiB of a large
 * one (the rest of it once a block, when the clock stands). */
#include "channel.h"

#include <string.h>

enum { STAMP_STRIDE = 4096, SLOTS_AHEAD = OUT_SLOTS / 2 };
#define IDLE_NS UINT64_C(100000) /* after this a receiver is asleep, whatever it spins first */

static inline uint64_t load_word(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline void store_word(char *at, uint64_t word)
{
    memcpy(at, &word, sizeof word);
}

void message_fill(char *data, size_t size_bytes, uint64_t number)
{
    for (size_t i = 0; i + 8 <= size_bytes; i += 8)
        store_word(data + i, number + i);
}

void message_check(const char *data, size_t size_bytes, uint64_t number, const char *who)
{
    uint64_t wrong = 0;

    for (size_t i = 0; i + 8 <= size_bytes; i += 8)
        wrong |= load_word(data + i) ^ (number + i);
    if (wrong)
        fail_row("%s: message %llu arrived broken or out of turn", who, (unsigned long long)number);
}

/* A word of a large block where it is not stamped. */
static inline uint64_t lasting_word(size_t offset)
{
    return offset * UINT64_C(0x9e3779b97f4a7c15);
}

static inline bool is_stamped(size_t offset)
{
    return offset % STAMP_STRIDE == 0 || offset % STAMP_STRIDE == STAMP_STRIDE - 8;
}

void block_prepare(char *data, size_t size_bytes)
{
    for (size_t i = 0; i + 8 <= size_bytes; i += 8)
        store_word(data + i, lasting_word(i));
}

void block_stamp(char *data, size_t size_bytes, uint64_t number)
{
    for (size_t i = 0; i + STAMP_STRIDE <= size_bytes; i += STAMP_STRIDE) {
        store_word(data + i, number + i);
        store_word(data + i + STAMP_STRIDE - 8, ~number);
    }
}

void block_check(const char *data, size_t size_bytes, uint64_t number, const char *who)
{
    uint64_t wrong = 0;

    for (size_t i = 0; i + STAMP_STRIDE <= size_bytes; i += STAMP_STRIDE)
        wrong |= (load_word(data + i) ^ (number + i)) | (load_word(data + i + STAMP_STRIDE - 8) ^ ~number);
    if (wrong)
        fail_row("%s: block %llu arrived broken or out of turn", who, (unsigned long long)number);
}

static void block_check_all(const char *data, size_t size_bytes, uint64_t number, const char *who)
{
    block_check(data, size_bytes, number, who);
    for (size_t i = 0; i + 8 <= size_bytes; i += 8)
        if (!is_stamped(i) && load_word(data + i) != lasting_word(i))
            fail_row("%s: block %llu is wrong at byte %zu", who, (unsigned long long)number, i);
}

/* ---- small messages ---- */

/* Messages are written SLOTS_AHEAD before they are sent: a copy that reads what was stored a moment ago waits until all
 * older stores have reached the cache, also the channel's own to lines that the peer still holds, and would measure
 * that. */
static char *slot(const struct contestant *self, uint64_t number)
{
    return self->out + (number - 1) % OUT_SLOTS * self->message_bytes;
}

static inline void fill_until(struct contestant *self, uint64_t number)
{
    while (self->filled < number) {
        self->filled++;
        message_fill(slot(self, self->filled), self->message_bytes, self->filled);
    }
}

static inline void send_next(struct contestant *self)
{
    fill_until(self, self->sent + 1);
    self->type->send(self, slot(self, self->sent + 1), self->message_bytes);
    self->sent++;
    fill_until(self, self->sent + SLOTS_AHEAD);
}

static inline void receive_next(struct contestant *self)
{
    self->type->receive(self, self->in, self->message_bytes);
    self->received++;
    message_check(self->in, self->message_bytes, self->received, self->name);
}

static double round_trip_lead(struct contestant *self, uint64_t count)
{
    while (count--) {
        send_next(self);
        receive_next(self);
    }
    return 0;
}

static void round_trip_follow(struct contestant *self, uint64_t count)
{
    while (count--) {
        receive_next(self);
        send_next(self);
    }
}

const struct pattern pattern_round_trip = {.lead = round_trip_lead, .follow = round_trip_follow};

static double one_way_lead(struct contestant *self, uint64_t count)
{
    while (count--)
        send_next(self);
    return 0;
}

static void one_way_follow(struct contestant *self, uint64_t count)
{
    while (count--)
        receive_next(self);
}

const struct pattern pattern_one_way = {.lead = one_way_lead, .follow = one_way_follow, .one_way = true};

/* ---- batches ---- */

/* Up to `count`, which lie behind each other in the slots; returns how many. */
static size_t send_batch(struct contestant *self, size_t count)
{
    size_t left = OUT_SLOTS - (size_t)(self->sent % OUT_SLOTS);

    if (count > left)
        count = left;
    fill_until(self, self->sent + count);
    if (self->type->send_many)
        self->type->send_many(self, slot(self, self->sent + 1), self->message_bytes, count);
    else
        for (size_t i = 1; i <= count; i++)
            self->type->send(self, slot(self, self->sent + i), self->message_bytes);
    self->sent += count;
    fill_until(self, self->sent + SLOTS_AHEAD);
    return count;
}

static size_t receive_batch(struct contestant *self, size_t count)
{
    const void *data = self->in;

    if (self->type->receive_many)
        count = self->type->receive_many(self, &data, self->message_bytes, count);
    else
        for (size_t i = 0; i < count; i++)
            self->type->receive(self, self->in + i * self->message_bytes, self->message_bytes);
    for (size_t i = 0; i < count; i++)
        message_check((const char *)data + i * self->message_bytes, self->message_bytes, ++self->received, self->name);
    return count;
}

static inline size_t at_most(uint64_t count, size_t batch)
{
    return count < batch ? (size_t)count : batch;
}

static double batches_lead(struct contestant *self, uint64_t count)
{
    while (count)
        count -= send_batch(self, at_most(count, self->batch));
    return 0;
}

static void batches_follow(struct contestant *self, uint64_t count)
{
    while (count)
        count -= receive_batch(self, at_most(count, self->batch));
}

const struct pattern pattern_batches = {.lead = batches_lead, .follow = batches_follow, .one_way = true};

/* ---- large blocks ---- */

static double blocks_lead(struct contestant *self, uint64_t count)
{
    while (count--) {
        block_stamp(self->out, self->message_bytes, ++self->sent);
        self->type->send(self, self->out, self->message_bytes);
    }
    return 0;
}

static void blocks_follow(struct contestant *self, uint64_t count)
{
    while (count--) {
        self->type->receive(self, self->in, self->message_bytes);
        block_check(self->in, self->message_bytes, ++self->received, self->name);
    }
}

void blocks_check(struct contestant *self)
{
    block_check_all(self->in, self->message_bytes, self->received, self->name);
}

const struct pattern pattern_blocks = {
    .lead = blocks_lead, .follow = blocks_follow, .check = blocks_check, .one_way = true};

/* ---- asleep ---- */

/* The follower's idle time is taken off; it publishes it before it sends. The channel orders the two (edge: its own
 * send -> receive), so relaxed is enough. The median of the block stands for it, since one late timer would spoil a
 * mean. */
static double asleep_lead(struct contestant *self, uint64_t count)
{
    struct series trips = {0};

    for (uint64_t i = 0; i < count; i++) {
        idle_ns(IDLE_NS);
        uint64_t start = now_ns();
        send_next(self);
        receive_next(self);
        uint64_t took = now_ns() - start;
        series_add(&trips, (double)(took - atomic_load_explicit(&contest_page->idled_ns, memory_order_relaxed)));
    }
    double median = series_quantile(&trips, 0.5);
    series_clear(&trips);
    return median * (double)count;
}

static void asleep_follow(struct contestant *self, uint64_t count)
{
    while (count--) {
        receive_next(self);
        uint64_t start = now_ns();
        idle_ns(IDLE_NS);
        atomic_store_explicit(&contest_page->idled_ns, now_ns() - start, memory_order_relaxed);
        send_next(self);
    }
}

const struct pattern pattern_asleep = {.lead = asleep_lead, .follow = asleep_follow};
