/* test_os_memory.c - nameless memory, passing descriptors: what a socket may bring, and what must not be left of it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "unit.h"

#include "os/os.h"

#include <cove/region.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---- seals */

static void test_memory_is_made_empty_and_for_this_program_alone(void **state)
{
    (void)state;
    struct covei_file_stat stat;
    int file = covei_os->file_make_memory(false);
    assert_true(file >= 0);
    assert_int_equal(fcntl(file, F_GETFD), FD_CLOEXEC);
    assert_int_equal(covei_os->file_stat(file, &stat), 0);
    assert_int_equal(stat.kind, COVEI_FILE_REGULAR);
    assert_int_equal(stat.size_bytes, 0);
    assert_int_equal(stat.links, 0);
    covei_os->file_close(file);
}

static void test_memory_sealed_cannot_shrink_and_fixed_cannot_grow(void **state)
{
    (void)state;
    for (int fixed = 0; fixed < 2; fixed++) {
        int file = covei_os->file_make_memory(false);
        assert_int_equal(covei_os->file_reserve(file, 0, 8192), 0);
        assert_int_equal(covei_os->file_sealed(file), 0);
        assert_int_equal(ftruncate(file, 4096), 0); /* not yet sealed */
        assert_int_equal(covei_os->file_seal(file, fixed), 0);
        assert_int_equal(covei_os->file_sealed(file), 1);
        assert_int_equal(ftruncate(file, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(covei_os->file_reserve(file, 0, 8192), fixed ? -EPERM : 0);
        assert_int_equal(covei_os->file_seal(file, true), -EPERM); /* and the seals are sealed */
        assert_int_equal(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), -1);
        covei_os->file_close(file);
    }
}

static void test_memory_that_knows_no_seals_says_so(void **state)
{
    (void)state;
    char path[1024];
    int sockets[2];
    assert_int_equal(pipe(sockets), 0);
    (void)snprintf(path, sizeof path, "%s/file", testing_dir());
    int file = covei_os->file_make(path);
    assert_int_equal(unlink(path), 0);
    assert_true(covei_os->file_seal(sockets[0], false) < 0);
    assert_int_equal(covei_os->file_sealed(sockets[0]), 0);
    assert_int_equal(covei_os->file_sealed(file), 0);
    assert_int_equal(covei_os->file_seal(-1, false), -EBADF);
    assert_int_equal(covei_os->file_sealed(-1), 0);
    assert_int_equal(covei_os->file_copy(-1), -EBADF);
    covei_os->file_close(file);
    covei_os->file_close(sockets[0]);
    covei_os->file_close(sockets[1]);
}

/* ---- passing descriptors on */

static int some_memory(uint64_t size_bytes)
{
    int file = covei_os->file_make_memory(false);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, (off_t)size_bytes), 0);
    return file;
}

static uint64_t size_of(int file)
{
    struct covei_file_stat stat;
    assert_int_equal(covei_os->file_stat(file, &stat), 0);
    return stat.size_bytes;
}

static void make_pair(int kind, int sockets[2])
{
    assert_int_equal(socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, sockets), 0);
}

static void drop_pair(const int sockets[2])
{
    assert_int_equal(close(sockets[0]), 0);
    assert_int_equal(close(sockets[1]), 0);
}

static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

static void test_passing_several_keeps_their_order(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        int sockets[2];
        make_pair(kinds[kind], sockets);
        for (unsigned i = 1; i <= 5; i++) {
            int file = some_memory(i);
            EXPECT(0, cove_fd_send(sockets[0], file));
            assert_int_equal(close(file), 0); /* it is on its way */
        }
        for (unsigned i = 1; i <= 5; i++) {
            int file = (int)EXPECT_GOOD(cove_fd_receive(sockets[1]));
            assert_int_equal(size_of(file), i);
            assert_int_equal(fcntl(file, F_GETFD), FD_CLOEXEC);
            assert_int_equal(close(file), 0);
        }
        drop_pair(sockets);
    }
}

/* As other programs send: any bytes, any number of descriptors. */
static void send_raw(int socket, const void *bytes, size_t size_bytes, const int *files, unsigned count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct iovec part = {(void *)(uintptr_t)bytes, size_bytes};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&control, 0, sizeof control);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *message = CMSG_FIRSTHDR(&header);
        message->cmsg_level = SOL_SOCKET;
        message->cmsg_type = SCM_RIGHTS;
        message->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(message), files, count * sizeof(int));
    }
    assert_int_equal(sendmsg(socket, &header, MSG_NOSIGNAL), size_bytes);
}

/* What is refused is closed: the harness finds what is not. */
static void test_passing_what_nobody_of_ours_sent_is_refused_and_closed(void **state)
{
    (void)state;
    int files[8];
    for (unsigned i = 0; i < 8; i++)
        files[i] = some_memory(i);
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        int sockets[2];
        make_pair(kinds[kind], sockets);
        send_raw(sockets[0], "x", 1, NULL, 0);
        EXPECT_SAYS(-EPROTO, cove_fd_receive(sockets[1]), "cove_fd_send");
        send_raw(sockets[0], "x", 1, files, 1);
        EXPECT(-EPROTO, cove_fd_receive(sockets[1]));
        for (unsigned count = 2; count <= 8; count++) {
            send_raw(sockets[0], "F", 1, files, count);
            EXPECT(-EPROTO, cove_fd_receive(sockets[1]));
        }
        EXPECT(0, cove_fd_send(sockets[0], files[3])); /* and the next one is none the worse for it */
        int file = (int)EXPECT_GOOD(cove_fd_receive(sockets[1]));
        assert_int_equal(size_of(file), 3);
        assert_int_equal(close(file), 0);
        drop_pair(sockets);
    }
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(close(files[i]), 0);
}

/* Servers ask the system for their clients' credentials (SO_PASSCRED): those come with every message. */
static void test_passing_with_credentials_works(void **state)
{
    (void)state;
    int sockets[2], on = 1, memory = some_memory(9);
    make_pair(SOCK_STREAM, sockets);
    assert_int_equal(setsockopt(sockets[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    EXPECT(0, cove_fd_send(sockets[0], memory));
    int file = (int)EXPECT_GOOD(cove_fd_receive(sockets[1]));
    assert_int_equal(size_of(file), 9);
    assert_int_equal(close(file), 0);
    assert_int_equal(close(memory), 0);
    drop_pair(sockets);
}

static void test_passing_over_closed_ends_is_told(void **state)
{
    (void)state;
    int sockets[2], memory = some_memory(1);
    make_pair(SOCK_STREAM, sockets);
    assert_int_equal(close(sockets[0]), 0);
    EXPECT(COVE_EPEER, cove_fd_receive(sockets[1]));
    EXPECT(-EPIPE, cove_fd_send(sockets[1], memory)); /* and no SIGPIPE */
    assert_int_equal(close(sockets[1]), 0);
    EXPECT(-EBADF, cove_fd_send(sockets[1], memory));
    EXPECT(-EBADF, cove_fd_receive(sockets[1]));
    make_pair(SOCK_STREAM, sockets);
    EXPECT(-EBADF, cove_fd_send(sockets[0], -1));
    EXPECT(-ENOTSOCK, cove_fd_send(memory, memory));
    EXPECT(-ENOTSOCK, cove_fd_receive(memory));
    assert_int_equal(fcntl(sockets[1], F_SETFL, O_NONBLOCK), 0);
    EXPECT(-EAGAIN, cove_fd_receive(sockets[1]));
    EXPECT(0, cove_fd_send(sockets[0], memory));
    assert_int_equal(close(sockets[0]), 0);
    int file = (int)EXPECT_GOOD(cove_fd_receive(sockets[1])); /* sent before it was closed */
    assert_int_equal(close(file), 0);
    EXPECT(COVE_EPEER, cove_fd_receive(sockets[1]));
    assert_int_equal(close(sockets[1]), 0);
    assert_int_equal(close(memory), 0);
}

static void tick(int number)
{
    (void)number;
    testing_reach(1);
}

static void wait_for_one(void *socket)
{
    struct sigaction action = {.sa_handler = tick}; /* without SA_RESTART */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    testing_reach(0);
    int file = (int)EXPECT_GOOD(cove_fd_receive(*(int *)socket));
    assert_int_equal(size_of(file), 7);
}

static void test_passing_goes_on_after_a_signal(void **state)
{
    (void)state;
    int sockets[2], memory = some_memory(7);
    make_pair(SOCK_STREAM, sockets);
    pid_t pid = testing_spawn(wait_for_one, &sockets[1]);
    testing_await(0);
    for (unsigned i = 1; i <= 20; i++) {
        assert_int_equal(kill(pid, SIGUSR1), 0);
        testing_await_count(1, i);
    }
    EXPECT(0, cove_fd_send(sockets[0], memory));
    testing_join(pid);
    assert_int_equal(close(memory), 0);
    drop_pair(sockets);
}

/* No number is left for what comes: it is lost, and that is told. */
static void test_passing_without_a_number_left_is_told(void **state)
{
    (void)state;
    int sockets[2], memory = some_memory(7);
    struct rlimit before, none;
    make_pair(SOCK_STREAM, sockets);
    EXPECT(0, cove_fd_send(sockets[0], memory));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int result = cove_fd_receive(sockets[1]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_WAS(-EMFILE, result);
    unit_expect_says("receive", "ulimit -n", __FILE__, __LINE__);
    EXPECT(0, cove_fd_send(sockets[0], memory));
    int file = (int)EXPECT_GOOD(cove_fd_receive(sockets[1]));
    assert_int_equal(close(file), 0);
    assert_int_equal(close(memory), 0);
    drop_pair(sockets);
}

static const struct testing_case tests[] = {
    TEST(test_memory_is_made_empty_and_for_this_program_alone),
    TEST(test_memory_sealed_cannot_shrink_and_fixed_cannot_grow),
    TEST(test_memory_that_knows_no_seals_says_so),
    TEST(test_passing_several_keeps_their_order),
    TEST(test_passing_what_nobody_of_ours_sent_is_refused_and_closed),
    TEST(test_passing_with_credentials_works),
    TEST(test_passing_over_closed_ends_is_told),
    TEST(test_passing_goes_on_after_a_signal),
    TEST(test_passing_without_a_number_left_is_told),
};

int main(void)
{
    return testing_run("os_memory", tests);
}
