/* traps.h - what the tests of traps share: children that are meant to die, the old calls in short form, places of our
 * own.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each test first walks into the trap by the old calls, where that can be done under control, and asserts what it
 * does to a program; then it does the same by Cove's. A line "row:" above a group of tests, or the head of the file,
 * names the old calls that they belong to. */
#ifndef TRAPS_H
#define TRAPS_H

#include "unit.h"

#include <cove/region.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#define TRAP_PAGE ((size_t)sysconf(_SC_PAGESIZE))

/* ---- children that are meant to die */

struct trap_call {
    void (*function)(void *argument);
    void *argument;
};

/* No core is dumped, and no sanitizer turns the signal into an exit. */
static inline void trap_child(void *argument)
{
    const struct trap_call *call = argument;
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)signal(SIGBUS, SIG_DFL);
    (void)signal(SIGSEGV, SIG_DFL);
    call->function(call->argument);
}

/* Call it in a child: what waitpid says of its end. */
static inline int trap_run(void (*function)(void *argument), void *argument)
{
    struct trap_call call = {function, argument};
    return testing_wait(testing_spawn(trap_child, &call));
}

/* The child dies of this signal. */
#define EXPECT_DEATH(signal_number, function, argument)       \
    do {                                                      \
        int status_ = trap_run((function), (argument));       \
        assert_true(WIFSIGNALED(status_));                    \
        assert_int_equal(WTERMSIG(status_), (signal_number)); \
    } while (0)
/* The child comes to its end. */
#define EXPECT_LIFE(function, argument) assert_int_equal(trap_run((function), (argument)), 0)

/* ---- a touch that the compiler leaves alone */

static inline char trap_read(const void *at)
{
    return *(const volatile char *)at;
}

static inline void trap_write(void *at, char byte)
{
    *(volatile char *)at = byte;
}

/* ---- the old calls */

/* Where shm_open and Cove are to meet: shm_open knows nothing of $COVE_DIR. */
static inline void trap_meet_shm_open(void)
{
    assert_int_equal(unsetenv("COVE_DIR"), 0);
}

/* What shm_open calls "/NAME": a name that only this test has. */
static inline const char *trap_shm_name(const char *suffix)
{
    static char name[8][300];
    static unsigned next;
    char *text = name[next++ % 8];
    (void)snprintf(text, sizeof *name, "/%s", testing_name(suffix));
    return text;
}

/* The same for Cove. */
static inline const char *trap_posix_name(const char *shm_name)
{
    static char name[8][320];
    static unsigned next;
    char *text = name[next++ % 8];
    (void)snprintf(text, sizeof *name, "posix:%s", shm_name);
    return text;
}

/* shm_open and ftruncate, as a program that means well does it. */
static inline int trap_shm_make(const char *shm_name, size_t size_bytes)
{
    int fd = shm_open(shm_name, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
    return fd;
}

static inline char *trap_map(int fd, size_t length_bytes)
{
    char *data = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(data != MAP_FAILED);
    return data;
}

static inline off_t trap_size(int fd)
{
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    return info.st_size;
}

/* A file in this test's directory, with these bytes. Returns its path. */
static inline const char *trap_file(const char *name, const void *bytes, size_t size_bytes)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", testing_dir(), name);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size_bytes), size_bytes);
    assert_int_equal(close(fd), 0);
    return path;
}

/* ---- Cove */

static inline cove_region *trap_open_as(const char *name, const struct cove_region_options *options)
{
    cove_region *region = NULL;
    EXPECT_GOOD(cove_region_open(&region, name, options));
    assert_non_null(region);
    return region;
}

static inline cove_region *trap_create(const char *name, uint64_t size_bytes)
{
    cove_region *region = NULL;
    EXPECT(COVE_CREATED,
           cove_region_open(&region, name,
                            &(struct cove_region_options){.flags = COVE_EXCLUSIVE, .size_bytes = size_bytes}));
    assert_int_equal(cove_region_size(region), size_bytes);
    return region;
}

static inline void trap_close(cove_region *region)
{
    EXPECT(0, cove_region_close(region));
}

static inline struct cove_region_info trap_look(const char *name)
{
    struct cove_region_info info;
    EXPECT(0, cove_region_look(name, &info));
    return info;
}

/* ---- places of our own */

static inline bool trap_write_map(const char *path, unsigned id)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%u %u 1", id, id);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, (size_t)length) == length;
    if (fd >= 0)
        (void)close(fd);
    return good;
}

/* Namespaces of this process's own, by way of a user namespace where it is not root. Tests have one thread here. */
static inline bool trap_unshare(int namespaces)
{
    unsigned user = getuid(), group = getgid();
    if (unshare(namespaces) == 0)
        return true;
    if (unshare(CLONE_NEWUSER | namespaces) != 0)
        return false;
    int fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
    bool good = fd < 0 || write(fd, "deny", 4) == 4;
    if (fd >= 0)
        (void)close(fd);
    return trap_write_map("/proc/self/uid_map", user) && trap_write_map("/proc/self/gid_map", group) && good;
}

/* Can a copy of this process have them? If the attempt fails half way it has changed the copy alone. */
static inline void trap_try_unshare(void *argument)
{
    if (!trap_unshare(*(int *)argument))
        _exit(1);
}

static inline bool trap_own(int namespaces)
{
    return testing_wait(testing_spawn(trap_try_unshare, &namespaces)) == 0 && trap_unshare(namespaces);
}

/* From here on this process's System V objects and message queues are its own, and go with it, however it ends;
 * where that is not allowed it works among everybody's. */
static inline void trap_own_ipc(void)
{
    (void)trap_own(CLONE_NEWIPC);
}

/* Mounts of its own; the test is skipped where that is not allowed. */
static inline void trap_own_mounts(int more)
{
    if (!trap_own(CLONE_NEWNS | more) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        testing_skip("no mounts of our own here");
}

/* A tmpfs of that size, which only this process and its children see, as $COVE_DIR. Skips the test where mounting is
 * not allowed. */
static inline const char *trap_small_tmpfs(const char *options)
{
    static char path[1024];
    trap_own_mounts(0);
    (void)snprintf(path, sizeof path, "%s/small", testing_dir());
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mount("none", path, "tmpfs", 0, options), 0);
    assert_int_equal(setenv("COVE_DIR", path, 1), 0);
    return path;
}

/* Fails where anything is left in it. */
static inline void trap_small_tmpfs_end(const char *path)
{
    assert_int_equal(umount(path), 0);
    assert_int_equal(rmdir(path), 0);
}

#endif
