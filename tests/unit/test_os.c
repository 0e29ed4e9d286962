/* test_os.c - the port, call by call, against the spec in os.h: what it returns, and each error that it names.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=60 */
#include "unit.h"

#include "os/os.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

static char path[1024], path2[1024];

static void set_paths(void)
{
    (void)snprintf(path, sizeof path, "%s/f", testing_dir());
    (void)snprintf(path2, sizeof path2, "%s/g", testing_dir());
}

/* A file of that many bytes with a name. */
static int make_file(uint64_t size_bytes)
{
    set_paths();
    int file = covei_os->file_make(path);
    assert_true(file >= 0);
    assert_int_equal(covei_os->file_set_mode(file, 0600), 0);
    if (size_bytes > 0)
        assert_int_equal(covei_os->file_reserve(file, 0, size_bytes), 0);
    return file;
}

static void drop_file(int file)
{
    covei_os->file_close(file);
    assert_int_equal(covei_os->path_remove(path), 0);
}

static void assert_close_on_exec(int file)
{
    assert_true(fcntl(file, F_GETFD) & FD_CLOEXEC);
}

/* Every call is there: a port that forgets one is found here, not in a crash. */
static void test_os_table_is_whole(void **state)
{
    (void)state;
    void (*calls[sizeof(struct covei_os) / sizeof(void (*)(void))])(void);
    memcpy(calls, &covei_os_native, sizeof calls);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        assert_true(calls[i] != NULL);
    assert_ptr_equal(covei_os, &covei_os_native);
}

static void test_os_file_open(void **state)
{
    (void)state;
    int file = make_file(100);
    int other = covei_os->file_open(path, COVEI_OPEN_WRITE);
    assert_true(other >= 0);
    assert_close_on_exec(file);
    assert_close_on_exec(other);
    assert_int_equal(covei_os->file_write_at(other, "abc", 3, 10), 3);
    covei_os->file_close(other);
    other = covei_os->file_open(path, COVEI_OPEN_READ);
    char bytes[4] = "";
    assert_int_equal(covei_os->file_read_at(other, bytes, 3, 10), 3);
    assert_string_equal(bytes, "abc");
    assert_int_equal(covei_os->file_read_at(other, bytes, 3, 99), 1); /* up to the end */
    assert_int_equal(covei_os->file_read_at(other, bytes, 3, 100), 0);
    assert_int_equal(covei_os->file_write_at(other, "x", 1, 0), -EBADF);
    covei_os->file_close(other);
    drop_file(file);
    assert_int_equal(covei_os->file_open(path, COVEI_OPEN_READ), -ENOENT);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(covei_os->file_open(path, COVEI_OPEN_READ), -ELOOP);
    assert_int_equal(covei_os->file_open(path, COVEI_OPEN_WRITE), -ELOOP);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(covei_os->file_open(testing_dir(), COVEI_OPEN_WRITE), -EISDIR);
    assert_int_equal(mkfifo(path, 0600), 0);
    file = covei_os->file_open(path, COVEI_OPEN_READ); /* does not wait for a writer */
    assert_true(file >= 0);
    struct covei_file_stat info;
    assert_int_equal(covei_os->file_stat(file, &info), 0);
    assert_int_equal(info.kind, COVEI_FILE_FIFO);
    covei_os->file_close(file);
    assert_int_equal(unlink(path), 0);
}

static void test_os_file_open_without_descriptors(void **state)
{
    (void)state;
    int file = make_file(0);
    struct rlimit limit, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int opened = covei_os->file_open(path, COVEI_OPEN_READ), made = covei_os->file_make(path2),
        nameless = covei_os->file_make_nameless(testing_dir()), again = covei_os->file_reopen(file, COVEI_OPEN_READ);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(opened, -EMFILE);
    assert_int_equal(made, -EMFILE);
    assert_int_equal(nameless, -EMFILE);
    assert_int_equal(again, -EMFILE);
    drop_file(file);
}

static void test_os_file_make_and_rename(void **state)
{
    (void)state;
    int file = make_file(0);
    assert_int_equal(covei_os->file_make(path), -EEXIST);
    int other = covei_os->file_make(path2);
    assert_true(other >= 0);
    assert_close_on_exec(other);
    struct covei_file_stat info;
    assert_int_equal(covei_os->file_stat(other, &info), 0);
    assert_int_equal(info.mode & ~0600u, 0); /* nobody else may open it yet */
    assert_int_equal(covei_os->file_rename_new(path2, path), -EEXIST); /* never replaces */
    assert_int_equal(covei_os->path_remove(path), 0);
    assert_int_equal(covei_os->file_rename_new(path2, path), 0);
    assert_int_equal(covei_os->file_rename_new(path2, path), -ENOENT);
    assert_int_equal(covei_os->path_stat(path2, &info), -ENOENT);
    covei_os->file_close(other);
    drop_file(file);
    assert_int_equal(covei_os->path_remove(path), -ENOENT);
    assert_true(covei_os->path_remove(testing_dir()) < 0);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(covei_os->file_make(path), -EEXIST); /* nor follows */
    assert_int_equal(unlink(path), 0);
}

static void test_os_nameless_is_published_once(void **state)
{
    (void)state;
    set_paths();
    assert_int_equal(covei_os->file_make_nameless("/nonexistent"), -ENOENT);
    int one = covei_os->file_make_nameless(testing_dir()), two = covei_os->file_make_nameless(testing_dir());
    if (one == -EOPNOTSUPP)
        testing_skip("this file system has no nameless files");
    assert_close_on_exec(one);
    struct covei_file_stat info, named;
    assert_int_equal(covei_os->file_stat(one, &info), 0);
    assert_int_equal(info.mode & ~0600u, 0);
    assert_int_equal(covei_os->file_set_mode(one, 0600), 0);
    assert_int_equal(covei_os->file_publish(one, path), 0);
    assert_int_equal(covei_os->file_publish(two, path), -EEXIST);
    assert_int_equal(covei_os->path_stat(path, &named), 0);
    assert_int_equal(named.inode, info.inode);
    assert_int_equal(named.device, info.device);
    covei_os->file_close(two); /* which leaves nothing */
    drop_file(one);
}

static void test_os_stat_and_rights(void **state)
{
    (void)state;
    int file = make_file(8192);
    struct covei_file_stat info;
    (void)umask(0777);
    static const uint32_t modes[] = {0600, 0666, 0, 0777, 0440};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(covei_os->file_set_mode(file, modes[i]), 0);
        assert_int_equal(covei_os->file_stat(file, &info), 0);
        assert_int_equal(info.mode, modes[i]);
    }
    assert_int_equal(info.kind, COVEI_FILE_REGULAR);
    assert_int_equal(info.size_bytes, 8192);
    assert_int_equal(info.allocated_bytes, 8192);
    assert_int_equal(info.uid, geteuid());
    assert_int_equal(covei_os->file_set_group(file, getegid()), 0);
    assert_int_equal(covei_os->file_set_mode(-1, 0600), -EBADF);
    assert_int_equal(covei_os->file_set_group(-1, 0), -EBADF);
    assert_int_equal(covei_os->file_stat(-1, &info), -EBADF);
    assert_int_equal(covei_os->path_stat(testing_dir(), &info), 0);
    assert_int_equal(info.kind, COVEI_FILE_DIRECTORY);
    drop_file(file);
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(covei_os->path_stat(path, &info), 0);
    assert_int_equal(info.kind, COVEI_FILE_LINK);
    assert_int_equal(unlink(path), 0);
    uint32_t gid = 77;
    assert_int_equal(covei_os->group_find("root", &gid), 0);
    assert_int_equal(gid, 0);
    gid = 77;
    assert_int_equal(covei_os->group_find("no-such-group-here", &gid), -ENOENT);
    assert_int_equal(gid, 77);
}

static void test_os_reserve_is_there_and_repeatable(void **state)
{
    (void)state;
    int file = make_file(4096);
    assert_int_equal(covei_os->file_write_at(file, "x", 1, 0), 1);
    assert_int_equal(covei_os->file_reserve(file, 0, 4096), 0);
    assert_int_equal(covei_os->file_reserve(file, 65536, 4096), 0); /* behind a hole */
    struct covei_file_stat info;
    assert_int_equal(covei_os->file_stat(file, &info), 0);
    assert_int_equal(info.size_bytes, 65536 + 4096);
    assert_int_equal(info.allocated_bytes, 8192);
    char byte = 0;
    assert_int_equal(covei_os->file_read_at(file, &byte, 1, 0), 1);
    assert_int_equal(byte, 'x'); /* nothing was changed */
    struct covei_file_system system;
    assert_int_equal(covei_os->file_system(file, &system), 0);
    assert_true(system.free_bytes <= system.total_bytes && system.total_bytes > 0);
    assert_true(system.block_bytes > 0 && !system.network && !system.huge);
    int result = covei_os->file_reserve(file, 0, UINT64_C(1) << 60);
    assert_true(result == -ENOSPC || result == -EFBIG);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    rlim_t kept = limit.rlim_cur;
    limit.rlim_cur = 128 << 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    result = covei_os->file_reserve(file, 0, 256 << 10); /* no signal */
    int small_result = covei_os->file_reserve(file, 0, 128 << 10);
    int wrapping = covei_os->file_reserve(file, UINT64_MAX - 4095, 8192);
    limit.rlim_cur = kept;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(result, -EFBIG);
    assert_int_equal(small_result, 0);
    assert_true(wrapping < 0);
    assert_int_equal(covei_os->file_reserve(-1, 0, 1), -EBADF);
    assert_int_equal(covei_os->file_system(-1, &system), -EBADF);
    assert_int_equal(covei_os->file_read_at(-1, &byte, 1, 0), -EBADF);
    drop_file(file);
}

static int count_entry(const char *name, void *context)
{
    int *count = context;
    *count += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    return *count == 3 ? 33 : 0;
}

static void test_os_directory_each(void **state)
{
    (void)state;
    int file = make_file(0), count = 0;
    assert_int_equal(covei_os->directory_each(testing_dir(), count_entry, &count), 0);
    assert_int_equal(count, 1);
    count = 2;
    assert_int_equal(covei_os->directory_each(testing_dir(), count_entry, &count), 33);
    assert_int_equal(covei_os->directory_each("/nonexistent", count_entry, &count), -ENOENT);
    assert_int_equal(covei_os->directory_each(path, count_entry, &count), -ENOTDIR);
    drop_file(file);
}

/* ---- locks */

static void try_lock_elsewhere(void *argument)
{
    uint64_t byte = *(uint64_t *)argument;
    int file = covei_os->file_open(path, COVEI_OPEN_WRITE);
    assert_int_equal(covei_os->lock_held(file, byte), 1);
    assert_int_equal(covei_os->lock_try(file, byte, true), -EAGAIN);
    assert_int_equal(covei_os->lock_held(file, byte + 1), 0);
    assert_int_equal(covei_os->lock_try(file, byte + 1, true), 0);
    testing_reach(0);
    unit_wait_for_death();
}

static void test_os_locks_belong_to_descriptions(void **state)
{
    (void)state;
    int file = make_file(0);
    static const uint64_t bytes[] = {0, 1 << 20, UINT64_C(1) << 40};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t byte = bytes[i];
        int one = covei_os->file_reopen(file, COVEI_OPEN_WRITE), two = covei_os->file_reopen(file, COVEI_OPEN_WRITE);
        assert_close_on_exec(one);
        assert_int_equal(covei_os->lock_held(file, byte), 0);
        assert_int_equal(covei_os->lock_try(one, byte, true), 0);
        assert_int_equal(covei_os->lock_try(one, byte, true), 0); /* again, by the same */
        assert_int_equal(covei_os->lock_held(one, byte), 0); /* not by anybody else */
        assert_int_equal(covei_os->lock_held(two, byte), 1);
        assert_int_equal(covei_os->lock_try(two, byte, true), -EAGAIN);
        assert_int_equal(covei_os->lock_try(two, byte, false), -EAGAIN);
        pid_t pid = testing_spawn(try_lock_elsewhere, &byte);
        testing_await_count(0, i + 1);
        assert_int_equal(covei_os->lock_held(file, byte + 1), 1);
        testing_kill(pid);
        UNTIL(covei_os->lock_held(file, byte + 1) == 0, 5000); /* the kernel drops it */
        int unrelated = covei_os->file_open(path, COVEI_OPEN_WRITE);
        covei_os->file_close(unrelated); /* closing another descriptor of the file drops nothing */
        assert_int_equal(covei_os->lock_held(two, byte), 1);
        assert_int_equal(covei_os->lock_drop(one, byte), 0);
        assert_int_equal(covei_os->lock_drop(one, byte), 0);
        assert_int_equal(covei_os->lock_try(one, byte, false), 0); /* shared: both */
        assert_int_equal(covei_os->lock_try(two, byte, false), 0);
        assert_int_equal(covei_os->lock_try(two, byte, true), -EAGAIN);
        covei_os->file_close(one); /* with it goes its lock */
        assert_int_equal(covei_os->lock_try(two, byte, true), 0);
        covei_os->file_close(two);
    }
    assert_int_equal(covei_os->lock_try(-1, 0, true), -EBADF);
    assert_int_equal(covei_os->lock_drop(-1, 0), -EBADF);
    assert_int_equal(covei_os->lock_held(-1, 0), -EBADF);
    assert_int_equal(covei_os->file_reopen(-1, COVEI_OPEN_READ), -ENOENT);
    drop_file(file);
}

/* ---- mappings and parking */

static void test_os_map(void **state)
{
    (void)state;
    int file = make_file(4096);
    void *one = NULL, *two = NULL;
    assert_int_equal(covei_os->map(&one, file, 0, UINT64_C(1) << 30, COVEI_ACCESS_WRITE, false), 0); /* beyond the end is allowed */
    assert_int_equal(covei_os->map(&two, file, 0, 4096, COVEI_ACCESS_READ, false), 0);
    *(volatile int *)one = 42;
    assert_int_equal(*(volatile int *)two, 42);
    assert_int_equal(covei_os->file_reserve(file, 4096, 4096), 0);
    ((volatile char *)one)[8191] = 1; /* no new mapping is needed */
    assert_int_equal(covei_os->map_keep_from_dumps(one, UINT64_C(1) << 30), 0);
    covei_os->unmap(one, UINT64_C(1) << 30);
    covei_os->unmap(two, 4096);
    one = NULL;
    assert_int_equal(covei_os->map(&one, file, 0, UINT64_C(1) << 62, COVEI_ACCESS_WRITE, false), -ENOMEM);
    assert_int_equal(covei_os->map(&one, -1, 0, 4096, COVEI_ACCESS_WRITE, false), -EBADF);
    int look = covei_os->file_open(path, COVEI_OPEN_READ);
    assert_int_equal(covei_os->map(&one, look, 0, 4096, COVEI_ACCESS_WRITE, false), -EACCES);
    covei_os->file_close(look);
    assert_null(one);
    drop_file(file);
}

static _Atomic uint32_t *words;

static void *wake_later(void *argument)
{
    (void)argument;
    testing_await(0);
    while (covei_os->wake((void *)words, 1) == 0)
        (void)sched_yield();
    return NULL;
}

static void test_os_park_and_wake(void **state)
{
    (void)state;
    words = testing_shared(4096);
    atomic_store(words, 5);
    assert_int_equal(covei_os->park((void *)words, 4, UNIT_S), -EAGAIN);
    int64_t begun = covei_os->now();
    assert_int_equal(covei_os->park((void *)words, 5, 3 * UNIT_MS), -ETIMEDOUT);
    assert_true(covei_os->now() - begun >= 3 * UNIT_MS);
    assert_int_equal(covei_os->wake((void *)words, INT32_MAX), 0); /* nobody sleeps */
    pthread_t thread = unit_thread(wake_later, NULL);
    testing_reach(0);
    assert_int_equal(covei_os->park((void *)words, 5, 60 * UNIT_S), 0);
    unit_thread_join(thread);
    struct covei_park parks[3] = {
        {(void *)words, 5}, {(void *)&words[100], 0}, {(void *)&words[200], 0}};
    int result = covei_os->park_any(parks, 3, 2 * UNIT_MS);
    if (result == -ENOSYS)
        return;
    assert_int_equal(result, -ETIMEDOUT);
    parks[2].expected = 1;
    assert_int_equal(covei_os->park_any(parks, 3, UNIT_S), -EAGAIN);
    parks[0].expected = 4;
    assert_int_equal(covei_os->park_any(parks, 1, UNIT_S), -EAGAIN);
    thread = unit_thread(wake_later, NULL);
    parks[0] = (struct covei_park){(void *)&words[100], 0};
    parks[1] = (struct covei_park){(void *)words, 5};
    assert_true(covei_os->park_any(parks, 2, 60 * UNIT_S) >= 0);
    unit_thread_join(thread);
}

static void test_os_wiped_page_is_wiped_by_a_fork(void **state)
{
    (void)state;
    unsigned char *page = covei_os->wiped_page();
    if (!page)
        testing_skip("this kernel has no MADV_WIPEONFORK");
    for (int i = 0; i < 4096; i++)
        assert_int_equal(page[i], 0);
    page[0] = page[4095] = 1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(page[0] == 0 && page[4095] == 0 ? 0 : 1);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(page[0], 1);
    assert_int_equal(munmap(page, 4096), 0);
}

/* ---- time and processes */

static void test_os_time_and_fences(void **state)
{
    (void)state;
    int64_t before = covei_os->now();
    covei_os->nap(2 * UNIT_MS);
    assert_true(covei_os->now() - before >= 2 * UNIT_MS);
    struct timespec wall;
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &wall), 0);
    assert_in_range(covei_os->wall() / 1000000000u, (uint64_t)wall.tv_sec, (uint64_t)wall.tv_sec + 60);
    int count = covei_os->cpu_count();
    assert_in_range(count, 1, 100000);
    assert_int_equal(covei_os->cpu_count(), count);
    assert_true(covei_os->cpu() >= 0);
    int registered = covei_os->fence_register();
    assert_true(registered == 0 || registered == -ENOSYS || registered == -EPERM);
    if (registered == 0)
        assert_int_equal(covei_os->fence_all(), 0);
    assert_int_equal(covei_os->thread_id(), getpid());
    assert_int_equal(covei_os->user_id(), geteuid());
    uint8_t id[16], again[16];
    covei_os->boot_id(id);
    covei_os->boot_id(again);
    assert_memory_equal(id, again, 16);
}

static void describe_and_wait(void *argument)
{
    covei_os->process_self(argument);
    testing_reach(0);
    testing_await(1);
    _exit(0);
}

static void test_os_process_that_ended_is_told(void **state)
{
    (void)state;
    struct covei_process *child = testing_shared(sizeof *child), self;
    covei_os->process_self(&self);
    assert_int_equal(self.pid, getpid());
    assert_string_equal(self.command, "test_os");
    assert_int_equal(covei_os->process_ended(&self), -1);
    pid_t pid = testing_spawn(describe_and_wait, child);
    testing_await(0);
    assert_int_equal(child->pid, pid);
    assert_int_equal(covei_os->process_ended(child), -1); /* it lives */
    testing_reach(1);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(covei_os->process_ended(child), 1); /* a zombie has ended */
    testing_join(pid);
    assert_int_equal(covei_os->process_ended(child), 1); /* gone */
    self.start_ticks++;
    assert_int_equal(covei_os->process_ended(&self), 1); /* the pid is somebody else's by now */
    self.start_ticks = 0;
    assert_int_equal(covei_os->process_ended(&self), 0);
    covei_os->process_self(&self);
    self.pid_namespace++;
    assert_int_equal(covei_os->process_ended(&self), 0); /* of another namespace: nobody can tell */
    self.pid = -1;
    assert_int_equal(covei_os->process_ended(&self), 0);
}

static const struct testing_case tests[] = {
    TEST(test_os_table_is_whole),
    TEST(test_os_file_open),
    TEST(test_os_file_open_without_descriptors),
    TEST(test_os_file_make_and_rename),
    TEST(test_os_nameless_is_published_once),
    TEST(test_os_stat_and_rights),
    TEST(test_os_reserve_is_there_and_repeatable),
    TEST(test_os_directory_each),
    TEST(test_os_locks_belong_to_descriptions),
    TEST(test_os_map),
    TEST(test_os_park_and_wake),
    TEST(test_os_wiped_page_is_wiped_by_a_fork),
    TEST(test_os_time_and_fences),
    TEST(test_os_process_that_ended_is_told),
};

int main(void)
{
    return testing_run("os", tests);
}
