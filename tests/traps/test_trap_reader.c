/* test_trap_reader.c - traps of reading with no synchronisation: lines read twice, lines never seen, lines not yet
 * there; and documents that are half old and half new.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "traps_sync.h"

#define LINES 28
#define LINE_BYTES 32

/* ---- row: "no synchronisation: the reader does not block" */

struct board {
    char line[LINE_BYTES];
};

struct tally {
    int read, distinct, empty;
    char before[LINE_BYTES];
};

static void tally_line(struct tally *tally, const char *line)
{
    tally->read++;
    if (*line == '\0')
        tally->empty++;
    else if (strcmp(line, tally->before) != 0)
        tally->distinct++;
    memcpy(tally->before, line, LINE_BYTES);
}

/* Writes a line each time that it is told to. */
static void write_at_own_pace(void *argument)
{
    struct board *board = argument;
    for (unsigned i = 1; i <= LINES; i++) {
        testing_await_count(0, i);
        (void)snprintf(board->line, sizeof board->line, "line %u", i);
        testing_reach(1);
    }
}

static void let_write(unsigned lines)
{
    for (unsigned i = 0; i < lines; i++) {
        testing_reach(0);
        testing_await_count(1, testing_reached(0));
    }
}

/* Trap: a reader that does not wait reads as many lines as were written, and other ones: 28 read, 9 distinct, 3 of
 * them empty. The pace is that of a reader who begins a little early, and of a writer in bursts. */
static void test_reader_that_does_not_wait_reads_other_lines(void **state)
{
    (void)state;
    struct board *board = testing_shared(sizeof *board);
    pid_t writer = testing_spawn(write_at_own_pace, board);
    struct tally tally = {0};
    for (int look = 0; look < 3; look++)
        tally_line(&tally, board->line);
    for (int burst = 0; burst < 9; burst++) {
        let_write(burst < 8 ? 3 : 4);
        for (int look = 0; look < (burst < 7 ? 3 : 2); look++)
            tally_line(&tally, board->line);
    }
    testing_join(writer);
    assert_int_equal(tally.read, LINES);
    assert_int_equal(tally.distinct, 9);
    assert_int_equal(tally.empty, 3);
}

/* One line at a time, handed over. */
struct mailbox {
    cove_mutex lock;
    cove_condition changed;
    int full;
    char line[LINE_BYTES];
};

static void await(cove_segment *segment, struct mailbox *box, int full)
{
    while (box->full != full)
        EXPECT(0, cove_condition_wait(segment, &box->changed, &box->lock, COVE_FOREVER));
}

static void hand_over(cove_segment *segment, struct mailbox *box, char *line, bool put)
{
    EXPECT(0, cove_mutex_lock(segment, &box->lock, COVE_FOREVER));
    await(segment, box, !put);
    memcpy(put ? box->line : line, put ? line : box->line, LINE_BYTES);
    box->full = put;
    EXPECT(0, cove_condition_broadcast(segment, &box->changed));
    EXPECT(0, cove_mutex_unlock(segment, &box->lock));
}

static void put_lines(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("post");
    struct mailbox *box = unit_object(segment, "box", sizeof *box);
    for (unsigned i = 1; i <= LINES; i++) {
        char line[LINE_BYTES] = "";
        (void)snprintf(line, sizeof line, "line %u", i);
        hand_over(segment, box, line, true);
    }
    unit_close(segment);
}

static void take_lines(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("post");
    struct mailbox *box = unit_object(segment, "box", sizeof *box);
    struct tally tally = {0};
    EXPECT(0, cove_mutex_lock(segment, &box->lock, COVE_FOREVER)); /* early: there is nothing, and it says so */
    EXPECT(-ETIMEDOUT, cove_condition_wait(segment, &box->changed, &box->lock, 20 * UNIT_MS));
    assert_int_equal(box->full, 0);
    EXPECT(0, cove_mutex_unlock(segment, &box->lock));
    testing_reach(0);
    for (unsigned i = 1; i <= LINES; i++) {
        char line[LINE_BYTES] = "", expected[LINE_BYTES];
        (void)snprintf(expected, sizeof expected, "line %u", i);
        hand_over(segment, box, line, false);
        assert_string_equal(line, expected);
        tally_line(&tally, line);
    }
    assert_int_equal(tally.read, LINES);
    assert_int_equal(tally.distinct, LINES);
    assert_int_equal(tally.empty, 0);
    unit_close(segment);
}

/* Cove: who has nothing to read sleeps until there is something, and gets each line once. */
static void test_reader_that_waits_reads_each_line_once(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("post");
    pid_t reader = testing_spawn(take_lines, NULL);
    testing_await(0);
    TRAP_AWAIT_SLEEP(reader);
    testing_join(testing_spawn(put_lines, NULL));
    testing_join(reader);
    unit_close(segment);
    unit_remove("post");
}

static void stream_lines(void *argument)
{
    (void)argument;
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open(&stream, "post/lines", COVE_WRITER, NULL));
    for (unsigned i = 1; i <= LINES; i++) {
        char line[LINE_BYTES];
        int length = snprintf(line, sizeof line, "line %u\n", i);
        EXPECT(length, cove_stream_write(stream, line, (size_t)length, COVE_FOREVER));
    }
    EXPECT(0, cove_stream_close(stream));
}

/* Cove: and a stream is that ready made. */
static void test_reader_of_a_stream_reads_each_line_once(void **state)
{
    (void)state;
    cove_stream *stream = NULL;
    char text[LINES * LINE_BYTES] = "", expected[LINES * LINE_BYTES] = "";
    EXPECT(COVE_CREATED, cove_stream_open(&stream, "post/lines", COVE_READER, NULL));
    EXPECT(-ETIMEDOUT, cove_stream_read(stream, text, sizeof text, 20 * UNIT_MS));
    testing_join(testing_spawn(stream_lines, NULL));
    for (size_t used = 0, got = 1; got > 0; used += got)
        got = (size_t)EXPECT_GOOD(cove_stream_read(stream, text + used, sizeof text - used, COVE_FOREVER));
    for (unsigned i = 1; i <= LINES; i++)
        (void)snprintf(expected + strlen(expected), LINE_BYTES, "line %u\n", i);
    assert_string_equal(text, expected);
    EXPECT(0, cove_stream_close(stream));
    unit_remove("post");
}

/* ---- row: the Google-doc analogy: one copy, seen at once */

#define PAGES 4

struct document {
    unsigned page[PAGES]; /* the version of each; a document is whole when all are the same */
};

static bool is_whole(const struct document *document)
{
    for (int page = 1; page < PAGES; page++)
        if (document->page[page] != document->page[0])
            return false;
    return true;
}

static void write_half(struct document *document, unsigned version)
{
    for (int page = 0; page < PAGES / 2; page++)
        document->page[page] = version;
}

static void write_rest(struct document *document, unsigned version)
{
    for (int page = PAGES / 2; page < PAGES; page++)
        document->page[page] = version;
}

static void write_slowly(void *argument)
{
    struct document *document = argument;
    write_half(document, 2);
    testing_reach(0);
    testing_await(1);
    write_rest(document, 2);
}

/* A sequence lock made by hand, as in many a program: odd while somebody writes. */
struct sequenced {
    _Atomic unsigned sequence;
    struct document document;
};

static void write_half_and_be_killed(void *argument)
{
    struct sequenced *shared = argument;
    atomic_fetch_add_explicit(&shared->sequence, 1, memory_order_seq_cst);
    write_half(&shared->document, 3);
    (void)raise(SIGKILL);
}

/* Trap: everybody sees each change at once, so also half of it; and where readers look whether somebody writes, one
 * that is killed writes for ever. */
static void test_reader_sees_half_a_document(void **state)
{
    (void)state;
    struct document *document = testing_shared(sizeof *document);
    pid_t writer = testing_spawn(write_slowly, document);
    testing_await(0);
    struct document seen = *document;
    assert_false(is_whole(&seen));
    testing_reach(1);
    testing_join(writer);

    struct sequenced *shared = testing_shared(sizeof *shared);
    EXPECT_DEATH(SIGKILL, write_half_and_be_killed, shared);
    assert_int_equal(shared->sequence % 2, 1); /* a reader would go round until this is even */
    assert_false(is_whole(&shared->document)); /* and here is what he is kept from */
}

struct guarded {
    cove_mutex lock;
    cove_revision revision;
    struct document document;
};

static struct guarded *guarded_open(cove_segment **segment)
{
    *segment = unit_open("docs");
    return unit_object(*segment, "letter", sizeof(struct guarded));
}

static void begin_to_write(cove_segment *segment, struct guarded *letter)
{
    EXPECT(0, cove_begin(segment));
    EXPECT_GOOD(cove_mutex_lock(segment, &letter->lock, COVE_FOREVER));
    EXPECT(0, cove_revision_change(segment, &letter->revision));
    EXPECT(0, cove_save(segment, &letter->document, sizeof letter->document));
    write_half(&letter->document, 2);
}

static void write_slowly_by_revision(void *argument)
{
    (void)argument;
    cove_segment *segment = NULL;
    struct guarded *letter = guarded_open(&segment);
    begin_to_write(segment, letter);
    testing_reach(0);
    testing_await(1);
    write_rest(&letter->document, 2);
    EXPECT(0, cove_commit(segment));
    unit_close(segment);
}

static void die_by_revision(void *argument)
{
    (void)argument;
    cove_segment *segment = NULL;
    struct guarded *letter = guarded_open(&segment);
    begin_to_write(segment, letter);
    (void)raise(SIGKILL);
}

static bool try_read(cove_segment *segment, const struct guarded *letter, struct document *seen)
{
    uint64_t revision = cove_revision_read(segment, &letter->revision);
    memcpy(seen, &letter->document, sizeof *seen);
    return cove_revision_same(&letter->revision, revision) == 1;
}

/* Cove, reading without a lock: what is not of one moment is not taken for whole; a killed writer's half goes back. */
static void test_reader_by_revision_sees_whole_documents(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct guarded *letter = guarded_open(&segment);
    struct document seen;
    assert_true(try_read(segment, letter, &seen));
    pid_t writer = testing_spawn(write_slowly_by_revision, NULL);
    testing_await(0);
    assert_false(try_read(NULL, letter, &seen)); /* it is being written, and he says so */
    assert_false(try_read(segment, letter, &seen));
    testing_reach(1);
    testing_join(writer);
    assert_true(try_read(segment, letter, &seen));
    assert_true(is_whole(&seen) && seen.page[0] == 2);

    memset(&letter->document, 0, sizeof letter->document);
    EXPECT_DEATH(SIGKILL, die_by_revision, NULL);
    while (!try_read(segment, letter, &seen)) {} /* the reader puts it right himself */
    assert_true(is_whole(&seen) && seen.page[0] == 0);
    unit_close(segment);
    unit_remove("docs");
}

struct locked {
    cove_rwlock lock;
    struct document document;
};

static void write_slowly_under_rwlock(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("docs");
    struct locked *letter = unit_object(segment, "letter", sizeof *letter);
    EXPECT(0, cove_begin(segment));
    EXPECT_GOOD(cove_rwlock_lock(segment, &letter->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &letter->document, sizeof letter->document));
    write_half(&letter->document, 2);
    testing_reach(0);
    testing_await(1);
    if (testing_reached(2) != 0)
        (void)raise(SIGKILL);
    write_rest(&letter->document, 2);
    EXPECT(0, cove_commit(segment));
    unit_close(segment);
}

/* Cove, reading under a lock: who reads meanwhile waits, or is told whom for. */
static void test_reader_under_rwlock_sees_whole_documents(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("docs");
    struct locked *letter = unit_object(segment, "letter", sizeof *letter);
    char pid[32];
    pid_t writer = testing_spawn(write_slowly_under_rwlock, NULL);
    testing_await(0);
    (void)snprintf(pid, sizeof pid, "pid %d", (int)writer);
    EXPECT_SAYS(-EBUSY, cove_rwlock_lock_shared(segment, &letter->lock, COVE_NOWAIT), pid);
    EXPECT_SAYS(-ETIMEDOUT, cove_rwlock_lock_shared(segment, &letter->lock, 20 * UNIT_MS), pid);
    testing_reach(1);
    EXPECT(0, cove_rwlock_lock_shared(segment, &letter->lock, COVE_FOREVER));
    assert_true(is_whole(&letter->document) && letter->document.page[0] == 2);
    EXPECT(0, cove_rwlock_unlock(segment, &letter->lock));
    testing_join(writer);

    memset(&letter->document, 0, sizeof letter->document);
    testing_reach(2);
    EXPECT_DEATH(SIGKILL, write_slowly_under_rwlock, NULL);
    EXPECT(COVE_RECOVERED, cove_rwlock_lock_shared(segment, &letter->lock, COVE_NOWAIT));
    assert_true(is_whole(&letter->document) && letter->document.page[0] == 0);
    EXPECT(0, cove_rwlock_unlock(segment, &letter->lock));
    unit_close(segment);
    unit_remove("docs");
}

static const struct testing_case tests[] = {
    TEST(test_reader_that_does_not_wait_reads_other_lines), TEST(test_reader_that_waits_reads_each_line_once),
    TEST(test_reader_of_a_stream_reads_each_line_once),     TEST(test_reader_sees_half_a_document),
    TEST(test_reader_by_revision_sees_whole_documents),     TEST(test_reader_under_rwlock_sees_whole_documents),
};

int main(void)
{
    return testing_run("trap_reader", tests);
}
