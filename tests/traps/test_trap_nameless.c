/* test_trap_nameless.c - traps of memory without a name: only relatives have it, and whoever gets it may cut it off.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * All of these are of one row: MAP_ANON across fork, /dev/zero. A stranger is this program, executed anew: it has no
 * memory in common with the test, only what it is told on its command line and the descriptors that it was left.
 *
 *     test_trap_nameless --stranger at ADDRESS     touch that address
 *     test_trap_nameless --stranger open NAME      open that region and write "strange"
 *     test_trap_nameless --stranger receive FD     receive a descriptor over it, open that and write "strange" */
#include "traps.h"

#include <sys/socket.h>

/* ---- the stranger */

static int stranger_open(const char *name)
{
    cove_region *region = NULL;
    if (cove_region_open(&region, name, NULL) < 0 || cove_region_size(region) != 100)
        return cove_complain(name);
    strcpy(cove_region_data(region), "strange");
    return cove_region_close(region) < 0;
}

static int stranger_receive(int socket)
{
    char name[32];
    int fd = cove_fd_receive(socket);
    if (fd < 0 || !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
        return cove_complain("receive");
    (void)snprintf(name, sizeof name, "fd:%d", fd);
    return stranger_open(name) || close(fd) != 0;
}

static int be_stranger(const char *what, const char *argument)
{
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)signal(SIGSEGV, SIG_DFL);
    if (strcmp(what, "at") == 0)
        return trap_read((void *)(uintptr_t)strtoull(argument, NULL, 16)) != 'x';
    return strcmp(what, "open") == 0 ? stranger_open(argument) : stranger_receive(atoi(argument));
}

struct stranger {
    const char *what;
    char argument[64];
    int keep; /* a descriptor that it is left, or -1 */
};

static void become_stranger(void *argument)
{
    const struct stranger *stranger = argument;
    if (stranger->keep >= 0)
        assert_int_equal(fcntl(stranger->keep, F_SETFD, 0), 0);
    (void)execl("/proc/self/exe", "stranger", "--stranger", stranger->what, stranger->argument, (char *)NULL);
    fail();
}

static void relative(void *argument)
{
    assert_int_equal(trap_read(argument), 'x');
    trap_write(argument, 'y');
}

static void shared_by_relatives_only(char *data)
{
    assert_true(data != MAP_FAILED);
    trap_write(data, 'x');
    EXPECT_LIFE(relative, data);
    assert_int_equal(trap_read(data), 'y');
    trap_write(data, 'x');
    struct stranger stranger = {.what = "at", .keep = -1};
    (void)snprintf(stranger.argument, sizeof stranger.argument, "%" PRIxPTR, (uintptr_t)data);
    EXPECT_DEATH(SIGSEGV, become_stranger, &stranger);
    assert_int_equal(munmap(data, TRAP_PAGE), 0);
}

/* Trap: memory without a name ends at exec: a program that is not a forked copy has no way to it. */
static void test_nameless_old_is_for_relatives_only(void **state)
{
    (void)state;
    shared_by_relatives_only(mmap(NULL, TRAP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
    shared_by_relatives_only(mmap(NULL, TRAP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0));
    assert_int_equal(close(zero), 0);
}

/* Cove: across fork the same, */
static void test_nameless_is_shared_across_fork(void **state)
{
    (void)state;
    cove_region *region = trap_create("memfd:", 100);
    trap_write(cove_region_data(region), 'x');
    EXPECT_LIFE(relative, cove_region_data(region));
    assert_int_equal(trap_read(cove_region_data(region)), 'y');
    trap_close(region);
}

/* and a program that inherits the descriptor opens it by its number, */
static void test_nameless_is_inherited_by_program(void **state)
{
    (void)state;
    cove_region *region = trap_create("memfd:", 100);
    int fd = cove_region_fd(region);
    assert_true(fd >= 0);
    struct stranger stranger = {.what = "open", .keep = fd};
    (void)snprintf(stranger.argument, sizeof stranger.argument, "fd:%d", fd);
    EXPECT_LIFE(become_stranger, &stranger);
    assert_string_equal(cove_region_data(region), "strange");
    assert_int_equal(close(fd), 0);
    trap_close(region);
}

/* and one that has nothing but a socket in common gets it sent. */
static void test_nameless_is_sent_to_stranger(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    cove_region *region = trap_create("memfd:", 100);
    int fd = cove_region_fd(region);
    EXPECT(0, cove_fd_send(ends[0], fd)); /* it waits in the socket */
    assert_int_equal(close(fd), 0);
    struct stranger stranger = {.what = "receive", .keep = ends[1]};
    (void)snprintf(stranger.argument, sizeof stranger.argument, "%d", ends[1]);
    EXPECT_LIFE(become_stranger, &stranger);
    assert_string_equal(cove_region_data(region), "strange");
    trap_close(region);
    assert_int_equal(close(ends[0]) + close(ends[1]), 0);
}

static void touch_last_byte(void *argument)
{
    (void)trap_read((char *)argument + 99);
}

/* Trap: whoever was given a descriptor may cut the memory off under the giver. */
static void test_nameless_receiver_cannot_shrink(void **state)
{
    (void)state;
    int fd = memfd_create("unsealed", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 100), 0);
    char *data = trap_map(fd, 100);
    assert_int_equal(ftruncate(fd, 0), 0); /* the receiver */
    EXPECT_DEATH(SIGBUS, touch_last_byte, data);
    assert_int_equal(munmap(data, 100) + close(fd), 0);

    cove_region *region = trap_create("memfd:", 100);
    fd = cove_region_fd(region);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(errno, EPERM);
    EXPECT_LIFE(touch_last_byte, cove_region_data(region));
    struct cove_region_info info;
    EXPECT(0, cove_region_stat(region, &info));
    assert_int_equal(info.sealed, 1);
    assert_int_equal(close(fd), 0);
    trap_close(region);
}

static const struct testing_case tests[] = {
    TEST(test_nameless_old_is_for_relatives_only), TEST(test_nameless_is_shared_across_fork),
    TEST(test_nameless_is_inherited_by_program),   TEST(test_nameless_is_sent_to_stranger),
    TEST(test_nameless_receiver_cannot_shrink),
};

int main(int count, char **arguments)
{
    if (count == 4 && strcmp(arguments[1], "--stranger") == 0)
        return be_stranger(arguments[2], arguments[3]);
    return testing_run("trap_nameless", tests);
}
