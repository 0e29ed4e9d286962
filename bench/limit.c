/* limit.c - what the hardware and the kernel allow: bare lines, bare copies, a bare futex between two processes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * None of these could be used by a program: they know their peer, hold one message and check nothing. They are the
 * floor that everything else is compared with.
 *
 *   line      one word in a line of its own, each way
 *   message   a word and 64 bytes behind it, two neighbouring lines, each way: the least that carries any 64 bytes
 *   handover  two buffers in turn: copied in, a word says so, copied out, a word says so
 *   futex     a word each way, and a sleep whenever it is not there yet
 *
 * Edge L (everywhere here): store the word release -> load the word acquire, then read what lies behind it. */
#include "channel.h"

#include <errno.h>
#include <string.h>

enum { MESSAGE_WORDS = 8, BUFFERS = 2 };

struct direction {
    _Alignas(128) _Atomic uint64_t word; /* number of the message */
    _Atomic uint64_t message[MESSAGE_WORDS];
};

struct memory {
    struct direction direction[2]; /* from side 0, from side 1 */
};

static int memory_make(struct contestant *self)
{
    self->state = shared_memory(sizeof(struct memory));
    return 0;
}

const struct channel_type limit_memory = {.make = memory_make};

static void await_word(_Atomic uint64_t *word, uint64_t number)
{
    while (atomic_load_explicit(word, memory_order_acquire) != number) /* edge L */
        pause_cpu();
}

static double line_lead(struct contestant *self, uint64_t count)
{
    struct memory *memory = self->state;

    for (uint64_t end = self->sent + count; self->sent < end;) {
        uint64_t number = ++self->sent;
        atomic_store_explicit(&memory->direction[0].word, number, memory_order_release); /* edge L */
        await_word(&memory->direction[1].word, number);
    }
    return 0;
}

static void line_follow(struct contestant *self, uint64_t count)
{
    struct memory *memory = self->state;

    for (uint64_t end = self->sent + count; self->sent < end;) {
        uint64_t number = ++self->sent;
        await_word(&memory->direction[0].word, number);
        atomic_store_explicit(&memory->direction[1].word, number, memory_order_release); /* edge L */
    }
}

const struct pattern limit_line_round_trip = {.lead = line_lead, .follow = line_follow};

static inline void message_put(struct direction *direction, uint64_t number)
{
    for (uint64_t i = 0; i < MESSAGE_WORDS; i++)
        atomic_store_explicit(&direction->message[i], number + i, memory_order_relaxed); /* published by the word */
    atomic_store_explicit(&direction->word, number, memory_order_release); /* edge L */
}

/* Where the reader pauses between looks, it takes the line away from its writer less often: 65 to 100 ns where one that
 * does not pause takes 110 to 160, on cores that are near. */
static inline void message_get(struct direction *direction, uint64_t number, bool pausing)
{
    uint64_t wrong = 0;

    while (atomic_load_explicit(&direction->word, memory_order_acquire) != number) /* edge L */
        if (pausing)
            pause_cpu();
    for (uint64_t i = 0; i < MESSAGE_WORDS; i++)
        wrong |= atomic_load_explicit(&direction->message[i], memory_order_relaxed) ^ (number + i); /* behind edge L */
    if (wrong)
        fail_row("the limit's message %llu arrived broken", (unsigned long long)number);
}

static inline void message_trips(struct contestant *self, uint64_t count, bool pausing)
{
    struct memory *memory = self->state;

    for (uint64_t end = self->sent + count; self->sent < end;) {
        uint64_t number = ++self->sent;
        if (self->side == 0)
            message_put(&memory->direction[0], number);
        message_get(&memory->direction[1 - self->side], number, pausing);
        if (self->side == 1)
            message_put(&memory->direction[1], number);
    }
}

static double pausing_lead(struct contestant *self, uint64_t count)
{
    message_trips(self, count, true);
    return 0;
}

static void pausing_follow(struct contestant *self, uint64_t count)
{
    message_trips(self, count, true);
}

static double eager_lead(struct contestant *self, uint64_t count)
{
    message_trips(self, count, false);
    return 0;
}

static void eager_follow(struct contestant *self, uint64_t count)
{
    message_trips(self, count, false);
}

const struct pattern limit_message_pausing = {.lead = pausing_lead, .follow = pausing_follow};
const struct pattern limit_message_eager = {.lead = eager_lead, .follow = eager_follow};

struct buffers {
    struct {
        _Alignas(128) _Atomic uint64_t filled; /* number of the block in the buffer; the leader writes */
        _Alignas(128) _Atomic uint64_t emptied; /* number of the last block taken out of it; the follower writes */
    } flag[BUFFERS];
    _Alignas(4096) char bytes[];
};

static int buffers_make(struct contestant *self)
{
    self->state = shared_memory(sizeof(struct buffers) + BUFFERS * self->message_bytes);
    return 0;
}

const struct channel_type limit_buffers = {.make = buffers_make};

static double handover_lead(struct contestant *self, uint64_t count)
{
    struct buffers *buffers = self->state;

    for (uint64_t end = self->sent + count; self->sent < end;) {
        uint64_t number = ++self->sent, slot = number % BUFFERS;
        block_stamp(self->out, self->message_bytes, number);
        await_word(&buffers->flag[slot].emptied, number > BUFFERS ? number - BUFFERS : 0);
        memcpy(buffers->bytes + slot * self->message_bytes, self->out, self->message_bytes);
        atomic_store_explicit(&buffers->flag[slot].filled, number, memory_order_release); /* edge L */
    }
    return 0;
}

static void handover_follow(struct contestant *self, uint64_t count)
{
    struct buffers *buffers = self->state;

    for (uint64_t end = self->received + count; self->received < end;) {
        uint64_t number = ++self->received, slot = number % BUFFERS;
        await_word(&buffers->flag[slot].filled, number);
        memcpy(self->in, buffers->bytes + slot * self->message_bytes, self->message_bytes);
        atomic_store_explicit(&buffers->flag[slot].emptied, number, memory_order_release); /* edge L */
        block_check(self->in, self->message_bytes, number, self->name);
    }
}

const struct pattern limit_handover = {
    .lead = handover_lead, .follow = handover_follow, .check = blocks_check, .one_way = true};

struct futex_pair {
    struct {
        _Alignas(128) _Atomic uint32_t word;
        char message[MESSAGE_WORDS * 8];
    } direction[2];
};

static int futex_make(struct contestant *self)
{
    self->state = shared_memory(sizeof(struct futex_pair));
    return self->message_bytes > sizeof((struct futex_pair *)0)->direction[0].message ? -EMSGSIZE : 0;
}

static void futex_send(struct contestant *self, const void *data, size_t size_bytes)
{
    struct futex_pair *pair = self->state;
    _Atomic uint32_t *word = &pair->direction[self->side].word;

    memcpy(pair->direction[self->side].message, data, size_bytes);
    atomic_fetch_add_explicit(word, 1, memory_order_release); /* edge L */
    futex_wake(word);
}

static void futex_receive(struct contestant *self, void *data, size_t size_bytes)
{
    struct futex_pair *pair = self->state;
    _Atomic uint32_t *word = &pair->direction[1 - self->side].word;
    uint32_t seen = (uint32_t)self->received; /* each message adds one */

    while (atomic_load_explicit(word, memory_order_acquire) == seen) /* edge L */
        futex_wait(word, seen);
    memcpy(data, pair->direction[1 - self->side].message, size_bytes);
}

const struct channel_type limit_futex = {.make = futex_make, .send = futex_send, .receive = futex_receive};
