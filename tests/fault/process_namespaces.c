/* process_namespaces.c - members whose pids mean nothing to each other: a PID namespace for each, user namespaces.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Containers that share /dev/shm see each other's segments and not each other's processes; each may have a process
 * 1. Life and death are the kernel's word on a lock, so none of it matters. As an ordinary user these want user
 * namespaces. */
#include "process.h"

#include <fcntl.h>
#include <sched.h>

struct contained {
    void (*function)(void *argument);
    void *argument;
    _Atomic pid_t pid; /* as this test's namespace counts */
    int flags; /* more namespaces of its own */
};

/* In a process between: the next it forks is the first of a new PID namespace. */
static void enter_and_fork(void *argument)
{
    struct contained *contained = argument;
    int flags = CLONE_NEWPID | contained->flags | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (unshare(flags) != 0)
        _exit(77);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        assert_int_equal(getpid(), 1);
        contained->function(contained->argument);
        exit(0);
    }
    atomic_store(&contained->pid, pid);
    int status = testing_wait(pid);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* The process between, which ends as the contained one does. */
static pid_t spawn_contained(struct contained *contained)
{
    return testing_spawn(enter_and_fork, contained);
}

static void *contained_new(void (*function)(void *argument), void *argument, int flags)
{
    struct contained *contained = testing_shared(sizeof *contained);
    *contained = (struct contained){.function = function, .argument = argument, .flags = flags};
    return contained;
}

static void want_namespaces(int flags)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(unshare(flags | CLONE_NEWPID | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0);
    if (testing_wait(pid) != 0)
        testing_skip("this machine lets nobody make a PID namespace");
}

/* ---- two processes 1 */

static void hold_until_killed(void *unused)
{
    (void)unused;
    cove_segment *segment = unit_open("t");
    bank_begin(segment, bank_open(segment));
    assert_true(cove_alloc(segment, 3000) != 0);
    testing_reach(0);
    unit_wait_for_death();
}

static void recover_the_other(void *unused)
{
    (void)unused;
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_open(segment);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &bank->lock[0], 30 * UNIT_MS),
                "(pid 1,"); /* as it counts itself */
    EXPECT(0, cove_recover(segment));
    testing_reach(1);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &bank->lock[0], unit_patience()));
    assert_int_equal(bank->cents[0], BANK_CENTS);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    testing_await(4); /* from elsewhere only the byte tells that all of the process is gone */
    (void)EXPECT_GOOD(cove_recover(segment));
    testing_reach(2);
    testing_await(3);
    unit_close(segment);
}

static void look_at_both(cove_segment *segment)
{
    struct cove_member_info members[4];
    EXPECT(3, cove_segment_members(segment, members, 4));
    unsigned first = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(members[i].alive, 1);
        first += members[i].pid == 1;
    }
    assert_int_equal(first, 2); /* the rows of both say so */
    assert_int_not_equal(members[1].pid_namespace, members[2].pid_namespace);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, 3);
    assert_int_equal(info.members_dead, 0);
    EXPECT(0, cove_gc(0, NULL, NULL));
    EXPECT_SAYS(-EBUSY, cove_unlink("t", 0), "in use by 3 living members");
}

static void test_namespaces_with_equal_pids_recover_each_other(void **state)
{
    (void)state;
    want_namespaces(0);
    cove_segment *segment = unit_open("t");
    (void)bank_make(segment);
    uint64_t free_bytes = unit_free_bytes(segment);
    struct contained *holder = contained_new(hold_until_killed, NULL, 0);
    struct contained *other = contained_new(recover_the_other, NULL, 0);
    pid_t between_one = spawn_contained(holder);
    testing_await(0);
    pid_t between_two = spawn_contained(other);
    testing_await(1);
    look_at_both(segment);
    assert_int_equal(kill(atomic_load(&holder->pid), SIGKILL), 0);
    assert_int_equal(WEXITSTATUS(testing_wait(between_one)), 128 + SIGKILL);
    testing_reach(4);
    testing_await(2);
    assert_int_equal(unit_stat(segment).members_alive, 2);
    assert_int_equal(unit_stat(segment).members_dead, 0);
    testing_reach(3);
    testing_join(between_two);
    assert_alone(segment, free_bytes);
    unit_close(segment);
    unit_remove("t");
}

/* ---- the last member of a LAST_OUT segment lives where we cannot see it */

static void stay(void *unused)
{
    (void)unused;
    (void)unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    testing_reach(0);
    unit_wait_for_death();
}

static void test_namespaces_last_member_elsewhere_keeps_the_segment(void **state)
{
    (void)state;
    want_namespaces(0);
    struct contained *contained = contained_new(stay, NULL, 0);
    pid_t between = spawn_contained(contained);
    testing_await(0);
    EXPECT(0, cove_gc(0, NULL, NULL));
    assert_true(unit_exists("t"));
    cove_segment *segment = unit_open("t");
    assert_int_equal(unit_stat(segment).members_alive, 2);
    unit_close(segment);
    assert_true(unit_exists("t")); /* we were not the last */
    assert_int_equal(kill(atomic_load(&contained->pid), SIGKILL), 0);
    (void)testing_wait(between);
    assert_true(EXPECT_GOOD(cove_gc(0, NULL, NULL)) >= 1);
    assert_false(unit_exists("t"));
}

/* ---- the two ends of a stream */

static void write_until_killed(void *unused)
{
    (void)unused;
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open(&stream, "t/s", COVE_WRITER, NULL));
    EXPECT(6, cove_stream_write(stream, "hello\n", 6, COVE_FOREVER));
    testing_reach(0);
    unit_wait_for_death();
}

static void test_namespaces_stream_tells_of_a_death_elsewhere(void **state)
{
    (void)state;
    want_namespaces(0);
    cove_segment *segment = unit_open("t");
    cove_stream *stream = NULL;
    char bytes[8];
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_READER, NULL));
    struct contained *contained = contained_new(write_until_killed, NULL, 0);
    pid_t between = spawn_contained(contained);
    testing_await(0);
    EXPECT(6, cove_stream_read(stream, bytes, sizeof bytes, unit_patience()));
    EXPECT_SAYS(-ETIMEDOUT, cove_stream_read(stream, bytes, sizeof bytes, 50 * UNIT_MS), "(pid 1)");
    assert_int_equal(kill(atomic_load(&contained->pid), SIGKILL), 0);
    EXPECT_SAYS(COVE_EPEER, cove_stream_read(stream, bytes, sizeof bytes, unit_patience()), "after 6 bytes");
    (void)testing_wait(between);
    EXPECT(0, cove_stream_close(stream));
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* ---- user namespaces: the same user under another number, or under none */

static void map_to_root(void *outer_uid)
{
    char line[64];
    int file = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    int length = snprintf(line, sizeof line, "0 %u 1\n", *(unsigned *)outer_uid);
    assert_int_equal(write(file, line, (size_t)length), length);
    assert_int_equal(close(file), 0);
    assert_int_equal(geteuid(), 0);
}

struct as_user {
    bool mapped;
    unsigned uid;
};

static void transfer_and_die_as_user(void *argument)
{
    struct as_user *user = argument;
    if (unshare(CLONE_NEWUSER) != 0)
        _exit(77);
    if (user->mapped)
        map_to_root(&user->uid);
    cove_segment *segment = unit_open("t"); /* ours: whatever number we have here, the file has the same */
    bank_transfer(segment, bank_open(segment));
    bank_begin(segment, bank_open(segment));
    testing_reach(0);
    _exit(0);
}

static void test_namespaces_of_users_are_no_other_users(void **state)
{
    (void)state;
    for (unsigned mapped = 0; mapped < 2; mapped++) {
        cove_segment *segment = unit_open("t");
        struct bank *bank = bank_make(segment);
        uint64_t free_bytes = unit_free_bytes(segment);
        struct as_user user = {mapped, geteuid()};
        unit_close(segment);
        int status = testing_wait(testing_spawn(transfer_and_die_as_user, &user));
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
            unit_remove("t");
            testing_skip("this machine lets nobody make a user namespace");
        }
        assert_int_equal(status, 0);
        segment = unit_open("t");
        bank = bank_open(segment);
        bank_audit(segment, bank, COVE_RECOVERED);
        assert_int_equal(bank->cents[0], BANK_CENTS - 7);
        assert_alone(segment, free_bytes);
        unit_close(segment);
        unit_remove("t");
    }
}

/* ---- another user, when mode allows: a member like any other, and recovered like any other */

static void as_nobody(void *function)
{
    assert_int_equal(setgid(65534), 0);
    assert_int_equal(setuid(65534), 0);
    ((void (*)(void))function)();
}

static void nobody_holds(void)
{
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.flags = COVE_ANY_OWNER});
    bank_begin(segment, bank_open(segment));
    assert_true(cove_alloc(segment, 3000) != 0);
    testing_reach(0);
    unit_wait_for_death();
}

static void nobody_recovers(void)
{
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.flags = COVE_ANY_OWNER});
    bank_audit(segment, bank_open(segment), COVE_RECOVERED);
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
}

static void hold_as_root(void *unused)
{
    hold_until_killed(unused);
}

static void test_namespaces_apart_two_users_recover_each_other(void **state)
{
    (void)state;
    if (geteuid() != 0)
        testing_skip("two users are needed: run as root");
    mode_t before = umask(0777); /* which must not matter */
    assert_int_equal(chmod(cove_directory(), 01777), 0);
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.mode = 0666});
    (void)umask(before);
    struct bank *bank = bank_make(segment);
    uint64_t free_bytes = unit_free_bytes(segment);
    unit_close(segment);
    pid_t pid = testing_spawn(as_nobody, (void *)nobody_holds);
    testing_await_count(0, 1);
    segment = unit_open("t");
    bank = bank_open(segment);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &bank->lock[0], 20 * UNIT_MS), pid_phrase(pid));
    testing_kill(pid);
    bank_audit(segment, bank, COVE_RECOVERED); /* root, of nobody's */
    assert_alone(segment, free_bytes);
    unit_close(segment);
    pid = testing_spawn(hold_as_root, NULL);
    testing_await_count(0, 2);
    testing_kill(pid);
    testing_join(testing_spawn(as_nobody, (void *)nobody_recovers)); /* nobody, of root's */
    segment = unit_open("t");
    assert_alone(segment, free_bytes);
    unit_close(segment);
    unit_remove("t");
    assert_int_equal(chmod(cove_directory(), 0700), 0);
}

static const struct testing_case tests[] = {
    TEST(test_namespaces_with_equal_pids_recover_each_other),
    TEST(test_namespaces_last_member_elsewhere_keeps_the_segment),
    TEST(test_namespaces_stream_tells_of_a_death_elsewhere),
    TEST(test_namespaces_of_users_are_no_other_users),
    TEST(test_namespaces_apart_two_users_recover_each_other),
};

int main(void)
{
    return testing_run("process_namespaces", tests);
}
