/* machine_each.c - an operation with nothing free, with one page or descriptor free, with two ..., until it succeeds.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "machine_setup.h"

#include <fcntl.h>
#include <sys/resource.h>

#define PAGES_MAX 400u
#define DESCRIPTORS_LOOKED_AT 1024

/* ---- pages */

static void expect_refusal(const struct machine_operation *operation, int64_t result, uint64_t pages, int files)
{
    EXPECT_WAS(-ENOSPC, result);
    machine_expect_full(operation->name);
    assert_int_equal(machine_files(), files);
    if (operation->gives_all_back)
        machine_expect_pages(pages);
}

static bool good_in(const struct machine_operation *operation, uint64_t pages)
{
    uint64_t free_before = machine_free_pages();
    if (operation->prepare)
        operation->prepare();
    machine_leave_pages(pages);
    int files = machine_files();
    unit_forget();
    int64_t result = operation->run();
    if (getenv("COVE_TEST_VERBOSE"))
        print_message("%s, %u pages: %s: %s\n", operation->name, (unsigned)pages, cove_errname((int)result),
                      result < 0 ? cove_last_error() : "");
    if (result < 0)
        expect_refusal(operation, result, pages, files);
    if (operation->settle)
        operation->settle(result);
    machine_make_room();
    if (result < 0)
        (void)EXPECT_GOOD(operation->run());
    operation->clear();
    assert_int_equal(machine_files(), 0);
    machine_expect_pages(free_before);
    return result >= 0;
}

void machine_at_each_page(const struct machine_operation *operation)
{
    machine_own_mounts();
    machine_mount(MACHINE_ROOM_BYTES, "");
    unsigned needed = 0;
    while (needed < PAGES_MAX && !good_in(operation, needed))
        needed++;
    print_message("%s: needs %u pages\n", operation->name, needed);
    assert_in_range(needed, operation->least, operation->most);
    for (unsigned more = 1; more <= 3; more++)
        assert_true(good_in(operation, needed + more));
    machine_unmount();
}

/* ---- limits */

#ifdef __GLIBC__ /* which has an enum for them in C */
#define LIMIT_NAME(which) ((__rlimit_resource_t)(which))
#else
#define LIMIT_NAME(which) (which)
#endif

void machine_limit(int which, uint64_t value)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(LIMIT_NAME(which), &limit), 0);
    limit.rlim_cur = value == UINT64_MAX ? limit.rlim_max : (rlim_t)value;
    assert_int_equal(setrlimit(LIMIT_NAME(which), &limit), 0);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int i = 0; i < DESCRIPTORS_LOOKED_AT; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

/* So many numbers are left for new descriptors. */
static void leave_descriptors(int wanted)
{
    int limit = 0;
    for (int left = 0; left < wanted || fcntl(limit, F_GETFD) >= 0; limit++)
        left += fcntl(limit, F_GETFD) < 0;
    machine_limit(RLIMIT_NOFILE, (uint64_t)limit);
}

static bool good_with(const struct machine_call *call, int left)
{
    if (call->prepare)
        call->prepare();
    int before = open_descriptors();
    unit_forget();
    leave_descriptors(left);
    int64_t result = call->run();
    machine_limit(RLIMIT_NOFILE, UINT64_MAX);
    if (result < 0) {
        if (result != -EMFILE)
            fail_msg("%s with %d descriptors left: %s: %s", call->name, left, cove_errname((int)result),
                     cove_last_error());
        unit_expect_says(call->name, "ulimit -n", __FILE__, __LINE__);
        assert_int_equal(open_descriptors(), before);
        (void)EXPECT_GOOD(call->run());
    }
    call->clear();
    return result >= 0;
}

void machine_with_each_number(const struct machine_call *call)
{
    int needed = 0;
    while (!good_with(call, needed))
        needed++;
    print_message("%s: needs %d descriptors\n", call->name, needed);
    assert_in_range(needed, call->least, call->most);
    assert_true(good_with(call, needed + 1));
    assert_int_equal(machine_files(), 0);
}
