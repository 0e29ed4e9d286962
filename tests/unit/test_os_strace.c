/* test_os_strace.c - which system calls the library makes: those of its table, and no others.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * This program runs itself under strace with a part that uses the whole interface, in one thread, between two marks
 * (closing of descriptors that cannot be). What strace saw in between is compared with the list below both ways: a
 * system call that is not listed went around the table; one that must be seen and was not means that the list, or the
 * use, is out of date. */
/* ctest: timeout=60 */
#include "unit.h"

#include <cove/region.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define MARK_BEGIN (-1234)
#define MARK_END (-4321)

/* What the Linux port makes of the calls of os.h, with all names that libcs use for one thing on one line; and the
 * memory that libc wants for malloc and getgrnam. */
static const struct {
    const char *names;
    const char *what_for;
    bool must_be_seen;
} listed[] = {
    {"open openat", "file_open, file_make..., file_reopen, and /proc for process_self", true},
    {"close", "file_close", true},
    {"linkat", "file_publish", true},
    {"renameat2", "file_rename_new", false},
    {"rename renameat", "file_rename", true},
    {"fstat newfstatat lstat stat statx fstat64 fstatat64", "file_stat, path_stat", true},
    {"sched_yield", "file_open, where somebody has a lease on the file", false},
    {"rt_sigprocmask", "file_reserve, which no signal interrupts", true},
    {"fchmod", "file_set_mode", true},
    {"fchown fchown32", "file_set_group", true},
    {"fallocate", "file_reserve", true},
    {"pread64", "file_read_at", true},
    {"pwrite64", "file_write_at", true},
    {"unlink unlinkat", "path_remove", true},
    {"fstatfs statfs fstatfs64", "file_system", true},
    {"getdents getdents64", "directory_each", true},
    {"fcntl fcntl64", "lock_try, lock_drop, lock_held, file_copy, file_inherit", true},
    {"mmap mmap2", "map", true},
    {"munmap", "unmap", true},
    {"mprotect", "map_protect, and malloc", true},
    {"msync", "map_sync", true},
    {"fsync fdatasync", "file_sync, directory_sync", true},
    {"memfd_create", "file_make_memory", true},
    {"rt_sigaction sigaction", "fault_guard", true},
    {"getcwd", "working_directory", true},
    {"shmget shmat shmdt shmctl ipc", "shm_..., where there is System V memory", false},
    {"sendmsg recvmsg socketcall", "fd_send, fd_receive", true},
    {"madvise", "map_keep_from_dumps, wiped_page", true},
    {"futex futex_time64", "park, wake", false},
    {"futex_waitv", "park_any", false},
    {"membarrier", "fence_register, fence_all", true},
    {"clock_gettime clock_gettime64", "now, wall, where the vdso has none", false},
    {"nanosleep clock_nanosleep clock_nanosleep_time64", "nap", false},
    {"getcpu", "cpu", false},
    {"sched_getaffinity", "cpu_count", false},
    {"gettid", "thread_id", true},
    {"geteuid geteuid32", "user_id", true},
    {"getpid", "process_self", false},
    {"read", "process_self, boot_id: files of /proc", true},
    {"getrlimit prlimit64 ugetrlimit", "file_reserve: the file size limit", true},
    {"get_robust_list set_robust_list", "the robust mutexes of lanes", false},
    {"brk mremap getrandom", "malloc", false},
    {"lseek _llseek socket connect getuid sendto poll", "getgrnam_r", false},
    {"write", "libc's stdio on behalf of the test", false},
};

/* ---- the traced part: no cmocka, no output */

#define NEED(expr)    \
    do {              \
        if (!(expr))  \
            _exit(9); \
    } while (0)

static int visit(const char *name, void *context)
{
    (void)name;
    (void)context;
    return 0;
}

static void use_heap(cove_segment *segment)
{
    void *object = NULL;
    NEED(cove_object_open(&object, segment, "o", &(struct cove_type){.name = "o", .size_bytes = 64}, 0) >= 0);
    cove_mutex *mutex = object;
    cove_ref *field = (cove_ref *)object + 1;
    NEED(cove_mutex_lock(segment, mutex, COVE_FOREVER) == 0 && cove_mutex_unlock(segment, mutex) == 0);
    NEED(cove_begin(segment) == 0 && cove_mutex_lock(segment, mutex, COVE_NOWAIT) == 0);
    NEED(cove_save(segment, field, 8) == 0 && cove_alloc_into(segment, field, 100) == 0 && cove_commit(segment) == 0);
    NEED(cove_begin(segment) == 0 && cove_free_from(segment, field) == 0 && cove_abort(segment) == 0);
    cove_ref ref = cove_alloc(segment, (size_t)6 << 20); /* grows */
    NEED(ref != 0 && cove_keep(segment, ref) == 0 && cove_free(segment, ref) == 0);
    NEED(cove_segment_check(segment, NULL, NULL) == 0 && cove_recover(segment) == 0);
    struct cove_object_info objects[2];
    struct cove_member_info members[2];
    struct cove_segment_info info;
    NEED(cove_objects(segment, objects, 2) == 1 && cove_segment_members(segment, members, 2) == 1);
    NEED(cove_segment_stat(segment, &info) == 0 && cove_object_remove(segment, "o") == 0);
}

static void use_stream(cove_segment *segment, uint32_t flags)
{
    cove_stream *writer = NULL, *reader = NULL;
    struct cove_stream_options options = {.capacity_bytes = 4096, .flags = flags};
    char bytes[2048] = "";
    NEED(cove_stream_open_in(&reader, segment, "s", COVE_READER, &options) >= 0);
    NEED(cove_stream_read(reader, bytes, 1, 3000000) == -ETIMEDOUT); /* alone */
    NEED(cove_stream_open(&writer, "strace/s", COVE_WRITER, &options) >= 0);
    NEED(cove_stream_read(reader, bytes, 1, 3000000) == -ETIMEDOUT); /* with a peer */
    while (cove_stream_write(writer, bytes, 1000, 3000000) == 1000)
        ;
    NEED(cove_stream_close(writer) == 0);
    while (cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT) > 0)
        ;
    NEED(cove_stream_close(reader) == 0);
}

static int touch(void *data, uint64_t size_bytes, void *context)
{
    (void)context;
    ((volatile unsigned char *)data)[size_bytes - 1] = 1;
    return 0;
}

static void use_region(const char *name)
{
    cove_region *region = NULL;
    struct cove_region_info info;
    struct cove_region_options options = {.size_bytes = 8192, .flags = COVE_NODUMP};
    NEED(cove_region_open(&region, name, &options) == COVE_CREATED && cove_region_guard(region, touch, NULL) == 0);
    NEED(cove_region_protect(region, 0, 4096, COVE_ACCESS_READ) == 0 && cove_region_stat(region, &info) == 0);
    if (cove_supports(name, COVE_CAN_SYNC) == 1)
        NEED(cove_region_sync(region, 0, 0) == 0);
    if (cove_supports(name, COVE_CAN_NAME) == 1)
        NEED(cove_region_look(name, &info) == 0 && cove_region_set_rights(name, 0640, NULL) == 0);
    if (cove_supports(name, COVE_CAN_REPLACE) == 1)
        NEED(cove_region_replace(name, "new", 3, NULL) == 0);
    if (cove_supports(name, COVE_CAN_NAME) == 1)
        NEED(cove_region_unlink(name, 0) == 0);
    NEED(cove_region_close(region) == 0);
}

/* Nameless memory, sent and received and opened by its descriptor. */
static void use_descriptor(const int sockets[2])
{
    cove_region *region = NULL, *received = NULL;
    char name[16];
    NEED(cove_region_open(&region, "memfd:", &(struct cove_region_options){.size_bytes = 1}) == COVE_CREATED);
    int sent = cove_region_fd(region);
    NEED(sent >= 0 && cove_fd_send(sockets[0], sent) == 0);
    int fd = cove_fd_receive(sockets[1]);
    (void)snprintf(name, sizeof name, "fd:%d", fd);
    NEED(fd >= 0 && cove_region_open(&received, name, NULL) == 0);
    NEED(cove_region_close(region) == 0 && cove_region_close(received) == 0);
}

static void use_segment(const char *name)
{
    cove_segment *segment = NULL;
    struct cove_options small = {.size_bytes = 65536, .max_members = 8};
    NEED(cove_open(&segment, name, &small) == COVE_CREATED && cove_segment_check(segment, NULL, NULL) == 0);
    if (cove_supports(name, COVE_CAN_SYNC) == 1)
        NEED(cove_sync(segment, COVE_NOWAIT) == 0);
    NEED(cove_close(segment) == 0);
    if (cove_supports(name, COVE_CAN_NAME) == 1)
        NEED(cove_unlink(name, 0) == 0);
}

static void use_backends(const int sockets[2])
{
    char key[32];
    (void)snprintf(key, sizeof key, "sysv:0x%x", 0xe0000000u | (unsigned)getpid() << 4);
    use_region("posix:/strace-region");
    use_region("file:strace-region");
    use_region("memfd:");
    use_descriptor(sockets);
    use_segment("file:strace-segment");
    use_segment("memfd:");
    if (cove_supports(key, COVE_CAN_USE) == 1) {
        use_region(key);
        use_segment(key);
    }
    if (cove_supports("huge:strace-region", COVE_CAN_USE) == 1)
        use_segment("huge:strace-segment");
    use_segment("hugetry:strace-segment");
}

static int use_all(void)
{
    int sockets[2];
    NEED(chdir(cove_directory()) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    (void)close(MARK_BEGIN);
    use_backends(sockets);
    cove_segment *segment = NULL, *look = NULL;
    struct cove_segment_info info;
    struct cove_options options = {.flags = COVE_NODUMP, .group = getenv("COVE_TEST_GROUP")};
    NEED(cove_open(&segment, "strace", &options) == COVE_CREATED);
    use_heap(segment);
    use_stream(segment, 0);
    use_stream(segment, COVE_STREAM_NOSPIN);
    NEED(cove_open(&look, "strace", &(struct cove_options){.flags = COVE_READONLY}) == 0 && cove_close(look) == 0);
    NEED(cove_stat("strace", &info) == 0 && cove_segments(visit, NULL) == 0 && cove_gc(0, NULL, NULL) == 0);
    NEED(cove_unlink("strace", 0) == -EBUSY && cove_close(segment) == 0);
    segment = NULL;
    NEED(cove_open(&segment, "strace", &(struct cove_options){.flags = COVE_EXISTING}) == 0 &&
         cove_close(segment) == 0);
    NEED(cove_unlink("strace", 0) == 0);
    (void)close(MARK_END);
    return 0;
}

/* ---- the test */

/* Is `name` one of the words of `names`? */
static bool has_word(const char *names, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += length)
        if ((at == names || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

#define LISTED (sizeof listed / sizeof *listed)

static void note_call(const char *name, unsigned seen[LISTED])
{
    for (size_t i = 0; i < LISTED; i++)
        if (has_word(listed[i].names, name)) {
            seen[i]++;
            return;
        }
    testing_report("the library called %s, which is not in the list of the table's calls", name);
}

/* "12345 openat(...": the calls between the marks. Returns whether both marks are there. */
static bool read_log(FILE *log, unsigned seen[LISTED])
{
    char line[4096], name[64], mark_begin[32], mark_end[32];
    bool inside = false;
    (void)snprintf(mark_begin, sizeof mark_begin, "close(%d)", MARK_BEGIN);
    (void)snprintf(mark_end, sizeof mark_end, "close(%d)", MARK_END);
    while (fgets(line, sizeof line, log)) {
        if (strstr(line, mark_end))
            return inside;
        if (strstr(line, mark_begin))
            inside = true;
        else if (inside && sscanf(line, "%*d %63[a-z0-9_](", name) == 1)
            note_call(name, seen);
    }
    return false;
}

static void test_os_calls_are_those_of_the_table(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitizers make system calls of their own");
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/log", testing_dir());
    char *self = realpath("/proc/self/exe", NULL);
    assert_non_null(self);
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0)
            (void)setenv("COVE_TEST_GROUP", "root", 1);
        (void)execlp("strace", "strace", "-f", "-qq", "-o", path, self, "--use-all", (char *)NULL);
        _exit(77);
    }
    free(self);
    int status = testing_wait(pid);
    FILE *log = fopen(path, "re");
    if (!log || WEXITSTATUS(status) == 77 || (status != 0 && fgetc(log) == EOF)) {
        if (log)
            (void)fclose(log);
        (void)unlink(path);
        testing_skip("there is no strace here, or it may not trace");
    }
    rewind(log);
    unsigned seen[LISTED] = {0};
    bool whole = read_log(log, seen);
    (void)fclose(log);
    (void)unlink(path);
    if (status != 0 || !whole)
        fail_msg("the traced part did not get to its end (status %d)", status);
    for (size_t i = 0; i < LISTED; i++)
        if (listed[i].must_be_seen && seen[i] == 0 && (geteuid() == 0 || !strstr(listed[i].names, "fchown")))
            testing_report("none of %s (%s) was called", listed[i].names, listed[i].what_for);
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_os_calls_are_those_of_the_table, 30),
};

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "--use-all") == 0)
        return use_all();
    return testing_run("os_strace", tests);
}
