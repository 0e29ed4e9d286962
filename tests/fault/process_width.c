/* process_width.c - 32-bit and 64-bit processes in one segment at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The other process is process_width_peer, built with -m32, whose path is compiled in. Both work on the same
 * accounts, heap and streams, and each recovers what the other died over. */
#include "process.h"

#include <fcntl.h>

#define ROUNDS 3000

static pid_t run_peer(const char *what, const char *argument, int output)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (output >= 0)
            (void)dup2(output, STDOUT_FILENO);
        (void)execl(PROCESS_WIDTH_PEER, "process_width_peer", what, argument, (char *)NULL);
        _exit(126);
    }
    return pid;
}

/* Send and get back: the bytes come through a process of the other width, twice through the heap that both use. */
static void echo_through(cove_stream *to, cove_stream *from, unsigned rounds)
{
    uint64_t random = 3;
    for (unsigned i = 0; i < rounds; i++) {
        unsigned char sent[700], got[700];
        size_t size = unit_random(&random) % sizeof sent + 1;
        for (size_t k = 0; k < size; k++)
            sent[k] = (unsigned char)unit_random(&random);
        EXPECT((int64_t)size, cove_stream_write(to, sent, size, unit_patience()));
        for (size_t at = 0; at < size;)
            at += (size_t)EXPECT_GOOD(cove_stream_read(from, got + at, size - at, unit_patience()));
        assert_memory_equal(sent, got, size);
    }
}

static void work_beside(cove_segment *segment, struct bank *bank)
{
    for (int i = 0; i < ROUNDS; i++) {
        bank_begin(segment, bank);
        EXPECT(0, cove_free_from(segment, &bank->ref));
        EXPECT(0, cove_alloc_into(segment, &bank->ref, (size_t)(i * 37 % 900 + 1)));
        bank_end(segment, bank);
    }
}

static void test_width_both_work_in_one_segment(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_make(segment);
    cove_stream *to = NULL, *from = NULL;
    char rounds[16], byte;
    (void)snprintf(rounds, sizeof rounds, "%d", ROUNDS);
    EXPECT_GOOD(cove_stream_open_in(&to, segment, "there", COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&from, segment, "back", COVE_READER, NULL));
    pid_t pid = run_peer("work", rounds, -1);
    work_beside(segment, bank);
    echo_through(to, from, 500);
    EXPECT(0, cove_stream_close(to));
    EXPECT(0, cove_stream_read(from, &byte, 1, unit_patience()));
    testing_join(pid);
    EXPECT(0, cove_stream_close(from));
    bank_audit(segment, bank, 0);
    assert_int_equal(bank->cents[0], BANK_CENTS - 10 * ROUNDS);
    EXPECT(0, cove_free_from(segment, &bank->ref));
    EXPECT(0, cove_object_remove(segment, "there"));
    EXPECT(0, cove_object_remove(segment, "back"));
    assert_alone(segment, unit_free_bytes(segment));
    unit_close(segment);
    unit_remove("t");
}

static void test_width_each_recovers_the_other(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_make(segment);
    uint64_t free_bytes = unit_free_bytes(segment);
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = run_peer("hold", NULL, ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    struct cove_member_info holder;
    EXPECT(1, cove_mutex_holder(segment, &bank->lock[1], &holder));
    assert_int_equal(holder.pid, pid);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &bank->lock[0], 20 * UNIT_MS), pid_phrase(pid));
    testing_kill(pid);
    bank_audit(segment, bank, COVE_RECOVERED);
    assert_alone(segment, free_bytes);
    unit_close(segment);
    segment = unit_open("t");
    bank = bank_open(segment);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        cove_segment *own = unit_open("t");
        bank_begin(own, bank_open(own));
        _exit(0);
    }
    testing_join(pid);
    testing_join(run_peer("recover", NULL, -1));
    bank_audit(segment, bank, 0);
    assert_alone(segment, free_bytes);
    assert_int_equal(close(ends[0]) | close(ends[1]), 0);
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_width_both_work_in_one_segment),
    TEST(test_width_each_recovers_the_other),
};

int main(void)
{
    return testing_run("process_width", tests);
}
