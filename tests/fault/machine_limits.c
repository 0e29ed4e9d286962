/* machine_limits.c - limits of the process (setrlimit): descriptors, sizes of files, address space, and those that
 * do not matter.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each call is made with no descriptor free, with one, with two ..., until it succeeds: it says that they are short
 * and what to do, and leaves none open. Sizes of files are the kernel's to guard with a signal (SIGXFSZ) that kills:
 * it must never come. */
/* ctest: timeout=60 */
#include "machine_setup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

static cove_segment *segment;

/* ---- descriptors */

static void prepare_existing(void)
{
    unit_close(unit_open("t"));
    segment = NULL;
}

static void prepare_open(void)
{
    segment = unit_open_as("t", &(struct cove_options){.size_bytes = 4096});
}

static void close_and_remove(void)
{
    if (segment)
        unit_close(segment);
    segment = unit_open("t");
    unit_sound(segment);
    assert_int_equal(unit_stat(segment).members_alive, 1);
    unit_close(segment);
    unit_remove("t");
    segment = NULL;
}

static int64_t run_open(void)
{
    return cove_open(&segment, "t", NULL);
}

static int64_t run_open_readonly(void)
{
    return cove_open(&segment, "t", &(struct cove_options){.flags = COVE_READONLY});
}

static int64_t run_stat(void)
{
    struct cove_segment_info info;
    return cove_stat("t", &info);
}

static int64_t run_gc(void)
{
    return cove_gc(0, NULL, NULL);
}

static int count_one(const char *name, void *context)
{
    assert_string_equal(name, "t");
    ++*(int *)context;
    return 0;
}

static int64_t run_segments(void)
{
    int count = 0;
    int result = cove_segments(count_one, &count);
    assert_true(result < 0 || count == 1);
    return result;
}

static int64_t run_unlink(void)
{
    return cove_unlink("t", 0);
}

static void nothing_is_left(void)
{
    assert_false(unit_exists("t"));
    segment = NULL;
}

static int64_t run_grow(void)
{
    cove_ref ref = cove_alloc(segment, MACHINE_MIB);
    return ref ? cove_free(segment, ref) : -errno;
}

static int64_t run_lock_and_look(void)
{
    cove_mutex *lock = unit_object(segment, "m", sizeof *lock);
    struct cove_member_info member;
    EXPECT(0, cove_mutex_lock(segment, lock, COVE_FOREVER));
    EXPECT(1, cove_mutex_holder(segment, lock, &member));
    EXPECT(0, cove_mutex_unlock(segment, lock));
    return cove_segment_members(segment, &member, 1);
}

static int64_t run_stream(void)
{
    cove_stream *writer = NULL, *reader = NULL;
    int64_t result = cove_stream_open(&writer, "t/s", COVE_WRITER, NULL);
    if (result < 0)
        return result;
    result = cove_stream_open(&reader, "t/s", COVE_READER, NULL); /* the same handle, once more */
    char bytes[4], sentence[COVEI_ERROR_BYTES];
    covei_error_save(sentence);
    if (result >= 0) {
        EXPECT(4, cove_stream_write(writer, "abcd", 4, unit_patience()));
        EXPECT(4, cove_stream_read(reader, bytes, 4, unit_patience()));
    }
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_close(reader));
    if (result < 0)
        EXPECT(0, cove_unlink("t", 0)); /* or the next reader would be told of this writer's end */
    covei_error_restore(sentence);
    return result;
}

static int64_t run_close(void)
{
    EXPECT(0, cove_close(segment));
    segment = NULL;
    return 0;
}

static void test_limits_descriptors(void **state)
{
    (void)state;
    static const struct machine_call calls[] = {
        {"create", NULL, run_open, close_and_remove, 2, 3},
        {"open", prepare_existing, run_open, close_and_remove, 2, 3},
        {"open read-only", prepare_existing, run_open_readonly, close_and_remove, 1, 2},
        {"stat", prepare_existing, run_stat, close_and_remove, 1, 2},
        {"gc", prepare_existing, run_gc, close_and_remove, 2, 4},
        {"segments", prepare_existing, run_segments, close_and_remove, 1, 2},
        {"unlink", prepare_existing, run_unlink, nothing_is_left, 1, 2},
        {"stream", NULL, run_stream, close_and_remove, 2, 3},
        {"grow", prepare_open, run_grow, close_and_remove, 0, 0},
        {"lock", prepare_open, run_lock_and_look, close_and_remove, 0, 0},
        {"close", prepare_open, run_close, close_and_remove, 0, 0},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        machine_with_each_number(&calls[i]);
}

/* ---- sizes of files */

static void expect_limit_told(const char *what, int64_t result)
{
    if (result >= 0)
        return;
    EXPECT_WAS(-EFBIG, result);
    unit_expect_says(what, "ulimit -f", __FILE__, __LINE__);
}

static const uint64_t file_limits[] = {0, 1, 60, 4096, 36864, 40960, 200 << 10, 8 << 20, 8704 << 10, 9 << 20, 16 << 20};
#define FILE_LIMITS (sizeof file_limits / sizeof *file_limits)

static void create_within(void *argument)
{
    uint64_t limit = *(const uint64_t *)argument;
    unit_forget();
    machine_limit(RLIMIT_FSIZE, limit);
    int64_t result = run_open();
    if (limit <= 8 << 20) /* its lanes alone are as large */
        assert_true(result < 0);
    if (limit >= 9 << 20)
        assert_int_equal(result, COVE_CREATED);
    expect_limit_told("create", result);
    assert_int_equal(machine_files(), result >= 0);
    if (result < 0)
        return;
    result = run_grow();
    expect_limit_told("grow", result);
    machine_limit(RLIMIT_FSIZE, UINT64_MAX);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_limits_file_size_of_a_creator(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_LIMITS; i++) {
        uint64_t limit = file_limits[i];
        int status = testing_wait(testing_spawn(create_within, &limit));
        if (status != 0)
            fail_msg("limit %u: status %#x", (unsigned)limit, (unsigned)status);
    }
}

/* What is there already can be used, and removed, however low the limit is. */
static void use_within(void *argument)
{
    uint64_t limit = *(const uint64_t *)argument;
    machine_limit(RLIMIT_FSIZE, limit);
    segment = unit_open("t");
    (void)run_lock_and_look();
    EXPECT(0, cove_free(segment, cove_alloc(segment, 1000)));
    unit_sound(segment);
    EXPECT(0, run_stat());
    unit_close(segment);
    (void)EXPECT_GOOD(cove_gc(0, NULL, NULL));
    EXPECT(0, cove_unlink("t", 0));
    assert_int_equal(machine_files(), 0);
}

static void test_limits_file_size_of_a_user(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_LIMITS; i++) {
        prepare_open();
        (void)run_lock_and_look(); /* rows and lanes have their memory */
        unit_close(segment);
        uint64_t limit = file_limits[i];
        int status = testing_wait(testing_spawn(use_within, &limit));
        if (status != 0)
            fail_msg("limit %u: status %#x", (unsigned)limit, (unsigned)status);
    }
}

/* ---- address space */

static uint64_t own_address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    (void)fclose(file);
    return pages * MACHINE_PAGE;
}

static void open_within(void *argument)
{
    uint64_t more = *(const uint64_t *)argument;
    unit_forget();
    machine_limit(RLIMIT_AS, own_address_space() + more);
    int result = cove_open(&segment, "t", NULL);
    if (result < 0) {
        assert_null(segment);
        EXPECT_WAS(-ENOMEM, result);
        unit_expect_says("cove_open", more < MACHINE_MIB ? "" : "ulimit -v", __FILE__, __LINE__);
        assert_true(more < 10 * MACHINE_MIB);
    } else {
        assert_true(more >= 8 * MACHINE_MIB);
        (void)run_lock_and_look();
        unit_sound(segment);
        cove_ref ref = cove_alloc(segment, 4 * MACHINE_MIB);
        if (ref == 0) {
            assert_int_equal(errno, ENOSPC);
            unit_expect_says("cove_alloc", "may not grow beyond", __FILE__, __LINE__);
        } else
            memset(cove_at(segment, ref, 4 * MACHINE_MIB), 1, 4 * MACHINE_MIB);
        assert_true(ref != 0 || more < 32 * MACHINE_MIB);
        unit_close(segment);
    }
    machine_limit(RLIMIT_AS, UINT64_MAX);
    segment = unit_open("t");
    assert_int_equal(unit_stat(segment).members_alive, 1);
    unit_close(segment);
}

static void test_limits_address_space(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitizers want all of the address space");
    static const uint64_t mores[] = {0, 4096, 65536, 1 << 20, 4 << 20, 8 << 20, 9 << 20, 12 << 20, 40 << 20, 1 << 30};
    for (size_t i = 0; i < sizeof mores / sizeof *mores; i++) {
        unit_close(unit_open("t"));
        uint64_t more = mores[i];
        int status = testing_wait(testing_spawn(open_within, &more));
        if (status != 0)
            fail_msg("%u bytes more than it has: status %#x", (unsigned)more, (unsigned)status);
        segment = NULL;
        close_and_remove();
    }
}

/* ---- limits that Cove does not touch */

static void work_within(void *argument)
{
    machine_limit(*(const int *)argument, 0);
    machine_work_alone();
}

static void test_limits_that_do_not_matter(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int which;
    } limits[] = {
        {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},       {"RLIMIT_NPROC", RLIMIT_NPROC},   {"RLIMIT_CORE", RLIMIT_CORE},
        {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},     {"RLIMIT_LOCKS", RLIMIT_LOCKS},   {"RLIMIT_NICE", RLIMIT_NICE},
        {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING}, {"RLIMIT_RTPRIO", RLIMIT_RTPRIO}, {"RLIMIT_RSS", RLIMIT_RSS},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int which = limits[i].which;
        int status = testing_wait(testing_spawn(work_within, &which));
        if (status != 0)
            fail_msg("%s of 0: status %#x", limits[i].name, (unsigned)status);
    }
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_limits_descriptors, 20),         TEST_TIMEOUT(test_limits_file_size_of_a_creator, 20),
    TEST_TIMEOUT(test_limits_file_size_of_a_user, 20), TEST_TIMEOUT(test_limits_address_space, 20),
    TEST_TIMEOUT(test_limits_that_do_not_matter, 20),
};

int main(void)
{
    return testing_run("machine_limits", tests);
}
