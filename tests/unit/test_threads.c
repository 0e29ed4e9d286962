/* test_threads.c - threads of one process: lanes at their end, storms on locks and transactions, streams between them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * ThreadSanitizer runs these: one mapping, all atomics in sight. */
/* ctest: threads timeout=120 */
#include "unit.h"

#define THREADS 4

/* ---- what a thread that ends leaves */

struct account {
    cove_mutex lock;
    uint64_t value;
    cove_ref ref;
};

struct world {
    cove_segment *segment;
    struct account *account;
};

static struct world open_world(void)
{
    struct world world = {.segment = unit_open("t")};
    world.account = unit_object(world.segment, "a", THREADS * sizeof(struct account));
    return world;
}

static void close_world(struct world *world)
{
    unit_sound(world->segment);
    unit_close(world->segment);
    unit_remove("t");
}

static uint32_t own_lanes(cove_segment *segment)
{
    struct cove_member_info member;
    EXPECT(1, cove_segment_members(segment, &member, 1));
    return member.lanes;
}

static void *use_once(void *argument)
{
    struct world *world = argument;
    (void)EXPECT_GOOD(cove_mutex_lock(world->segment, &world->account->lock, COVE_FOREVER));
    world->account->value++;
    EXPECT(0, cove_mutex_unlock(world->segment, &world->account->lock));
    return NULL;
}

static void test_threads_ten_thousand_leave_no_lane(void **state)
{
    (void)state;
    struct world world = open_world();
    unsigned rounds = testing_scale() > 1 ? 500 : 5000;
    uint64_t size = 0;
    for (unsigned i = 0; i < rounds; i++) {
        pthread_t one = unit_thread(use_once, &world), two = unit_thread(use_once, &world);
        unit_thread_join(one);
        unit_thread_join(two);
        if (i == 10)
            size = unit_stat(world.segment).resident_bytes;
    }
    assert_int_equal(world.account->value, 2 * rounds);
    assert_int_equal(own_lanes(world.segment), 1);
    assert_int_equal(unit_stat(world.segment).resident_bytes, size);
    close_world(&world);
}

static void *end_in_the_middle(void *argument)
{
    struct world *world = argument;
    struct account *account = world->account;
    EXPECT(0, cove_begin(world->segment));
    EXPECT(0, cove_mutex_lock(world->segment, &account[0].lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(world->segment, &account[1].lock, COVE_FOREVER));
    EXPECT(0, cove_save(world->segment, &account[0].value, 8));
    account[0].value = 77;
    EXPECT(0, cove_alloc_into(world->segment, &account[0].ref, 4000));
    return NULL;
}

static void *end_holding(void *argument)
{
    struct world *world = argument;
    EXPECT(0, cove_mutex_lock(world->segment, &world->account[0].lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(world->segment, &world->account[1].lock, COVE_FOREVER));
    return NULL;
}

static void test_threads_that_end_are_rolled_back(void **state)
{
    (void)state;
    struct world world = open_world();
    uint64_t before = unit_free_bytes(world.segment);
    static void *(*const ways[])(void *) = {end_in_the_middle, end_holding};
    for (int i = 0; i < 2; i++) {
        unit_in_thread(ways[i], &world);
        assert_int_equal(unit_free_bytes(world.segment), before);
        for (int k = 0; k < 2; k++) {
            EXPECT(COVE_RECOVERED, cove_mutex_lock(world.segment, &world.account[k].lock, COVE_NOWAIT));
            EXPECT(0, cove_mutex_unlock(world.segment, &world.account[k].lock));
        }
        assert_int_equal(world.account[0].value, 0);
        assert_int_equal(world.account[0].ref, 0);
        assert_int_equal(own_lanes(world.segment), 1);
        unit_sound(world.segment);
    }
    close_world(&world);
}

/* Asleep for the lock when its holder's thread ends. */
static void *wait_for_the_ended(void *argument)
{
    struct world *world = argument;
    testing_reach(1);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(world->segment, &world->account[0].lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(world->segment, &world->account[0].lock));
    return NULL;
}

static void *hold_then_end(void *argument)
{
    (void)end_holding(argument);
    testing_reach(0);
    testing_await(1);
    return NULL;
}

static void test_threads_that_wait_for_one_that_ends_go_on(void **state)
{
    (void)state;
    struct world world = open_world();
    pthread_t holder = unit_thread(hold_then_end, &world);
    testing_await(0);
    pthread_t waiter = unit_thread(wait_for_the_ended, &world);
    unit_thread_join(holder);
    unit_thread_join(waiter);
    close_world(&world);
}

/* ---- storms */

struct worker {
    struct world *world;
    uint64_t seed;
    uint64_t rounds;
};

static void storm(void *(*function)(void *), struct world *world, uint64_t rounds)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){world, i + 1, rounds};
        threads[i] = unit_thread(function, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        unit_thread_join(threads[i]);
}

static void *count_up(void *argument)
{
    struct worker *worker = argument;
    struct account *account = worker->world->account;
    for (uint64_t i = 0; i < worker->rounds; i++) {
        int64_t timeout = i % 3 ? COVE_FOREVER : i % 2 ? COVE_NOWAIT : 10000;
        int result = cove_mutex_lock(worker->world->segment, &account->lock, timeout);
        if (result == -EBUSY || result == -ETIMEDOUT) {
            i--;
            continue;
        }
        EXPECT_WAS(0, result);
        account->value++;
        EXPECT(0, cove_mutex_unlock(worker->world->segment, &account->lock));
    }
    return NULL;
}

static void test_threads_storm_on_one_lock(void **state)
{
    (void)state;
    struct world world = open_world();
    uint64_t rounds = testing_scale() > 1 ? 5000 : 100000;
    storm(count_up, &world, rounds);
    assert_int_equal(world.account->value, THREADS * rounds);
    close_world(&world);
}

/* Money moves between accounts; some transfers are aborted, some threads end in the middle of one. */
static void *transfer(void *argument)
{
    struct worker *worker = argument;
    cove_segment *segment = worker->world->segment;
    for (uint64_t i = 0; i < worker->rounds; i++) {
        unsigned from = (unsigned)(unit_random(&worker->seed) % THREADS);
        unsigned to = (from + 1 + (unsigned)(unit_random(&worker->seed) % (THREADS - 1))) % THREADS;
        struct account *a = &worker->world->account[from], *b = &worker->world->account[to];
        EXPECT(0, cove_begin(segment));
        (void)EXPECT_GOOD(cove_mutex_lock(segment, from < to ? &a->lock : &b->lock, COVE_FOREVER));
        (void)EXPECT_GOOD(cove_mutex_lock(segment, from < to ? &b->lock : &a->lock, COVE_FOREVER));
        EXPECT(0, cove_save(segment, &a->value, 8));
        a->value -= 10;
        EXPECT(0, cove_save(segment, b, sizeof *b));
        b->value += 10;
        EXPECT(0, cove_free_from(segment, &b->ref));
        EXPECT(0, cove_alloc_into(segment, &b->ref, 16 + (size_t)(unit_random(&worker->seed) % 200)));
        EXPECT(0, i % 4 == 0 ? cove_abort(segment) : cove_commit(segment));
    }
    EXPECT(0, cove_begin(segment));
    struct account *last = worker->world->account;
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &last->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &last->value, 8));
    last->value += 1000000;
    return NULL; /* ends here */
}

static void test_threads_storm_of_transfers_keeps_the_sum(void **state)
{
    (void)state;
    struct world world = open_world();
    storm(transfer, &world, testing_scale() > 1 ? 500 : 5000);
    uint64_t sum = 0, blocks = 0;
    for (int i = 0; i < THREADS; i++) {
        (void)EXPECT_GOOD(cove_mutex_lock(world.segment, &world.account[i].lock, COVE_NOWAIT));
        sum += world.account[i].value;
        blocks += world.account[i].ref != 0;
        EXPECT(0, cove_mutex_unlock(world.segment, &world.account[i].lock));
    }
    assert_int_equal(sum, 0);
    assert_int_equal(unit_stat(world.segment).heap_block_count, 2 + blocks);
    close_world(&world);
}

static void *allocate_and_free(void *argument)
{
    struct worker *worker = argument;
    cove_segment *segment = worker->world->segment;
    cove_ref refs[32] = {0};
    size_t sizes[32] = {0};
    for (uint64_t i = 0; i < worker->rounds; i++) {
        unsigned at = (unsigned)(unit_random(&worker->seed) % 32);
        if (refs[at] != 0) {
            unsigned char *bytes = cove_at(segment, refs[at], sizes[at]);
            for (size_t k = 0; k < sizes[at]; k++)
                assert_int_equal(bytes[k], at);
            EXPECT(0, cove_free(segment, refs[at]));
            refs[at] = 0;
            continue;
        }
        sizes[at] = 1 + (size_t)(unit_random(&worker->seed) % 700);
        refs[at] = cove_alloc(segment, sizes[at]);
        assert_true(refs[at] != 0);
        memset(cove_at(segment, refs[at], sizes[at]), (int)at, sizes[at]);
    }
    for (int i = 0; i < 32; i++)
        EXPECT(0, cove_free(segment, refs[i]));
    return NULL;
}

static void test_threads_storm_of_allocations(void **state)
{
    (void)state;
    struct world world = open_world();
    storm(allocate_and_free, &world, testing_scale() > 1 ? 2000 : 30000);
    assert_int_equal(unit_stat(world.segment).heap_block_count, 2);
    close_world(&world);
}

static void *open_objects(void *argument)
{
    struct worker *worker = argument;
    for (uint64_t i = 0; i < worker->rounds; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "o%" PRIu64, i);
        uint64_t *object = unit_object(worker->world->segment, name, 64);
        (void)object;
        if (i % 5 == 0) {
            struct cove_object_info info[4];
            (void)EXPECT_GOOD(cove_objects(worker->world->segment, info, 0));
        }
    }
    return NULL;
}

static void test_threads_open_the_same_objects(void **state)
{
    (void)state;
    struct world world = open_world();
    storm(open_objects, &world, testing_scale() > 1 ? 50 : 200);
    assert_int_equal(unit_stat(world.segment).object_count, 1 + (testing_scale() > 1 ? 50 : 200));
    close_world(&world);
}

/* ---- both ends of a stream */

#define CAPACITY 4096u

struct ends {
    cove_segment *segment;
    uint32_t flags;
    uint64_t count;
};

static void *write_numbers(void *argument)
{
    struct ends *ends = argument;
    cove_stream *writer = NULL;
    EXPECT_GOOD(cove_stream_open_in(&writer, ends->segment, "s", COVE_WRITER,
                                    &(struct cove_stream_options){.capacity_bytes = CAPACITY, .flags = ends->flags}));
    uint64_t seed = 3, words[64];
    for (uint64_t next = 0; next < ends->count;) {
        uint64_t count = 1 + unit_random(&seed) % 64;
        count = count < ends->count - next ? count : ends->count - next;
        for (uint64_t i = 0; i < count; i++)
            words[i] = next + i;
        void *place = NULL;
        switch (unit_random(&seed) % 3) {
        case 0:
            EXPECT((int64_t)(8 * count), cove_stream_write(writer, words, 8 * count, COVE_FOREVER));
            break;
        case 1:
            EXPECT((int64_t)count, cove_stream_write_many(writer, words, 8, count, COVE_FOREVER));
            break;
        default:
            EXPECT(0, cove_stream_reserve(writer, &place, 8 * count, COVE_FOREVER));
            memcpy(place, words, 8 * count);
            EXPECT(0, cove_stream_commit(writer, 8 * count));
        }
        next += count;
    }
    EXPECT(0, cove_stream_close(writer));
    return NULL;
}

static void *read_numbers(void *argument)
{
    struct ends *ends = argument;
    cove_stream *reader = NULL;
    EXPECT_GOOD(cove_stream_open_in(&reader, ends->segment, "s", COVE_READER,
                                    &(struct cove_stream_options){.capacity_bytes = CAPACITY, .flags = ends->flags}));
    uint64_t next = 0, words[100];
    for (;;) {
        int64_t count;
        if (next % 2) {
            const void *piece = NULL;
            count = EXPECT_GOOD(cove_stream_peek(reader, &piece, COVE_FOREVER));
            if (count > 0) {
                count = count < (int64_t)sizeof words ? count : (int64_t)sizeof words;
                memcpy(words, piece, (size_t)count);
                EXPECT(0, cove_stream_consume(reader, (size_t)count));
            }
        } else
            count = EXPECT_GOOD(cove_stream_read(reader, words, sizeof words, COVE_FOREVER));
        if (count == 0)
            break;
        assert_int_equal(count % 8, 0);
        for (int64_t i = 0; i < count / 8; i++)
            assert_int_equal(words[i], next++);
    }
    assert_int_equal(next, ends->count);
    EXPECT(0, cove_stream_close(reader));
    return NULL;
}

static void test_threads_at_both_ends_of_a_stream(void **state)
{
    (void)state;
    static const uint32_t flags[] = {0, COVE_STREAM_NOSPIN, COVE_STREAM_SPIN};
    cove_segment *segment = unit_open("t");
    for (int i = 0; i < 3; i++) {
        struct ends ends = {segment, flags[i], testing_scale() > 1 ? 20000 : 300000};
        if (flags[i] & COVE_STREAM_SPIN)
            ends.count /= 20; /* two that spin where there may be one processor */
        pthread_t writer = unit_thread(write_numbers, &ends), reader = unit_thread(read_numbers, &ends);
        unit_thread_join(writer);
        unit_thread_join(reader);
    }
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Each waits for the other, asleep, every time. */
static void *echo(void *argument)
{
    struct ends *ends = argument;
    cove_stream *in = NULL, *out = NULL;
    EXPECT_GOOD(cove_stream_open_in(&in, ends->segment, "there", COVE_READER,
                                    &(struct cove_stream_options){.flags = ends->flags}));
    EXPECT_GOOD(cove_stream_open_in(&out, ends->segment, "back", COVE_WRITER,
                                    &(struct cove_stream_options){.flags = ends->flags}));
    uint64_t word = 0;
    while (EXPECT_GOOD(cove_stream_read(in, &word, 8, COVE_FOREVER)) > 0)
        EXPECT(8, cove_stream_write(out, &word, 8, COVE_FOREVER));
    EXPECT(0, cove_stream_close(in));
    EXPECT(0, cove_stream_close(out));
    return NULL;
}

static void test_threads_wake_each_other(void **state)
{
    (void)state;
    struct ends ends = {unit_open("t"), COVE_STREAM_NOSPIN, 3000};
    pthread_t thread = unit_thread(echo, &ends);
    cove_stream *out = NULL, *in = NULL;
    EXPECT_GOOD(cove_stream_open_in(&out, ends.segment, "there", COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&in, ends.segment, "back", COVE_READER,
                                    &(struct cove_stream_options){.flags = ends.flags}));
    for (uint64_t i = 0; i < ends.count; i++) {
        uint64_t word = 0;
        EXPECT(8, cove_stream_write(out, &i, 8, COVE_FOREVER));
        EXPECT(8, cove_stream_read(in, &word, 8, unit_patience()));
        assert_int_equal(word, i);
    }
    EXPECT(0, cove_stream_close(out));
    unit_thread_join(thread);
    EXPECT(0, cove_stream_read(in, &(uint64_t){0}, 8, unit_patience()));
    EXPECT(0, cove_stream_close(in));
    unit_close(ends.segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_threads_ten_thousand_leave_no_lane, 30),
    TEST(test_threads_that_end_are_rolled_back),
    TEST(test_threads_that_wait_for_one_that_ends_go_on),
    TEST_TIMEOUT(test_threads_storm_on_one_lock, 30),
    TEST_TIMEOUT(test_threads_storm_of_transfers_keeps_the_sum, 30),
    TEST_TIMEOUT(test_threads_storm_of_allocations, 30),
    TEST_TIMEOUT(test_threads_open_the_same_objects, 30),
    TEST_TIMEOUT(test_threads_at_both_ends_of_a_stream, 30),
    TEST_TIMEOUT(test_threads_wake_each_other, 30),
};

int main(void)
{
    return testing_run("threads", tests);
}
