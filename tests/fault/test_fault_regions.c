/* test_fault_regions.c - each system call and each allocation fails once, on regions and segments of every backend.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What must hold is said in faulty_each.h; besides, a name leads to a whole thing or to none, and what an operation
 * was to change is as before or as it was to be. Segments of POSIX shared memory are test_fault.c's. */
#include "faulty_each.h"

#include <cove/region.h>
#include <sched.h>
#include <sys/shm.h>
#include <sys/socket.h>

#define BYTES ((size_t)20000)
#define NEW_BYTES ((size_t)50000)

static cove_region *region;
static cove_segment *segment;
static char name[1200];

/* ---- names of all backends, in this test's own directory; a System V key that this process alone uses, and where it
 * may have them the books of an IPC namespace of its own, in which nothing is left even when the test fails */

enum backend { POSIX, NAMED_FILE, NAMELESS, SYSTEM_V, BACKENDS };

static key_t own_key(void)
{
    return (key_t)(0x0c0f0000u ^ (unsigned)getpid());
}

static const char *use_name(enum backend backend, const char *operation)
{
    static const char *const titles[] = {"posix", "file", "memfd", "sysv"};
    static char text[128];
    if (backend == NAMED_FILE)
        (void)snprintf(name, sizeof name, "file:%s/file", testing_dir());
    else if (backend == SYSTEM_V)
        (void)snprintf(name, sizeof name, "sysv:0x%08x", (unsigned)own_key());
    else
        (void)snprintf(name, sizeof name, "%s", backend == POSIX ? "r" : "memfd:");
    (void)snprintf(text, sizeof text, "%s: %s", titles[backend], operation);
    return text;
}

static bool has_name(void)
{
    return strcmp(name, "memfd:") != 0;
}

static void each(enum backend backend, struct faulty_operation operation)
{
    static bool asked;
    if (!asked)
        (void)unshare(CLONE_NEWIPC);
    asked = true;
    operation.name = use_name(backend, operation.name);
    faulty_each(&operation);
    assert_true(shmget(own_key(), 0, 0) < 0); /* nothing is left in the kernel's books either */
}

/* ---- regions */

static void expect_bytes(const cove_region *which, size_t size_bytes, unsigned char value)
{
    const unsigned char *bytes = cove_region_data(which);
    assert_true(cove_region_size(which) >= size_bytes);
    assert_int_equal(bytes[0], value);
    assert_int_equal(bytes[size_bytes - 1], value);
}

static int64_t run_open(void)
{
    const struct cove_region_options options = {.flags = COVE_NODUMP, .size_bytes = BYTES, .timeout_ns = 100 * UNIT_MS};
    return cove_region_open(&region, name, &options);
}

static void forget(void)
{
    region = NULL;
    segment = NULL;
}

static void close_region(void)
{
    if (region)
        EXPECT(0, cove_region_close(region));
    region = NULL;
}

static void remove_region(void)
{
    close_region();
    if (has_name())
        EXPECT(0, cove_region_unlink(name, 0));
}

static void settle_create(int64_t result)
{
    struct cove_region_info info;
    if (result < 0) {
        assert_null(region);
        if (has_name())
            EXPECT(-ENOENT, cove_region_look(name, &info)); /* neither half nor whole */
        EXPECT(COVE_CREATED, run_open());
    }
    memset(cove_region_data(region), 3, BYTES);
    remove_region();
}

static void prepare_region(void)
{
    EXPECT(COVE_CREATED, run_open());
    memset(cove_region_data(region), 3, BYTES);
}

static void prepare_closed(void)
{
    prepare_region();
    close_region();
}

static void settle_open(int64_t result)
{
    if (result < 0)
        assert_null(region);
    else
        expect_bytes(region, BYTES, 3);
    close_region();
    EXPECT(0, run_open());
    expect_bytes(region, BYTES, 3);
    remove_region();
}

static int64_t run_look(void)
{
    struct cove_region_info info;
    return cove_region_look(name, &info);
}

static void settle_look(int64_t result)
{
    (void)result;
    EXPECT(0, run_open());
    expect_bytes(region, BYTES, 3);
    remove_region();
}

static int64_t run_unlink(void)
{
    return cove_region_unlink(name, 0);
}

static void settle_unlink(int64_t result)
{
    if (result < 0)
        remove_region();
    struct cove_region_info info;
    EXPECT(-ENOENT, cove_region_look(name, &info));
}

static int64_t run_rights(void)
{
    return cove_region_set_rights(name, 0640, "root");
}

static void settle_rights(int64_t result)
{
    struct cove_region_info info;
    EXPECT(0, cove_region_look(name, &info));
    assert_true(info.mode == 0640 || (result < 0 && info.mode == 0600));
    remove_region();
}

static int64_t run_replace(void)
{
    static unsigned char bytes[NEW_BYTES];
    memset(bytes, 4, sizeof bytes);
    return cove_region_replace(name, bytes, sizeof bytes, NULL);
}

static void settle_replace(int64_t result)
{
    expect_bytes(region, BYTES, 3); /* who had it keeps it */
    close_region();
    EXPECT(0, cove_region_open(&region, name, NULL));
    if (result >= 0)
        expect_bytes(region, NEW_BYTES, 4);
    else
        assert_true(cove_region_size(region) == BYTES || cove_region_size(region) == NEW_BYTES); /* whole, either */
    expect_bytes(region, cove_region_size(region), cove_region_size(region) == BYTES ? 3 : 4);
    remove_region();
}

static int touch(void *data, uint64_t size_bytes, void *context)
{
    (void)context;
    memset(data, 3, (size_t)size_bytes);
    return 7;
}

static int64_t run_use(void)
{
    int64_t result = cove_region_guard(region, touch, NULL);
    if (result < 0)
        return result;
    assert_int_equal(result, 7);
    result = cove_region_protect(region, 0, 0, COVE_ACCESS_READ);
    if (result == 0)
        result = cove_region_protect(region, 0, 0, COVE_ACCESS_WRITE);
    struct cove_region_info info;
    return result < 0 ? result : cove_region_stat(region, &info);
}

static void settle_use(int64_t result)
{
    (void)result;
    EXPECT(0, cove_region_protect(region, 0, 0, COVE_ACCESS_WRITE)); /* it may have failed between the two */
    EXPECT(0, run_use());
    expect_bytes(region, BYTES, 3);
    remove_region();
}

static int64_t run_sync(void)
{
    return cove_region_sync(region, 0, 0);
}

/* A descriptor, sent and received, and opened as a region. */
static int64_t run_pass(void)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    int file = cove_region_fd(region), got = -1;
    int64_t result = file < 0 ? file : cove_fd_send(ends[0], file);
    if (result == 0)
        result = got = cove_fd_receive(ends[1]);
    if (got >= 0) {
        char received[16];
        cove_region *other = NULL;
        (void)snprintf(received, sizeof received, "fd:%d", got);
        result = cove_region_open(&other, received, NULL);
        if (result >= 0) {
            expect_bytes(other, BYTES, 3);
            EXPECT(0, cove_region_close(other));
        }
        (void)close(got);
    }
    if (file >= 0)
        (void)close(file);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return result;
}

static void settle_pass(int64_t result)
{
    (void)result;
    EXPECT(0, run_pass());
    remove_region();
}

static void test_fault_region_create(void **state)
{
    (void)state;
    for (int i = 0; i < BACKENDS; i++)
        each((enum backend)i, (struct faulty_operation){"create", forget, run_open, settle_create, 3});
}

static void test_fault_region_open(void **state)
{
    (void)state;
    static const enum backend named[] = {POSIX, NAMED_FILE, SYSTEM_V};
    for (int i = 0; i < 3; i++) {
        each(named[i], (struct faulty_operation){"open", prepare_closed, run_open, settle_open, 3});
        each(named[i], (struct faulty_operation){"look", prepare_closed, run_look, settle_look, 1});
        each(named[i], (struct faulty_operation){"unlink", prepare_closed, run_unlink, settle_unlink, 2});
        if (geteuid() == 0)
            each(named[i], (struct faulty_operation){"rights", prepare_closed, run_rights, settle_rights, 3});
    }
}

static void test_fault_region_replace(void **state)
{
    (void)state;
    each(POSIX, (struct faulty_operation){"replace", prepare_region, run_replace, settle_replace, 4});
    each(NAMED_FILE, (struct faulty_operation){"replace", prepare_region, run_replace, settle_replace, 4});
}

static void test_fault_region_use(void **state)
{
    (void)state;
    for (int i = 0; i < BACKENDS; i++)
        each((enum backend)i, (struct faulty_operation){"use", prepare_region, run_use, settle_use, 3});
    each(NAMED_FILE, (struct faulty_operation){"sync", prepare_region, run_sync, settle_use, 1});
}

static void test_fault_region_pass(void **state)
{
    (void)state;
    for (int i = 0; i < SYSTEM_V; i++)
        each((enum backend)i, (struct faulty_operation){"pass", prepare_region, run_pass, settle_pass, 4});
}

/* ---- segments */

static int64_t run_segment(void)
{
    return cove_open(&segment, name, &(struct cove_options){.size_bytes = 4096, .timeout_ns = 100 * UNIT_MS});
}

static void use_and_remove(void)
{
    if (!segment)
        (void)EXPECT_GOOD(run_segment());
    unit_sound(segment);
    assert_int_equal(unit_stat(segment).members_alive, 1);
    EXPECT(0, cove_free(segment, cove_alloc(segment, 100)));
    unit_close(segment);
    segment = NULL;
    if (has_name())
        EXPECT(0, cove_unlink(name, 0));
}

static void settle_segment(int64_t result)
{
    if (result < 0)
        assert_null(segment);
    use_and_remove();
}

static void prepare_segment(void)
{
    (void)EXPECT_GOOD(run_segment());
    unit_close(segment);
    segment = NULL;
}

static void prepare_open_segment(void)
{
    (void)EXPECT_GOOD(run_segment());
    EXPECT(0, cove_free(segment, cove_alloc(segment, 100)));
}

static int64_t run_segment_unlink(void)
{
    return cove_unlink(name, 0);
}

static void settle_segment_unlink(int64_t result)
{
    struct cove_segment_info info;
    if (result >= 0)
        EXPECT(-ENOENT, cove_stat(name, &info));
    use_and_remove(); /* the old one or a new one */
}

static int64_t run_segment_stat(void)
{
    struct cove_segment_info info;
    return cove_stat(name, &info);
}

static void settle_nothing(int64_t result)
{
    (void)result;
    use_and_remove();
}

static int64_t run_segment_sync(void)
{
    return cove_sync(segment, 100 * UNIT_MS);
}

static int64_t run_segment_close(void)
{
    return cove_close(segment);
}

static void settle_segment_close(int64_t result)
{
    if (result >= 0)
        segment = NULL;
    use_and_remove();
}

static int64_t run_segment_fd(void)
{
    int file = cove_segment_fd(segment);
    return file < 0 ? file : close(file);
}

static void test_fault_segment_create(void **state)
{
    (void)state;
    for (int i = NAMED_FILE; i < BACKENDS; i++)
        each((enum backend)i, (struct faulty_operation){"segment, create", forget, run_segment, settle_segment, 8});
}

static void test_fault_segment_open(void **state)
{
    (void)state;
    static const enum backend named[] = {NAMED_FILE, SYSTEM_V};
    for (int i = 0; i < 2; i++) {
        each(named[i], (struct faulty_operation){"segment, open", prepare_segment, run_segment, settle_segment, 7});
        each(named[i],
             (struct faulty_operation){"segment, stat", prepare_segment, run_segment_stat, settle_nothing, 4});
        each(named[i], (struct faulty_operation){"segment, unlink", prepare_segment, run_segment_unlink,
                                                 settle_segment_unlink, 4});
    }
}

static void test_fault_segment_close(void **state)
{
    (void)state;
    for (int i = NAMED_FILE; i < BACKENDS; i++)
        each((enum backend)i, (struct faulty_operation){"segment, close", prepare_open_segment, run_segment_close,
                                                        settle_segment_close, 1});
    each(NAMED_FILE,
         (struct faulty_operation){"segment, sync", prepare_open_segment, run_segment_sync, settle_nothing, 4});
    each(NAMELESS,
         (struct faulty_operation){"segment, descriptor", prepare_open_segment, run_segment_fd, settle_nothing, 1});
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_fault_region_create, 30),  TEST_TIMEOUT(test_fault_region_open, 30),
    TEST_TIMEOUT(test_fault_region_replace, 30), TEST_TIMEOUT(test_fault_region_use, 30),
    TEST_TIMEOUT(test_fault_region_pass, 30),    TEST_TIMEOUT(test_fault_segment_create, 30),
    TEST_TIMEOUT(test_fault_segment_open, 30),   TEST_TIMEOUT(test_fault_segment_close, 30),
};

int main(void)
{
    return testing_run("fault_regions", tests);
}
