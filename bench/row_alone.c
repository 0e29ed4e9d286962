/* row_alone.c - rows of one process alone: a transaction, taking and giving back memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "channel.h"

#include <cove.h>
#include <stdlib.h>

enum { RECORD_BYTES = 64, RECORDS = 16, LIVE_BLOCKS = 10000, SMALLEST = 16, LARGEST = 4096 };

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct shared_state {
    cove_mutex lock;
    uint64_t padding[7];
    /* Used in turn: a copy of what was stored a moment ago would wait for the stores to reach the cache. */
    struct record {
        uint64_t words[RECORD_BYTES / 8];
    } records[RECORDS];
};

static cove_segment *segment;
static struct shared_state *state;

static void open_shared(const struct settings *settings)
{
    static const struct cove_type type = {.name = "bench", .version = 1, .size_bytes = sizeof(struct shared_state)};
    struct cove_options options = {.lifetime = COVE_LAST_OUT};
    void *object;

    if (cove_open(&segment, settings->segment, &options) < 0 ||
        cove_object_open(&object, segment, "state", &type, 0) < 0)
        fail_row("%s", cove_last_error());
    state = object;
}

static void run_alone(struct contestant *contestants, size_t count, const struct settings *settings,
                      struct report *report)
{
    struct contest contest = {.contestants = contestants, .count = count, .alone = true, .block_seconds = 0.0005};

    report->unit = "ns";
    report->value_is = "p50";
    contest_run(&contest, settings, report);
    if (segment && cove_close(segment) < 0)
        fail_row("cove_close: %s", cove_last_error());
}

/* ---- transaction ---- */

static inline void change(struct record *record)
{
    for (size_t i = 0; i < COUNT_OF(record->words); i++)
        record->words[i]++;
}

static double transact_cove(struct contestant *self, uint64_t count)
{
    int wrong = 0;

    (void)self;
    wrong |= cove_mutex_lock(segment, &state->lock, COVE_FOREVER);
    for (uint64_t i = 0; i < count; i++) {
        struct record *record = &state->records[i % RECORDS];
        wrong |= cove_begin(segment);
        wrong |= cove_save(segment, record, sizeof *record);
        change(record);
        wrong |= cove_commit(segment);
    }
    wrong |= cove_mutex_unlock(segment, &state->lock);
    if (wrong)
        fail_row("transaction: %s", cove_last_error());
    return 0;
}

/* The change without any protection: what is left when a transaction costs nothing. */
static double transact_bare(struct contestant *self, uint64_t count)
{
    struct record *records = self->state;

    for (uint64_t i = 0; i < count; i++) {
        change(&records[i % RECORDS]);
        atomic_signal_fence(memory_order_seq_cst); /* each change is made: the compiler may not add them up */
    }
    return 0;
}

void row_transaction(const struct settings *settings, struct report *report)
{
    static const struct pattern bare = {.lead = transact_bare}, cove = {.lead = transact_cove};
    struct contestant contestants[] = {
        {.name = "bare change", .role = ROLE_LIMIT, .pattern = &bare, .state = shared_memory(RECORDS * RECORD_BYTES)},
        {.name = "cove", .role = ROLE_COVE, .pattern = &cove},
    };

    open_shared(settings);
    report->goal_kind = GOAL_VALUE_AT_MOST;
    report->goal = 12;
    run_alone(contestants, COUNT_OF(contestants), settings, report);
}

/* ---- memory ---- */

static double pair_cove(struct contestant *self, uint64_t count)
{
    (void)self;
    while (count--) {
        cove_ref ref = cove_alloc(segment, RECORD_BYTES);
        if (!ref || cove_free(segment, ref) < 0)
            fail_row("cove_alloc: %s", cove_last_error());
    }
    return 0;
}

static double pair_malloc(struct contestant *self, uint64_t count)
{
    (void)self;
    while (count--) {
        void *volatile block = malloc(RECORD_BYTES); /* volatile: or the compiler drops the pair */
        free(block);
    }
    return 0;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

static size_t random_size(uint64_t random)
{
    return SMALLEST + (size_t)((random >> 32) % (LARGEST - SMALLEST));
}

/* Replace blocks at random, so that the heap gets old. Each block holds its own number, which is checked when it goes.
 * */
static double mixed_cove(struct contestant *self, uint64_t count)
{
    static cove_ref live[LIVE_BLOCKS];

    while (count--) {
        uint64_t random = next_random(self->state);
        size_t index = (size_t)(random % LIVE_BLOCKS);
        if (live[index]) {
            const uint64_t *old = cove_at(segment, live[index], sizeof *old);
            if (!old || *old != index || cove_free(segment, live[index]) < 0)
                fail_row("cove_free: block %zu was overwritten, or: %s", index, cove_last_error());
        }
        live[index] = cove_alloc(segment, random_size(random));
        uint64_t *block = cove_at(segment, live[index], sizeof *block);
        if (!block)
            fail_row("cove_alloc: %s", cove_last_error());
        *block = index;
    }
    return 0;
}

static double mixed_malloc(struct contestant *self, uint64_t count)
{
    static uint64_t *live[LIVE_BLOCKS];

    while (count--) {
        uint64_t random = next_random(self->state);
        size_t index = (size_t)(random % LIVE_BLOCKS);
        if (live[index] && *live[index] != index)
            fail_row("malloc: block %zu was overwritten", index);
        free(live[index]);
        live[index] = malloc(random_size(random));
        if (!live[index])
            fail_row("malloc: no memory");
        *live[index] = index;
    }
    return 0;
}

void row_alloc_pair(const struct settings *settings, struct report *report)
{
    static const struct pattern libc = {.lead = pair_malloc}, cove = {.lead = pair_cove};
    struct contestant contestants[] = {
        {.name = "malloc", .role = ROLE_LIMIT, .pattern = &libc},
        {.name = "cove", .role = ROLE_COVE, .pattern = &cove},
    };

    open_shared(settings);
    run_alone(contestants, COUNT_OF(contestants), settings, report);
}

void row_alloc_mixed(const struct settings *settings, struct report *report)
{
    static const struct pattern libc = {.lead = mixed_malloc}, cove = {.lead = mixed_cove};
    static uint64_t seeds[2] = {0x9e3779b97f4a7c15, 0x9e3779b97f4a7c15};
    struct contestant contestants[] = {
        {.name = "malloc", .role = ROLE_LIMIT, .pattern = &libc, .state = &seeds[0], .warm_count = 4 * LIVE_BLOCKS},
        {.name = "cove", .role = ROLE_COVE, .pattern = &cove, .state = &seeds[1], .warm_count = 4 * LIVE_BLOCKS},
    };

    open_shared(settings);
    run_alone(contestants, COUNT_OF(contestants), settings, report);
    report_note(report, "%d..%d B, %d live", SMALLEST, LARGEST, LIVE_BLOCKS);
}
