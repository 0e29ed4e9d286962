/* machine_work.c - everyday work of a few processes, to be done on a machine that is short of something.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One process is killed while it holds a lock and has half changed what is under it; another waits for that lock,
 * and gets it with the old value. One writes a stream through a ring of 4 KiB, so both ends wait often. Then growth,
 * looking, clearing up. */
#include "machine_setup.h"

#define STREAM_BYTES (256 * MACHINE_KIB)
#define PIECE_BYTES 1000u

static const struct cove_stream_options ring = {.capacity_bytes = 4096};

struct account {
    cove_mutex lock;
    uint64_t value;
};

/* How far the processes of one machine_work are; in memory that they share. */
struct progress {
    atomic_uint holds, waits;
};

static struct progress *progress;

static void hold_and_wait_for_death(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("work");
    struct account *account = unit_object(segment, "a", sizeof *account);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &account->lock, unit_patience()));
    EXPECT(0, cove_save(segment, &account->value, sizeof account->value));
    account->value = 999;
    atomic_store(&progress->holds, 1);
    unit_wait_for_death();
}

static void wait_for_the_lock(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("work");
    struct account *account = unit_object(segment, "a", sizeof *account);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &account->lock, UNIT_MS)); /* it is held */
    atomic_store(&progress->waits, 1);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &account->lock, unit_patience()));
    assert_int_equal(account->value, 1);
    EXPECT(0, cove_mutex_unlock(segment, &account->lock));
    unit_close(segment);
}

static void killed_holder_is_recovered(cove_segment *segment)
{
    struct account *account = unit_object(segment, "a", sizeof *account);
    account->value = 1;
    pid_t holder = testing_spawn(hold_and_wait_for_death, NULL);
    UNTIL(atomic_load(&progress->holds) == 1, 5000);
    pid_t waiter = testing_spawn(wait_for_the_lock, NULL);
    UNTIL(atomic_load(&progress->waits) == 1, 5000);
    testing_kill(holder);
    testing_join(waiter);
    (void)EXPECT_GOOD(cove_recover(segment));
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.members_dead, 0);
    assert_int_equal(info.members_alive, 1);
}

static void write_all(void *argument)
{
    (void)argument;
    cove_stream *writer = NULL;
    unsigned char piece[PIECE_BYTES];
    (void)EXPECT_GOOD(cove_stream_open(&writer, "work/s", COVE_WRITER, &ring));
    for (size_t sent = 0; sent < STREAM_BYTES;) {
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = (unsigned char)((sent + i) % 251);
        size_t count = STREAM_BYTES - sent < sizeof piece ? STREAM_BYTES - sent : sizeof piece;
        EXPECT((int64_t)count, cove_stream_write(writer, piece, count, unit_patience()));
        sent += count;
    }
    EXPECT(0, cove_stream_close(writer));
}

static void stream_arrives(void)
{
    cove_stream *reader = NULL;
    unsigned char bytes[777];
    size_t got = 0;
    (void)EXPECT_GOOD(cove_stream_open(&reader, "work/s", COVE_READER, &ring));
    pid_t writer = testing_spawn(write_all, NULL);
    for (int64_t count; (count = EXPECT_GOOD(cove_stream_read(reader, bytes, sizeof bytes, unit_patience()))) > 0;)
        for (int64_t i = 0; i < count; i++)
            assert_int_equal(bytes[i], (unsigned char)(got++ % 251));
    assert_int_equal(got, STREAM_BYTES);
    testing_join(writer);
    EXPECT(0, cove_stream_close(reader));
}

static void grows(cove_segment *segment)
{
    cove_ref ref = cove_alloc(segment, MACHINE_MIB);
    if (ref == 0)
        fail_msg("growing: %s", cove_last_error());
    memset(cove_at(segment, ref, MACHINE_MIB), 1, MACHINE_MIB);
    EXPECT(0, cove_free(segment, ref));
}

static void looks_and_goes(cove_segment *segment)
{
    struct cove_segment_info info;
    unit_sound(segment);
    EXPECT(0, cove_stat("work", &info));
    assert_int_equal(info.members_alive, 1);
    unit_close(segment);
    EXPECT(0, cove_gc(0, NULL, NULL));
    EXPECT(0, cove_unlink("work", 0));
    assert_false(unit_exists("work"));
    assert_int_equal(machine_files(), 0);
}

void machine_work(void)
{
    progress = testing_shared(sizeof *progress);
    cove_segment *segment = unit_open("work");
    killed_holder_is_recovered(segment);
    stream_arrives();
    grows(segment);
    looks_and_goes(segment);
}

void machine_work_alone(void)
{
    cove_segment *segment = unit_open("work");
    struct account *account = unit_object(segment, "a", sizeof *account);
    EXPECT(0, cove_mutex_lock(segment, &account->lock, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, &account->lock));
    grows(segment);
    looks_and_goes(segment);
}
