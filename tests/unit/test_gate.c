/* test_gate.c - copies of a segment in which everybody works: each of them is of one moment.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Processes with several threads lock, save, move and allocate, and pass bytes on through streams, while another one
 * syncs all the time. Each copy is opened as after a power cut, and must add up: no money is lost between two
 * accounts, no byte is in two places or in none, no block belongs to nobody. */
/* ctest: timeout=120 */
#include "durable.h"

#include <sched.h>

#define WORKERS 3u /* processes */
#define THREADS 3u /* in each */
#define ACCOUNTS 64u
#define EACH 1000 /* to begin with */
#define COPIES 40u

struct account {
    cove_mutex lock;
    int64_t amount;
    unsigned char elsewhere[4096]; /* so that no two lie on one page */
};

struct bank {
    struct account accounts[ACCOUNTS];
};

/* A slot of a thread: what it has allocated last. */
struct slots {
    struct {
        cove_ref block;
        uint64_t size_bytes;
    } of[WORKERS * THREADS];
};

static struct bank *bank_of(cove_segment *segment)
{
    return unit_object(segment, "bank", sizeof(struct bank));
}

static struct slots *slots_of(cove_segment *segment)
{
    return unit_object(segment, "slots", sizeof(struct slots));
}

static cove_segment *open_it(void)
{
    return unit_open_as(durable_name("g"), &(struct cove_options){.max_members = 16, .size_bytes = 2 << 20});
}

static struct {
    _Atomic bool enough;
    _Atomic uint64_t changes, allocations, bytes;
} * common;

static bool enough(void)
{
    return atomic_load_explicit(&common->enough, memory_order_relaxed);
}

/* ---- work */

/* From one account to another: with both locks, all or nothing; or in two steps under one lock each that is held over
 * both. */
static void move_money(cove_segment *segment, struct bank *bank, uint64_t *seed)
{
    unsigned a = (unsigned)(unit_random(seed) % ACCOUNTS), b = (unsigned)(unit_random(seed) % ACCOUNTS);
    int64_t amount = (int64_t)(unit_random(seed) % 100);
    if (a == b)
        return;
    struct account *first = &bank->accounts[a < b ? a : b], *second = &bank->accounts[a < b ? b : a];
    bool in_transaction = unit_random(seed) & 1;
    if (in_transaction)
        EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &first->lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(segment, &second->lock, COVE_FOREVER));
    if (in_transaction) {
        EXPECT(0, cove_save(segment, &first->amount, sizeof first->amount));
        EXPECT(0, cove_save(segment, &second->amount, sizeof second->amount));
    }
    first->amount -= amount;
    (void)sched_yield(); /* a good moment for a copy that does not wait */
    second->amount += amount;
    if (in_transaction)
        EXPECT(0, unit_random(seed) % 8 ? cove_commit(segment) : cove_abort(segment));
    else {
        EXPECT(0, cove_mutex_unlock(segment, &second->lock));
        EXPECT(0, cove_mutex_unlock(segment, &first->lock));
    }
    atomic_fetch_add_explicit(&common->changes, 1, memory_order_relaxed);
}

/* The block and the note of its size change together. */
static void change_block(cove_segment *segment, struct slots *slots, unsigned self, uint64_t *seed)
{
    uint64_t size = 1 + unit_random(seed) % 5000;
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, &slots->of[self].size_bytes, 8));
    if (slots->of[self].block)
        EXPECT(0, cove_free_from(segment, &slots->of[self].block));
    EXPECT(0, cove_alloc_into(segment, &slots->of[self].block, size));
    slots->of[self].size_bytes = size;
    EXPECT(0, cove_commit(segment));
    atomic_fetch_add_explicit(&common->allocations, 1, memory_order_relaxed);
}

struct worker {
    cove_segment *segment;
    unsigned self;
};

static void *works(void *argument)
{
    const struct worker *worker = argument;
    struct bank *bank = bank_of(worker->segment);
    struct slots *slots = slots_of(worker->segment);
    uint64_t seed = 0x5eed + worker->self;
    while (!enough()) {
        move_money(worker->segment, bank, &seed);
        change_block(worker->segment, slots, worker->self, &seed);
    }
    return NULL;
}

static void works_with_threads(void *number)
{
    cove_segment *segment = open_it();
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    testing_reach(0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){segment, (unsigned)(uintptr_t)number * THREADS + i};
        threads[i] = unit_thread(works, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        unit_thread_join(threads[i]);
    unit_close(segment);
}

/* ---- looking at a copy */

/* As after a power cut, beside the one that is in use. */
static cove_segment *open_copy(void)
{
    size_t size;
    struct stat about;
    assert_int_equal(stat(durable_path("g", ".synced"), &about), 0);
    size = (size_t)about.st_size;
    void *bytes = malloc(size);
    assert_non_null(bytes);
    durable_read(durable_path("g", ".synced"), bytes, size, 0);
    int file = open(durable_path("c", ""), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, size, 0), size);
    /* What is a hole in the original is one in the copy, and a member wants memory there. */
    assert_int_equal(posix_fallocate(file, 0, (off_t)size), 0);
    assert_int_equal(close(file), 0);
    free(bytes);
    cove_segment *copy = NULL;
    EXPECT(0, cove_open(&copy, durable_name("c"), &(struct cove_options){.flags = COVE_EXISTING}));
    return copy;
}

static void expect_even(uint64_t objects)
{
    int64_t sum = 0;
    cove_segment *copy = open_copy();
    struct bank *bank = bank_of(copy);
    struct slots *slots = slots_of(copy);
    for (unsigned i = 0; i < ACCOUNTS; i++)
        sum += bank->accounts[i].amount;
    assert_int_equal(sum, ACCOUNTS * EACH);
    uint64_t blocks = objects;
    for (unsigned i = 0; i < WORKERS * THREADS; i++) {
        blocks += slots->of[i].block != 0;
        if (slots->of[i].block)
            assert_non_null(cove_at(copy, slots->of[i].block, slots->of[i].size_bytes));
    }
    for (unsigned i = 0; i < ACCOUNTS; i++) { /* nobody holds anything: everybody was at a pause, and is dead here */
        EXPECT(0, cove_mutex_lock(copy, &bank->accounts[i].lock, COVE_NOWAIT));
        EXPECT(0, cove_mutex_unlock(copy, &bank->accounts[i].lock));
    }
    unit_sound(copy);
    assert_int_equal(unit_stat(copy).heap_block_count, blocks);
    unit_close(copy);
    EXPECT(0, cove_unlink(durable_name("c"), 0));
}

static void test_gate_copies_taken_of_all_who_work_add_up(void **state)
{
    (void)state;
    common = testing_shared(sizeof *common);
    cove_segment *segment = open_it();
    struct bank *bank = bank_of(segment);
    (void)slots_of(segment);
    for (unsigned i = 0; i < ACCOUNTS; i++)
        bank->accounts[i].amount = EACH;
    uint64_t objects = unit_stat(segment).heap_block_count;
    pid_t pids[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        pids[i] = testing_spawn(works_with_threads, (void *)i);
    testing_await_count(0, WORKERS);
    for (unsigned i = 0; i < COPIES; i++) {
        uint64_t changes = atomic_load(&common->changes), allocations = atomic_load(&common->allocations);
        EXPECT(0, cove_sync(segment, 2 * unit_patience()));
        expect_even(objects);
        UNTIL(atomic_load(&common->changes) > changes && atomic_load(&common->allocations) > allocations, 5000);
    }
    atomic_store(&common->enough, true);
    for (unsigned i = 0; i < WORKERS; i++)
        testing_join(pids[i]);
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name("g"), 0));
}

/* ---- streams: what was written and not read, by the bytes' own numbers */

/* Byte n of the stream is n modulo 251, and the counters say how far each end is. */
struct ends {
    cove_mutex lock;
    uint64_t written, taken;
};

static struct ends *ends_of(cove_segment *segment)
{
    return unit_object(segment, "ends", sizeof(struct ends));
}

/* Under the lock that the counters have: so a copy, which waits for the lock, finds stream and counters together. */
static void writes(void *unused)
{
    (void)unused;
    cove_segment *segment = open_it();
    struct ends *ends = ends_of(segment);
    cove_stream *stream = NULL;
    unsigned char bytes[700];
    uint64_t seed = 11;
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_WRITER,
                                    &(struct cove_stream_options){.capacity_bytes = 16384}));
    testing_reach(0);
    while (!enough()) {
        size_t count = 1 + unit_random(&seed) % sizeof bytes;
        EXPECT_GOOD(cove_mutex_lock(segment, &ends->lock, COVE_FOREVER));
        for (size_t i = 0; i < count; i++)
            bytes[i] = (unsigned char)((ends->written + i) % 251);
        int64_t done = cove_stream_write(stream, bytes, count, COVE_NOWAIT);
        if (done > 0)
            ends->written += (uint64_t)done;
        EXPECT(0, cove_mutex_unlock(segment, &ends->lock));
        if (done <= 0)
            (void)sched_yield();
    }
    EXPECT(0, cove_stream_close(stream));
    unit_close(segment);
}

static void reads(void *unused)
{
    (void)unused;
    cove_segment *segment = open_it();
    struct ends *ends = ends_of(segment);
    cove_stream *stream = NULL;
    unsigned char bytes[900];
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_READER,
                                    &(struct cove_stream_options){.capacity_bytes = 16384}));
    testing_reach(0);
    while (!enough()) {
        EXPECT_GOOD(cove_mutex_lock(segment, &ends->lock, COVE_FOREVER));
        int64_t done = cove_stream_read(stream, bytes, sizeof bytes, COVE_NOWAIT);
        for (int64_t i = 0; i < done; i++)
            assert_int_equal(bytes[i], (ends->taken + (uint64_t)i) % 251);
        if (done > 0) {
            ends->taken += (uint64_t)done;
            atomic_fetch_add(&common->bytes, (uint64_t)done);
        }
        EXPECT(0, cove_mutex_unlock(segment, &ends->lock));
        if (done <= 0)
            (void)sched_yield();
    }
    EXPECT(0, cove_stream_close(stream));
    unit_close(segment);
}

/* What is in the copy's stream is what its counters say, byte by byte; then the writer's death is told. */
static void expect_stream_even(void)
{
    cove_segment *copy = open_copy();
    struct ends *ends = ends_of(copy);
    cove_stream *stream = NULL;
    unsigned char bytes[4096];
    uint64_t taken = ends->taken;
    int64_t done;
    EXPECT_GOOD(cove_recover(copy));
    EXPECT_GOOD(cove_stream_open_in(&stream, copy, "s", COVE_READER, NULL));
    while ((done = cove_stream_read(stream, bytes, sizeof bytes, COVE_NOWAIT)) > 0) {
        for (int64_t i = 0; i < done; i++)
            assert_int_equal(bytes[i], (taken + (uint64_t)i) % 251);
        taken += (uint64_t)done;
    }
    assert_int_equal(taken, ends->written);
    EXPECT_WAS(COVE_EPEER, done);
    EXPECT(0, cove_stream_close(stream));
    unit_sound(copy);
    unit_close(copy);
    EXPECT(0, cove_unlink(durable_name("c"), 0));
}

static void test_gate_copies_taken_of_a_stream_hold_what_was_not_read(void **state)
{
    (void)state;
    common = testing_shared(sizeof *common);
    cove_segment *segment = open_it();
    (void)ends_of(segment);
    pid_t writer = testing_spawn(writes, NULL), reader = testing_spawn(reads, NULL);
    testing_await_count(0, 2);
    for (unsigned i = 0; i < COPIES; i++) {
        uint64_t before = atomic_load(&common->bytes);
        EXPECT(0, cove_sync(segment, 2 * unit_patience()));
        expect_stream_even();
        UNTIL(atomic_load(&common->bytes) > before, 5000);
    }
    atomic_store(&common->enough, true);
    testing_join(writer);
    testing_join(reader);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name("g"), 0));
}

/* ---- who is held up, and who is not */

static void holds_until_told(void *unused)
{
    (void)unused;
    cove_segment *segment = open_it();
    struct ends *ends = ends_of(segment);
    EXPECT_GOOD(cove_mutex_lock(segment, &ends->lock, COVE_NOWAIT));
    testing_reach(1);
    testing_await(2);
    EXPECT(0, cove_mutex_unlock(segment, &ends->lock));
    unit_close(segment);
}

static void *syncs(void *segment)
{
    EXPECT(0, cove_sync(segment, 2 * unit_patience()));
    return NULL;
}

static void *writes_one(void *stream)
{
    testing_reach(3);
    EXPECT(1, cove_stream_write(stream, "x", 1, 2 * unit_patience()));
    testing_reach(4);
    return NULL;
}

static void *changes_one(void *segment)
{
    testing_reach(3);
    EXPECT(0, cove_begin(segment));
    testing_reach(4);
    EXPECT(0, cove_commit(segment));
    return NULL;
}

static bool gate_is_shut(void)
{
    uint64_t word = 0;
    durable_read(durable_path("g", ""), &word, sizeof word, offsetof(struct covei_header_shm, gate_lock));
    return (word & 0x3fffffff) != 0;
}

/* The copier waits for a holder, and whoever would begin something meanwhile waits for the copier, as long as he has
 * said; nobody sees more of it than that. */
static void test_gate_shut_is_waited_at_as_long_as_was_said(void **state)
{
    (void)state;
    cove_segment *segment = open_it();
    cove_mutex *other = unit_object(segment, "other", sizeof(cove_mutex));
    cove_stream *stream = NULL;
    (void)ends_of(segment);
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_WRITER, NULL));
    pid_t holder = testing_spawn(holds_until_told, NULL);
    testing_await(1);
    pthread_t copier = unit_thread(syncs, segment);
    UNTIL(gate_is_shut(), 5000);
    EXPECT(-EBUSY, cove_mutex_lock(segment, other, COVE_NOWAIT));
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, other, 20 * UNIT_MS));
    pthread_t writer = unit_thread(writes_one, stream), changer = unit_thread(changes_one, segment);
    testing_await_count(3, 2);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, other, 20 * UNIT_MS));
    assert_int_equal(testing_reached(4), 0);
    testing_reach(2);
    testing_join(holder);
    unit_thread_join(copier);
    unit_thread_join(writer);
    unit_thread_join(changer);
    EXPECT(0, cove_mutex_lock(segment, other, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, other));
    EXPECT(0, cove_stream_close(stream));
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name("g"), 0));
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_gate_copies_taken_of_all_who_work_add_up, 60),
    TEST_TIMEOUT(test_gate_copies_taken_of_a_stream_hold_what_was_not_read, 60),
    TEST_TIMEOUT(test_gate_shut_is_waited_at_as_long_as_was_said, 30),
};

int main(void)
{
    return testing_run("gate", tests);
}
