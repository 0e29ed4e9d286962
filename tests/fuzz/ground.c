/* ground.c - what the fuzzed library stands on. Contract: ground.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "ground.h"

#include <cove.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_BYTES (UINT64_C(1) << 20)
#define MOST_SLEEPS 20000 /* of 10 ms at most: who sleeps so often waits for nobody */
#define MOST_RESERVES 1000
#define LARGEST_FILE (UINT64_C(4) << 20)

struct covei_os ground_calls;
static char directory[200];
static pid_t owner; /* of the directory: not a child of that process */
static int64_t slept_ns;
static uint64_t sleeps, reserves;

_Noreturn void ground_fail(const char *what)
{
    static const char end[] = ": a finding\n";
    (void)!write(STDERR_FILENO, what, strlen(what)); /* a target may have put something else in stderr's place */
    (void)!write(STDERR_FILENO, end, sizeof end - 1);
    abort();
}

/* ---- the system's calls */

static int64_t now(void)
{
    return covei_os_native.now() + slept_ns;
}

static int sleep_at_once(int64_t duration_ns)
{
    if (++sleeps > MOST_SLEEPS)
        ground_fail("waits for ever");
    slept_ns += duration_ns > 0 ? duration_ns : 0;
    return -ETIMEDOUT;
}

static int park(void *word, uint32_t expected, int64_t timeout_ns)
{
    /* Look at the word as the kernel would: an address that cannot be read shows. */
    return *(volatile uint32_t *)word != expected ? -EAGAIN : sleep_at_once(timeout_ns);
}

static int park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    for (uint32_t i = 1; i < count; i++)
        if (*(volatile uint32_t *)parks[i].word != parks[i].expected)
            return -EAGAIN;
    return park(parks[0].word, parks[0].expected, timeout_ns);
}

static void nap(int64_t duration_ns)
{
    (void)sleep_at_once(duration_ns);
}

/* Growth ends soon, so that a runaway one shows as an error that is asked for again and again, not as a full
 * machine. */
static int file_reserve(int file, uint64_t offset, uint64_t size_bytes)
{
    if (++reserves > MOST_RESERVES)
        ground_fail("grows without end");
    return offset + size_bytes > LARGEST_FILE ? -ENOSPC : covei_os_native.file_reserve(file, offset, size_bytes);
}

static int file_sync(int file)
{
    (void)file; /* what power cuts do is not looked at here, and the disk has better things to do */
    return 0;
}

static int directory_sync(const char *path)
{
    (void)path;
    return 0;
}

static int protection_of(enum covei_access access)
{
    return access == COVEI_ACCESS_NONE ? PROT_NONE : access == COVEI_ACCESS_READ ? PROT_READ : PROT_READ | PROT_WRITE;
}

/* Unreadable pages before and behind: a step beside the mapping is a crash. */
static int map(void **address, int file, uint64_t offset, uint64_t size_bytes, enum covei_access access,
               bool unreserved)
{
    (void)unreserved;
    if (size_bytes > UINT64_MAX / 2)
        return -ENOMEM;
    size_t whole = (size_t)(size_bytes + 2 * GUARD_BYTES);
    unsigned char *outer = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (outer == MAP_FAILED)
        return -ENOMEM;
    void *inner = mmap(outer + GUARD_BYTES, (size_t)size_bytes, protection_of(access),
                       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, (off_t)offset);
    if (inner == MAP_FAILED) {
        int error = errno;
        (void)munmap(outer, whole);
        return -error;
    }
    *address = inner;
    return 0;
}

static void unmap(void *address, uint64_t size_bytes)
{
    (void)munmap((unsigned char *)address - GUARD_BYTES, (size_t)(size_bytes + 2 * GUARD_BYTES));
}

static void replace_calls(void)
{
    ground_calls = covei_os_native;
    ground_calls.file_reserve = file_reserve;
    ground_calls.file_sync = file_sync;
    ground_calls.directory_sync = directory_sync;
    ground_calls.map = map;
    ground_calls.unmap = unmap;
    ground_calls.now = now;
    ground_calls.nap = nap;
    ground_calls.park = park;
    ground_calls.park_any = park_any;
    covei_os = &ground_calls;
}

/* ---- time */

int64_t ground_slept_ns(void)
{
    return slept_ns;
}

void ground_in_time(int64_t slept_before, int64_t most_ns, const char *what)
{
    if (slept_ns - slept_before > most_ns)
        ground_fail(what);
}

/* ---- the directory */

const char *ground_directory(void)
{
    return directory;
}

static void empty_directory(void)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    while (stream && (entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(stream), entry->d_name, 0);
    if (stream)
        (void)closedir(stream);
}

static void remove_directory(void)
{
    if (getpid() != owner)
        return;
    empty_directory();
    (void)rmdir(directory);
}

void ground_begin(void)
{
    const char *parent = getenv("FUZZ_DIR");
    if (!parent)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(directory, sizeof directory, "%s/fuzz-XXXXXX", parent);
    if (!mkdtemp(directory) || setenv("COVE_DIR", directory, 1) != 0) {
        perror("directory");
        exit(1);
    }
    owner = getpid();
    (void)atexit(remove_directory);
    replace_calls();
}

void ground_reset(void)
{
    sleeps = reserves = 0; /* not slept_ns: the clock does not go back */
}

void ground_clear(void)
{
    ground_reset();
    empty_directory();
}

/* ---- files */

void ground_demand(int64_t result, const char *what)
{
    if (result >= 0)
        return;
    (void)cove_complain(what);
    exit(1);
}

void ground_write(const char *path, const void *bytes, size_t size, size_t length)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t written = size < length ? size : length;
    if (file < 0 || pwrite(file, bytes, written, 0) != (ssize_t)written || ftruncate(file, (off_t)length) < 0) {
        perror(path);
        exit(1);
    }
    (void)close(file);
}

size_t ground_read(const char *path, void *bytes, size_t most)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t size = pread(file, bytes, most, 0);
    (void)close(file);
    return size < 0 ? 0 : (size_t)size;
}
