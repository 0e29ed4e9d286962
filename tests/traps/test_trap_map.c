/* test_trap_map.c - traps of mapping and of letting go: mmap, shmat, munmap, close, fstat.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "traps.h"

#include <dirent.h>
#include <sys/shm.h>

/* ---- row: mmap, its protections, flags, offset and wished address; shmaddr, SHM_RDONLY, SHM_REMAP */

static void touch_it(void *argument)
{
    trap_write(argument, 'x');
}

/* Trap: mmap of length 0 fails, and MAP_FAILED is no NULL: a program that looks for NULL, or not at all, goes on
 * to die. */
static void test_map_of_nothing_is_told(void **state)
{
    (void)state;
    const char *name = trap_shm_name("nothing");
    int fd = trap_shm_make(name, 0);
    char *data = mmap(NULL, 0, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_int_equal(errno, EINVAL);
    assert_non_null(data);
    EXPECT_DEATH(SIGSEGV, touch_it, data);
    assert_int_equal(close(fd) + shm_unlink(name), 0);

    cove_region *region = NULL;
    EXPECT_SAYS(-ENOENT, cove_region_open(&region, "nothing", NULL), "nothing"); /* no size: nothing is made */
    cove_region *four = trap_create("four", 4);
    struct cove_region_options beyond[] = {{.offset = 5}, {.offset = 3, .length_bytes = 2}, {.length_bytes = 5}};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++)
        EXPECT_SAYS(-EMSGSIZE, cove_region_open(&region, "four", &beyond[i]), "4 bytes");
    assert_null(region);
    trap_close(four);
    EXPECT(0, cove_region_unlink("four", 0));
}

/* Trap: the offset of a part must lie at a page's beginning; anything else is EINVAL, and nobody says which of six
 * it was. */
static void test_map_part_begins_anywhere(void **state)
{
    (void)state;
    size_t page = TRAP_PAGE;
    cove_region *whole = trap_create("whole", 3 * page);
    char *bytes = cove_region_data(whole);
    for (size_t at = 0; at < 3 * page; at++)
        bytes[at] = (char)(at % 251);
    int fd = cove_region_fd(whole);
    assert_true(mmap(NULL, 100, PROT_READ, MAP_SHARED, fd, 7) == MAP_FAILED);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(close(fd), 0);

    const size_t offsets[] = {0, 7, page - 1, page, page + 1, 3 * page - 1};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        cove_region *part = trap_open_as("whole", &(struct cove_region_options){.offset = offsets[i]});
        assert_int_equal(cove_region_size(part), 3 * page - offsets[i]);
        assert_memory_equal(cove_region_data(part), bytes + offsets[i], 3 * page - offsets[i]);
        trap_write(cove_region_data(part), '!');
        assert_int_equal(bytes[offsets[i]], '!');
        bytes[offsets[i]] = (char)(offsets[i] % 251);
        trap_close(part);
    }
    trap_close(whole);
    EXPECT(0, cove_region_unlink("whole", 0));
}

/* Trap: all map everything to write, readers too, and a reader's stray store is everybody's. */
static void test_map_reader_cannot_scribble(void **state)
{
    (void)state;
    const char *name = trap_shm_name("all");
    int fd = trap_shm_make(name, 10);
    char *writer = trap_map(fd, 10), *reader = trap_map(fd, 10);
    trap_write(reader, '?');
    assert_int_equal(trap_read(writer), '?');
    assert_int_equal(munmap(writer, 10) + munmap(reader, 10), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);

    cove_region *owner = trap_create("all", 10);
    cove_region *looker = trap_open_as("all", &(struct cove_region_options){.flags = COVE_READONLY});
    EXPECT_DEATH(SIGSEGV, touch_it, cove_region_data(looker));
    EXPECT_SAYS(-EACCES, cove_region_protect(looker, 0, 0, COVE_ACCESS_WRITE), "all");
    assert_int_equal(mprotect(cove_region_data(looker), 10, PROT_READ | PROT_WRITE), -1); /* by no other way either */
    assert_int_equal(trap_read(cove_region_data(owner)), 0);
    trap_write(cove_region_data(owner), 'a');
    assert_int_equal(trap_read(cove_region_data(looker)), 'a');
    trap_close(looker);
    trap_close(owner);
    EXPECT(0, cove_region_unlink("all", 0));
}

/* The same with shmat: SHM_RDONLY is the reader's to remember. */
static void test_map_system_v_reader_cannot_scribble(void **state)
{
    (void)state;
    trap_own_ipc();
    char name[64];
    key_t key = (key_t)(0x5f000000 | getpid());
    (void)snprintf(name, sizeof name, "sysv:0x%x", (unsigned)key);
    cove_region *owner = trap_create(name, 10);
    int id = shmget(key, 0, 0);
    char *data = shmat(id, NULL, 0); /* a reader of the old kind */
    assert_true(data != (void *)-1);
    trap_write(data, '?');
    assert_int_equal(trap_read(cove_region_data(owner)), '?');
    assert_int_equal(shmdt(data), 0);

    cove_region *looker = trap_open_as(name, &(struct cove_region_options){.flags = COVE_READONLY});
    EXPECT_DEATH(SIGSEGV, touch_it, cove_region_data(looker));
    EXPECT(-EACCES, cove_region_protect(looker, 0, 0, COVE_ACCESS_WRITE));
    assert_int_equal(trap_read(cove_region_data(owner)), '?');
    trap_close(looker);
    trap_close(owner);
    EXPECT(0, cove_region_unlink(name, 0));
}

/* Is there a page of that mapping which code could run in? */
static bool is_executable(const void *address)
{
    char line[600];
    bool executable = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        char rights[5];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, rights) == 3 && from <= (uintptr_t)address &&
            (uintptr_t)address < to)
            executable = rights[2] == 'x';
    }
    assert_int_equal(fclose(maps), 0);
    return executable;
}

/* Protections can be asked for, and are neither more nor less. */
static void test_map_access_is_what_was_asked_for(void **state)
{
    (void)state;
    cove_region *whole = trap_create("access", 2 * TRAP_PAGE);
    cove_region *none = trap_open_as("access", &(struct cove_region_options){.access = COVE_ACCESS_NONE});
    char *data = cove_region_data(none);
    EXPECT_DEATH(SIGSEGV, touch_it, data);
    EXPECT(0, cove_region_protect(none, 0, TRAP_PAGE, COVE_ACCESS_WRITE));
    assert_true(is_executable((void *)(uintptr_t)is_executable)); /* it can tell */
    assert_false(is_executable(data) || is_executable(cove_region_data(whole)));
    EXPECT_LIFE(touch_it, data);
    EXPECT_DEATH(SIGSEGV, touch_it, data + TRAP_PAGE);
    EXPECT(0, cove_region_protect(none, 0, 0, COVE_ACCESS_READ));
    EXPECT_DEATH(SIGSEGV, touch_it, data);
    assert_int_equal(trap_read(data), 'x');
    char page_text[32];
    (void)snprintf(page_text, sizeof page_text, "%zu", TRAP_PAGE);
    EXPECT_SAYS(-EINVAL, cove_region_protect(none, 10, 20, COVE_ACCESS_NONE), page_text); /* not silently a page */
    trap_close(none);
    trap_close(whole);
    EXPECT(0, cove_region_unlink("access", 0));
}

/* Trap: MAP_FIXED and SHM_REMAP put the memory where it was wished for, and what lay there is gone without a word. */
static void test_map_fixed_address_destroys_what_was_there(void **state)
{
    (void)state;
    trap_own_ipc();
    const char *name = trap_shm_name("fixed");
    int fd = trap_shm_make(name, TRAP_PAGE);
    char *precious = mmap(NULL, TRAP_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(precious, "precious");
    char *wished = mmap(precious, TRAP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(wished != MAP_FAILED && wished != precious); /* elsewhere: pointers are wrong */
    assert_int_equal(munmap(wished, TRAP_PAGE), 0);
    assert_ptr_equal(mmap(precious, TRAP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), precious);
    assert_string_equal(precious, "");

    strcpy(precious, "precious");
    int id = shmget(IPC_PRIVATE, TRAP_PAGE, 0600);
    assert_ptr_equal(shmat(id, precious, 0), (void *)-1);
    assert_int_equal(errno, EINVAL);
    assert_ptr_equal(shmat(id, precious, SHM_REMAP), precious);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
    assert_string_equal(precious, "");
    assert_int_equal(munmap(precious, TRAP_PAGE), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);
}

/* Cove: nobody wishes for an address. Where another process has it does not matter, and nothing is in the way. */
static void test_map_refs_need_no_address(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("refs");
    struct box {
        cove_ref text;
    } *box = unit_object(segment, "box", sizeof *box);
    EXPECT(0, cove_alloc_into(segment, &box->text, 9));
    memcpy(cove_at(segment, box->text, 9), "anywhere", 9);
    void *first = box;
    unit_close(segment);
    void *taken = mmap((char *)first - (uintptr_t)first % TRAP_PAGE, TRAP_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
    segment = unit_open("refs"); /* somebody else has its old address now */
    box = unit_object(segment, "box", sizeof *box);
    assert_ptr_not_equal(box, first);
    assert_string_equal(cove_at(segment, box->text, 9), "anywhere");
    unit_close(segment);
    assert_int_equal(munmap(taken, TRAP_PAGE), 0);
    unit_remove("refs");
}

/* ---- row: munmap, close, fstat */

/* Trap: an address that was unmapped is used once more. Cove: a handle says that it is closed. */
static void test_map_used_after_unmap(void **state)
{
    (void)state;
    const char *name = trap_shm_name("gone");
    int fd = trap_shm_make(name, TRAP_PAGE);
    char *data = trap_map(fd, TRAP_PAGE);
    assert_int_equal(close(fd) + shm_unlink(name), 0); /* neither of these takes the memory away */
    EXPECT_LIFE(touch_it, data);
    assert_int_equal(munmap(data, TRAP_PAGE), 0);
    EXPECT_DEATH(SIGSEGV, touch_it, data);

    cove_segment *segment = unit_open("gone");
    cove_stream *stream = NULL;
    EXPECT(COVE_CREATED, cove_stream_open_in(&stream, segment, "log", COVE_WRITER, NULL));
    unit_close(segment);
    EXPECT_SAYS(COVE_ECLOSED, (int)cove_stream_write(stream, "late", 4, COVE_NOWAIT), "gone/log");
    EXPECT(0, cove_stream_close(stream));
    unit_remove("gone");
}

/* A program that was started by this one: does it have descriptor `fd`? */
static bool program_has(int fd)
{
    char test[64];
    (void)snprintf(test, sizeof test, "test -e /proc/self/fd/%d", fd);
    int status = system(test);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 0;
}

static void assert_all_close_on_exec(void)
{
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[300], to[300];
        (void)snprintf(path, sizeof path, "/proc/self/fd/%.200s", entry->d_name);
        ssize_t length = readlink(path, to, sizeof to - 1);
        to[length < 0 ? 0 : length] = '\0';
        if (strstr(to, "cove") &&
            (strstr(to, testing_name("")) || strstr(to, cove_directory()) || strstr(to, "memfd:")))
            assert_true(fcntl(atoi(entry->d_name), F_GETFD) & FD_CLOEXEC);
    }
    assert_int_equal(closedir(directory), 0);
}

/* Trap: without O_CLOEXEC every program that is started from here gets the descriptor, and the right to write with
 * it. */
static void test_map_descriptor_leaks_into_programs(void **state)
{
    (void)state;
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", trap_file("secret", "key", 3));
    int fd = open(path, O_RDWR);
    assert_true(program_has(fd));
    assert_int_equal(close(fd), 0);
    fd = memfd_create("secret", 0);
    assert_true(program_has(fd));
    assert_int_equal(close(fd) + unlink(path), 0);

    cove_segment *segment = unit_open("closed");
    cove_region *named = trap_create("secret", 10);
    cove_region *nameless = trap_create("memfd:", 10);
    int fds[] = {cove_region_fd(named), cove_region_fd(nameless), cove_segment_fd(segment)};
    assert_all_close_on_exec(); /* those that it keeps for itself too */
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        assert_true(fds[i] >= 0);
        assert_false(program_has(fds[i]));
        assert_int_equal(close(fds[i]), 0);
    }
    trap_close(nameless);
    trap_close(named);
    unit_close(segment);
    EXPECT(0, cove_region_unlink("secret", 0));
    unit_remove("closed");
}

/* Trap: fstat gives a size and nothing else, and 0 where the creator is not there yet. Cove's books say what it
 * is. */
static void test_map_size_and_kind_are_known(void **state)
{
    (void)state;
    const char *name = trap_shm_name("kind");
    int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_int_equal(trap_size(fd), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);

    trap_close(trap_create("bytes", 12345));
    unit_close(unit_open("structured"));
    assert_int_equal(trap_look("bytes").size_bytes, 12345);
    assert_int_equal(trap_look("bytes").is_segment, 0);
    assert_int_equal(trap_look("structured").is_segment, 1);
    cove_region *region = NULL;
    cove_segment *segment = NULL;
    EXPECT_SAYS(COVE_ETYPE, cove_region_open(&region, "structured", NULL), "segment"); /* neither for the other */
    EXPECT_SAYS(COVE_ENOTCOVE, cove_open(&segment, "bytes", NULL), "not a Cove segment");
    EXPECT(0, cove_region_unlink("bytes", 0));
    unit_remove("structured");
}

static const struct testing_case tests[] = {
    TEST(test_map_of_nothing_is_told),
    TEST(test_map_part_begins_anywhere),
    TEST(test_map_reader_cannot_scribble),
    TEST(test_map_system_v_reader_cannot_scribble),
    TEST(test_map_access_is_what_was_asked_for),
    TEST(test_map_fixed_address_destroys_what_was_there),
    TEST(test_map_refs_need_no_address),
    TEST(test_map_used_after_unmap),
    TEST(test_map_descriptor_leaks_into_programs),
    TEST(test_map_size_and_kind_are_known),
};

int main(void)
{
    return testing_run("trap_map", tests);
}
