/* process_descriptors.c - what programs do to descriptors that are not theirs: dup, pass on, inherit, close.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A member's life is a lock on a byte of the segment's file, which the kernel drops with the last copy of one
 * descriptor. So a copy that a program lets escape (dup, a socket, exec without close-on-exec, a raw clone) outlives
 * the member: what others wait for is freed all the same, since the kernel marks the dead threads' robust words; only
 * the row, and memory that belonged to the member, may wait until the last copy is closed. And a program that closes
 * every descriptor (closefrom, close_range) takes the lock away from itself: others see by its robust words, and by
 * /proc, that it lives, and it is told to open the segment anew. */
#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/socket.h>

#define MOST 16

/* Descriptors of this process that lead to the segment's file. */
static int find_descriptors(const char *name, int found[MOST])
{
    struct stat file, info;
    assert_int_equal(stat(unit_path(name), &file), 0);
    int count = 0;
    for (int fd = 3; fd < 1024; fd++)
        if (fstat(fd, &info) == 0 && info.st_dev == file.st_dev && info.st_ino == file.st_ino) {
            assert_true(count < MOST);
            found[count++] = fd;
        }
    assert_true(count > 0);
    return count;
}

struct scene {
    cove_segment *segment;
    struct bank *bank;
    uint64_t free_bytes;
};

static struct scene begin_scene(void)
{
    struct scene scene = {.segment = unit_open("t")};
    scene.bank = bank_make(scene.segment);
    scene.free_bytes = unit_free_bytes(scene.segment);
    return scene;
}

static void end_scene(struct scene *scene)
{
    UNTIL((EXPECT_GOOD(cove_recover(scene->segment)),
           unit_stat(scene->segment).members_dead == 0 && unit_stat(scene->segment).members_alive == 1),
          5000);
    assert_alone(scene->segment, scene->free_bytes);
    unit_close(scene->segment);
    unit_remove("t");
}

/* A member in the middle of a transfer, with memory of its own. */
static cove_segment *hold(void *inherited)
{
    (void)cove_close(((struct scene *)inherited)->segment);
    cove_segment *segment = unit_open("t");
    bank_begin(segment, bank_open(segment));
    assert_true(cove_alloc(segment, 2000) != 0);
    return segment;
}

/* ---- copies that stay at home change nothing */

static void test_descriptors_copied_and_closed_change_nothing(void **state)
{
    (void)state;
    struct scene scene = begin_scene();
    int found[MOST];
    int count = find_descriptors("t", found);
    for (int i = 0; i < count; i++)
        assert_int_equal(close(dup(found[i])), 0);
    int own = open(unit_path("t"), O_RDWR | O_CLOEXEC);
    assert_true(own >= 0);
    assert_int_equal(close(own), 0); /* a POSIX lock would be gone now */
    assert_int_equal(unit_stat(scene.segment).members_alive, 1);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, 1);
    end_scene(&scene);
}

/* ---- exec with every descriptor left open */

static void exec_with_all_open(void *argument)
{
    (void)hold(argument);
    int found[MOST];
    int count = find_descriptors("t", found);
    for (int i = 0; i < count; i++) {
        assert_int_equal(fcntl(found[i], F_SETFD, 0), 0);
        assert_true(dup(found[i]) >= 0); /* which is not close-on-exec either */
    }
    testing_reach(0);
    (void)execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    fail();
}

static void test_descriptors_left_open_across_exec_keep_no_lock(void **state)
{
    (void)state;
    struct scene scene = begin_scene();
    pid_t pid = testing_spawn(exec_with_all_open, &scene);
    testing_await(0);
    bank_audit(scene.segment, scene.bank, COVE_RECOVERED);
    assert_int_equal(scene.bank->cents[0], BANK_CENTS);
    testing_kill(pid);
    end_scene(&scene);
}

/* ---- a raw clone that never hears of Cove, and outlives its parent */

static void clone_and_hold(void *argument)
{
    (void)hold(argument);
    pid_t pid = raw_fork();
    if (pid == 0) {
        testing_reach(0);
        testing_await(1);
        _exit(0);
    }
    testing_await(0);
    testing_reach(2);
    unit_wait_for_death();
}

static void test_descriptors_of_a_raw_child_keep_no_lock(void **state)
{
    (void)state;
    struct scene scene = begin_scene();
    pid_t pid = testing_spawn(clone_and_hold, &scene);
    testing_await(2);
    testing_kill(pid);
    bank_audit(scene.segment, scene.bank, COVE_RECOVERED);
    assert_int_equal(scene.bank->cents[0], BANK_CENTS);
    unit_sound(scene.segment);
    testing_reach(1);
    UNTIL(waitpid(-1, NULL, WNOHANG) != 0, 5000); /* it may come to this process as an orphan, or to the runner */
    end_scene(&scene);
}

/* ---- passed over a socket to somebody who keeps them */

static int ends[2];

static void send_all(void *argument)
{
    (void)hold(argument);
    int found[MOST];
    int count = find_descriptors("t", found);
    char byte = (char)count;
    struct iovec part = {&byte, 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(MOST * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room};
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN((size_t)count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), found, (size_t)count * sizeof(int));
    assert_int_equal(sendmsg(ends[0], &message, 0), 1);
    testing_reach(0);
    unit_wait_for_death();
}

static void receive_all(void *argument)
{
    (void)cove_close(((struct scene *)argument)->segment);
    char byte = 0, room[CMSG_SPACE(MOST * sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    assert_int_equal(recvmsg(ends[1], &message, 0), 1);
    int found[MOST];
    assert_int_equal(find_descriptors("t", found), byte);
    testing_reach(1);
    testing_await(2);
}

static void test_descriptors_passed_on_keep_no_lock(void **state)
{
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    struct scene scene = begin_scene();
    pid_t receiver = testing_spawn(receive_all, &scene), sender = testing_spawn(send_all, &scene);
    testing_await(1);
    testing_kill(sender);
    bank_audit(scene.segment, scene.bank, COVE_RECOVERED);
    assert_int_equal(scene.bank->cents[0], BANK_CENTS);
    testing_reach(2);
    testing_join(receiver);
    end_scene(&scene);
    assert_int_equal(close(ends[0]) | close(ends[1]), 0);
}

/* ---- the other end of a stream is such a one */

static void write_and_clone(void *argument)
{
    (void)cove_close(((struct scene *)argument)->segment);
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open(&stream, "t/s", COVE_WRITER, NULL));
    EXPECT(5, cove_stream_write(stream, "hello", 5, COVE_FOREVER));
    pid_t pid = raw_fork();
    if (pid == 0) {
        testing_reach(0);
        testing_await(1);
        _exit(0);
    }
    testing_await(0);
    testing_reach(2);
    unit_wait_for_death();
}

static void test_descriptors_of_a_raw_child_keep_no_stream_open(void **state)
{
    (void)state;
    struct scene scene = begin_scene();
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open_in(&stream, scene.segment, "s", COVE_READER, NULL));
    pid_t pid = testing_spawn(write_and_clone, &scene);
    testing_await(2);
    testing_kill(pid);
    char bytes[8];
    EXPECT(5, cove_stream_read(stream, bytes, sizeof bytes, unit_patience()));
    EXPECT(COVE_EPEER, cove_stream_read(stream, bytes, sizeof bytes, unit_patience()));
    testing_reach(1);
    EXPECT(0, cove_stream_close(stream));
    EXPECT(0, cove_object_remove(scene.segment, "s"));
    scene.free_bytes = unit_free_bytes(scene.segment); /* it has grown for the ring */
    end_scene(&scene);
}

/* ---- children that share memory (vfork, posix_spawn) and close everything before they exec */

static void run_true_by_spawn(void)
{
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
#if defined(__GLIBC__)
    assert_int_equal(posix_spawn_file_actions_addclosefrom_np(&actions, 3), 0);
#else
    for (int file = 3; file < 64; file++)
        assert_int_equal(posix_spawn_file_actions_addclose(&actions, file), 0);
#endif
    pid_t pid = 0;
    char *arguments[] = {"true", NULL};
    assert_int_equal(posix_spawn(&pid, "/bin/true", &actions, NULL, arguments, NULL), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
    testing_join(pid);
}

/* CLONE_VM: the parent's memory is the child's, so nothing can tell it that it is another process; until it execs it
 * may do what a signal handler may. */
static void run_true_by_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        (void)syscall(SYS_close_range, 3u, ~0u, 0u);
        (void)execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    assert_true(pid > 0);
    testing_join(pid);
}

static void test_descriptors_closed_by_a_child_are_not_the_parents(void **state)
{
    (void)state;
    static void (*const ways[])(void) = {run_true_by_spawn, run_true_by_vfork};
    struct scene scene = begin_scene();
    for (int i = 0; i < 2; i++) {
        bank_begin(scene.segment, scene.bank);
        ways[i]();
        struct cove_segment_info info;
        EXPECT(0, cove_stat("t", &info));
        assert_int_equal(info.members_alive, 1); /* through another descriptor, which sees our lock */
        bank_end(scene.segment, scene.bank);
        bank_audit(scene.segment, scene.bank, 0);
    }
    end_scene(&scene);
}

/* ---- a daemoniser: everything is closed under Cove, and the numbers are given to others */

#define FILES 8
static const char text[] =
    "These bytes are none of Cove's business, nor is the length of this file, nor its descriptor. "
    "A log, say.";

static void open_files(int files[FILES])
{
    for (int i = 0; i < FILES; i++) {
        char path[1100];
        (void)snprintf(path, sizeof path, "%s/log%d", testing_dir(), i);
        files[i] = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        assert_true(files[i] >= 0);
        assert_int_equal(write(files[i], text, sizeof text), sizeof text);
        assert_int_equal(unlink(path), 0);
    }
}

static void files_are_as_they_were(const int files[FILES])
{
    for (int i = 0; i < FILES; i++) {
        struct stat info;
        char bytes[sizeof text];
        if (fstat(files[i], &info) != 0)
            fail_msg("descriptor %d was closed by somebody else", files[i]);
        assert_int_equal(info.st_size, sizeof text);
        assert_int_equal(info.st_blocks, 8); /* nothing was reserved in it either */
        assert_int_equal(pread(files[i], bytes, sizeof bytes, 0), sizeof bytes);
        assert_memory_equal(bytes, text, sizeof bytes);
    }
}

static void daemonise(void *argument)
{
    (void)cove_close(((struct scene *)argument)->segment);
    cove_segment *segment = unit_open("t");
    cove_segment *brief = unit_open_as("brief", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    assert_int_equal(syscall(SYS_close_range, 3u, ~0u, 0u), 0);
    int files[FILES];
    open_files(files);
    if (cove_alloc(segment, 3000000) == 0)
        assert_true(*cove_last_error() != '\0');
    files_are_as_they_were(files);
    int results[] = {cove_close(segment), cove_close(brief), cove_unlink("brief", 1)};
    for (int i = 0; i < 2; i++)
        assert_true(results[i] <= 0);
    files_are_as_they_were(files);
    segment = unit_open("t"); /* and now it is a member as everybody is */
    bank_transfer(segment, bank_open(segment));
    unit_close(segment);
    files_are_as_they_were(files);
}

static void test_descriptors_closed_and_used_by_others_are_left_alone(void **state)
{
    (void)state;
    struct scene scene = begin_scene();
    testing_join(testing_spawn(daemonise, &scene));
    unit_sound(scene.segment);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info)); /* not "truncated": the size is that of the file */
    bank_audit(scene.segment, scene.bank, 0);
    scene.free_bytes = unit_free_bytes(scene.segment);
    end_scene(&scene);
    if (unit_exists("brief"))
        unit_remove("brief");
}

static void close_all_and_hold(void *argument)
{
    (void)cove_close(((struct scene *)argument)->segment);
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_open(segment);
    bank_begin(segment, bank);
    assert_int_equal(syscall(SYS_close_range, 3u, ~0u, 0u), 0);
    testing_reach(0);
    testing_await(1);
    bank_end(segment, bank); /* acknowledged, and so to be seen by all */
    bank_begin(segment, bank);
    testing_reach(2);
    unit_wait_for_death();
}

/* The kernel has dropped its lock, but the robust words of its threads are unmarked and /proc shows it alive. */
static void test_descriptors_all_closed_by_a_holder_take_nothing_from_it(void **state)
{
    (void)state;
    struct scene scene = begin_scene();
    pid_t pid = testing_spawn(close_all_and_hold, &scene);
    testing_await(0);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(scene.segment, &scene.bank->lock[0], 50 * UNIT_MS), pid_phrase(pid));
    EXPECT(0, cove_recover(scene.segment));
    EXPECT(0, cove_gc(0, NULL, NULL));
    assert_int_equal(unit_stat(scene.segment).members_alive, 2);
    unit_close(unit_open("t")); /* nobody gets its row */
    testing_reach(1);
    testing_await(2);
    assert_int_equal(scene.bank->cents[1], BANK_CENTS + 7);
    testing_kill(pid);
    bank_audit(scene.segment, scene.bank, COVE_RECOVERED); /* of the second transfer */
    assert_int_equal(scene.bank->cents[0], BANK_CENTS - 7);
    end_scene(&scene);
}

static const struct testing_case tests[] = {
    TEST(test_descriptors_copied_and_closed_change_nothing),
    TEST(test_descriptors_left_open_across_exec_keep_no_lock),
    TEST(test_descriptors_of_a_raw_child_keep_no_lock),
    TEST(test_descriptors_passed_on_keep_no_lock),
    TEST(test_descriptors_of_a_raw_child_keep_no_stream_open),
    TEST(test_descriptors_closed_by_a_child_are_not_the_parents),
    TEST(test_descriptors_closed_and_used_by_others_are_left_alone),
    TEST(test_descriptors_all_closed_by_a_holder_take_nothing_from_it),
};

int main(void)
{
    return testing_run("process_descriptors", tests);
}
