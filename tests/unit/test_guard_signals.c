/* test_guard_signals.c - guarded mappings beside what a program does with SIGBUS on its own.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "guard.h"

/* ---- the program's own handlers */

static sigjmp_buf back;
static volatile sig_atomic_t own_calls;

static void jump_back(int number)
{
    (void)number;
    own_calls++;
    siglongjmp(back, 1);
}

/* Puts memory there, as a pager does, so that the access succeeds. */
static void mend(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    own_calls++;
    uintptr_t at = (uintptr_t)info->si_addr & ~(uintptr_t)4095;
    (void)mmap((void *)at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void set_handler(void (*handler)(int number), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
}

static void set_mending(int flags)
{
    struct sigaction action = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO | flags};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
}

/* Ours is set, and stays. */
static void set_ours(void)
{
    int result = 0;
    cove_region *region = region_of("ours", 0);
    EXPECT(0, cove_region_guard(region, touch_nothing, &result));
    drop("ours", region);
}

static void test_guard_before_and_after_an_own_handler_serves_both(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    for (int ours_first = 0; ours_first < 2; ours_first++) {
        if (ours_first)
            set_ours();
        set_mending(0);
        own_calls = 0;
        cove_region *region = region_of("r", 0);
        memset(cove_region_data(region), 1, SIZE);
        struct visit visit = {.name = "r"};
        EXPECT(COVE_ETRUNCATED, cove_region_guard(region, touch_all, &visit));
        assert_int_equal(own_calls, 0); /* that was ours */
        for (int i = 1; i <= 3; i++) {
            volatile unsigned char *page = lost_page();
            page[7] = 1;
            assert_int_equal(own_calls, i);
            assert_int_equal(page[7], 1);
            drop_page(page);
        }
        drop("r", region);
    }
}

/* The second fault comes from deeper in the stack than the first, whose handler left by a jump. */
static void __attribute__((noinline)) fault_deeper(volatile unsigned char *page)
{
    volatile unsigned char frame[4000];
    frame[0] = frame[sizeof frame - 1] = 1;
    page[0] = frame[0];
}

static void jumps_out_at_each_depth(void *flags)
{
    set_handler(jump_back, *(int *)flags);
    set_ours();
    volatile unsigned char *page = lost_page();
    for (volatile int i = 1; i <= 3; i++) {
        if (sigsetjmp(back, 1) == 0)
            page[0] = 1;
        assert_int_equal(own_calls, 2 * i - 1);
        if (sigsetjmp(back, 1) == 0)
            fault_deeper(page);
        assert_int_equal(own_calls, 2 * i);
    }
    drop_page(page);
}

static void test_guard_leaves_handlers_their_jumps_from_each_depth(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    static int flags[] = {0, SA_NODEFER, SA_ONSTACK, SA_RESTART};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        testing_join(testing_spawn(jumps_out_at_each_depth, &flags[i]));
}

/* Out of the access itself: what was guarded then must not be guarded for ever. */
static int fault_of_its_own(void *data, uint64_t size_bytes, void *context)
{
    (void)data;
    (void)size_bytes;
    *(volatile unsigned char *)context = 1;
    return 0;
}

static void test_guard_left_by_a_jump_ends_with_the_region(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    set_handler(jump_back, 0);
    volatile unsigned char *page = lost_page();
    for (volatile unsigned i = 0; i < 600; i++) { /* there are 256 places */
        cove_region *region = region_of("r", 0);
        if (sigsetjmp(back, 1) == 0)
            EXPECT(0, cove_region_guard(region, fault_of_its_own, (void *)(uintptr_t)page));
        drop("r", region);
    }
    assert_int_equal(own_calls, 600);
    drop_page(page);
}

/* One that is good for once, as crash handlers are that print and return: the second fault has the default action. */
static void count_and_return(int number)
{
    (void)number;
    testing_reach(5);
    if (testing_reached(5) > 3) /* it would come again and again */
        _exit(9);
}

static void dies_after_its_handler(void *unused)
{
    (void)unused;
    set_handler(count_and_return, (int)SA_RESETHAND);
    set_ours();
    *lost_page() = 1;
}

static void test_guard_leaves_a_handler_for_once_its_once(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    int status = testing_wait(testing_spawn(dies_after_its_handler, NULL));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    assert_int_equal(testing_reached(5), 1);
}

static void dies_of_a_signal_that_was_sent(void *disposition)
{
    struct sigaction action = {.sa_handler = disposition ? SIG_IGN : SIG_DFL};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
    set_ours();
    assert_int_equal(raise(SIGBUS), 0);
    testing_reach(6);
}

/* By kill, not by an access: as without Cove, ignored or fatal; an access is fatal even where it is ignored. */
static void faults_ignored(void *unused)
{
    (void)unused;
    set_handler(SIG_IGN, 0);
    set_ours();
    *lost_page() = 1;
}

static void test_guard_leaves_sent_signals_their_action(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    int ignored = 1;
    testing_join(testing_spawn(dies_of_a_signal_that_was_sent, &ignored));
    assert_int_equal(testing_reached(6), 1);
    int status = testing_wait(testing_spawn(dies_of_a_signal_that_was_sent, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    assert_int_equal(testing_reached(6), 1);
    status = testing_wait(testing_spawn(faults_ignored, NULL));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static struct sigaction found;

/* A handler that calls what was there before it, which is ours. */
static void pass_on_to_what_was(int number, siginfo_t *info, void *context)
{
    own_calls++;
    if (own_calls > 10)
        _exit(9);
    found.sa_sigaction(number, info, context);
}

static void chains(void *unused)
{
    (void)unused;
    set_ours();
    struct sigaction action = {.sa_sigaction = pass_on_to_what_was, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGBUS, &action, &found), 0);
    cove_region *region = region_of("r", 0);
    memset(cove_region_data(region), 1, SIZE);
    struct visit visit = {.name = "r"};
    EXPECT(COVE_ETRUNCATED, cove_region_guard(region, touch_all, &visit)); /* ours is before it again */
    drop("r", region);
    *lost_page() = 1; /* ours, theirs, ours: nobody's, so it kills */
}

static void test_guard_in_a_circle_of_handlers_ends(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    int status = testing_wait(testing_spawn(chains, NULL));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

/* Its mask is kept: what it does not want to be interrupted by, it is not. */
static void looks_at_its_mask(int number)
{
    sigset_t mask;
    (void)number;
    own_calls++;
    if (sigprocmask(SIG_BLOCK, NULL, &mask) != 0 || sigismember(&mask, SIGUSR2) != 1)
        _exit(9);
    siglongjmp(back, 1);
}

static void test_guard_leaves_a_handler_its_mask(void **state)
{
    (void)state;
    SKIP_WHERE_SIGNALS_ARE_OTHERS();
    struct sigaction action = {.sa_handler = looks_at_its_mask};
    (void)sigaddset(&action.sa_mask, SIGUSR2);
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
    set_ours();
    volatile unsigned char *page = lost_page();
    if (sigsetjmp(back, 1) == 0)
        *page = 1;
    assert_int_equal(own_calls, 1);
    drop_page(page);
}

static const struct testing_case tests[] = {
    TEST(test_guard_before_and_after_an_own_handler_serves_both),
    TEST(test_guard_leaves_handlers_their_jumps_from_each_depth),
    TEST(test_guard_left_by_a_jump_ends_with_the_region),
    TEST(test_guard_leaves_a_handler_for_once_its_once),
    TEST(test_guard_leaves_sent_signals_their_action),
    TEST(test_guard_in_a_circle_of_handlers_ends),
    TEST(test_guard_leaves_a_handler_its_mask),
};

int main(void)
{
    return testing_run("guard_signals", tests);
}
