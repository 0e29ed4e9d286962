/* test_trap_create.c - traps of making shared memory: whose it is, what is in it, who may use it, and when it is
 * ready.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "traps.h"

#define MAKERS 8
#define WHOLE_BYTES ((size_t)300000)

/* ---- row: shm_open, its flags and its mode */

/* Trap: O_CREAT without O_EXCL takes what a run before left for its own fresh memory. */
static void test_create_without_excl_adopts_stale_content(void **state)
{
    (void)state;
    trap_meet_shm_open();
    const char *name = trap_shm_name("stale");
    int fd = trap_shm_make(name, 100);
    char *data = trap_map(fd, 100);
    strcpy(data, "yesterday's"); /* and then it is killed: nobody removes the name */
    assert_int_equal(munmap(data, 100), 0);
    assert_int_equal(close(fd), 0);

    fd = shm_open(name, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0); /* no word of it having been there */
    assert_int_equal(ftruncate(fd, 100), 0);
    data = trap_map(fd, 100);
    assert_string_equal(data, "yesterday's");
    assert_int_equal(munmap(data, 100), 0);
    assert_int_equal(close(fd), 0);

    cove_region *region = NULL;
    struct cove_region_options options = {.size_bytes = 100};
    EXPECT(0, cove_region_open(&region, trap_posix_name(name), &options)); /* 0: it was there */
    trap_close(region);
    options.flags = COVE_EXCLUSIVE;
    EXPECT_SAYS(-EEXIST, cove_region_open(&region, trap_posix_name(name), &options), name);
    EXPECT(0, cove_region_unlink(trap_posix_name(name), 0));
    EXPECT(COVE_CREATED, cove_region_open(&region, trap_posix_name(name), &options));
    assert_string_equal(cove_region_data(region), "");
    trap_close(region);
    EXPECT(0, cove_region_unlink(trap_posix_name(name), 0));
}

struct board {
    _Atomic uint32_t made, came;
};

static void make_once(void *argument)
{
    (void)argument;
    cove_region *region = NULL;
    testing_reach(0);
    testing_await_count(0, MAKERS);
    int64_t result = EXPECT_GOOD(
        cove_region_open(&region, "board", &(struct cove_region_options){.size_bytes = sizeof(struct board)}));
    struct board *board = cove_region_data(region);
    atomic_fetch_add_explicit(&board->came, 1, memory_order_relaxed); /* relaxed: counted when all have ended */
    atomic_fetch_add_explicit(&board->made, result == COVE_CREATED, memory_order_relaxed);
    trap_close(region);
}

/* Trap: of two that look first and create then, both believe to have created it, and the second wipes what the
 * first began. */
static void test_create_after_look_makes_two_creators(void **state)
{
    (void)state;
    const char *name = trap_shm_name("twice");
    for (int program = 0; program < 2; program++) {
        assert_int_equal(shm_open(name, O_RDWR, 0), -1); /* both look before either creates */
        assert_int_equal(errno, ENOENT);
    }
    int *counts[2], fds[2];
    for (int program = 0; program < 2; program++) {
        fds[program] = shm_open(name, O_CREAT | O_RDWR, 0600);
        assert_int_equal(ftruncate(fds[program], sizeof(int)), 0);
        counts[program] = (int *)(void *)trap_map(fds[program], sizeof(int));
        *counts[program] = 0; /* "it is mine, so I set it up" */
        (*counts[program])++;
    }
    assert_int_equal(*counts[0], 1); /* two were counted, one is left */
    for (int program = 0; program < 2; program++) {
        assert_int_equal(munmap(counts[program], sizeof(int)), 0);
        assert_int_equal(close(fds[program]), 0);
    }
    assert_int_equal(shm_unlink(name), 0);

    pid_t pids[MAKERS];
    for (int i = 0; i < MAKERS; i++)
        pids[i] = testing_spawn(make_once, NULL);
    for (int i = 0; i < MAKERS; i++)
        testing_join(pids[i]);
    cove_region *region = trap_open_as("board", NULL);
    struct board *board = cove_region_data(region);
    assert_int_equal(board->made, 1);
    assert_int_equal(board->came, MAKERS);
    trap_close(region);
    EXPECT(0, cove_region_unlink("board", 0));
}

/* Trap: the mode is only a wish; the umask decides, without a word. */
static void test_create_mode_is_eaten_by_umask(void **state)
{
    (void)state;
    trap_meet_shm_open();
    const char *name = trap_shm_name("mode");
    (void)umask(0077);
    int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0660);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600); /* the group that was to share it cannot */
    assert_int_equal(close(fd), 0);
    assert_int_equal(shm_unlink(name), 0);

    static const mode_t umasks[] = {0, 0077, 0777};
    for (size_t i = 0; i < sizeof umasks / sizeof *umasks; i++) {
        (void)umask(umasks[i]);
        cove_region *region = NULL;
        struct cove_region_options options = {.size_bytes = 10, .mode = 0660};
        EXPECT(COVE_CREATED, cove_region_open(&region, trap_posix_name(name), &options));
        trap_close(region);
        assert_int_equal(trap_look(trap_posix_name(name)).mode, 0660);
        EXPECT(0, cove_region_unlink(trap_posix_name(name), 0));
        trap_close(trap_create(trap_posix_name(name), 10)); /* and nobody else's business where nothing was said */
        assert_int_equal(trap_look(trap_posix_name(name)).mode, 0600);
        EXPECT(0, cove_region_unlink(trap_posix_name(name), 0));
    }
}

static void in_directory(const char *name)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", testing_dir(), name);
    (void)mkdir(path, 0700);
    assert_int_equal(setenv("COVE_DIR", path, 1), 0);
}

/* Trap: there is one "/state" for the whole machine, and two programs that both call theirs so share it by
 * accident. */
static void test_create_names_of_two_programs_clash(void **state)
{
    (void)state;
    const char *name = trap_shm_name("state");
    int fd = trap_shm_make(name, sizeof(double));
    double *theirs = (double *)(void *)trap_map(fd, sizeof(double));
    *theirs = 1.0;
    int other = shm_open(name, O_CREAT | O_RDWR, 0600);
    uint64_t *ours = (uint64_t *)(void *)trap_map(other, sizeof(uint64_t));
    assert_int_not_equal(*ours, 1); /* another program's idea of what lies there */
    assert_int_equal(munmap(theirs, sizeof(double)) + munmap(ours, sizeof(uint64_t)), 0);
    assert_int_equal(close(fd) + close(other) + shm_unlink(name), 0);

    in_directory("one"); /* a place for each installation */
    cove_segment *segment = unit_open("state");
    void *object = NULL;
    static const struct cove_type real = {.name = "real", .version = 1, .size_bytes = 8};
    static const struct cove_type whole = {.name = "whole", .version = 1, .size_bytes = 8};
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "value", &real, 0));
    EXPECT_SAYS(COVE_ETYPE, cove_object_open(&object, segment, "value", &whole, 0),
                "real"); /* or a type for each thing */
    in_directory("two");
    cove_region *region = trap_create("state", 8);
    trap_close(region);
    EXPECT(0, cove_region_unlink("state", 0));
    assert_int_equal(rmdir(cove_directory()), 0);
    in_directory("one");
    unit_close(segment);
    unit_remove("state");
    assert_int_equal(rmdir(cove_directory()), 0);
}

/* ---- row: "creation is atomic" */

static void open_and_touch(void *argument)
{
    int fd = shm_open(argument, O_RDWR, 0);
    assert_true(fd >= 0);
    assert_int_equal(trap_size(fd), 0);
    (void)trap_read(trap_map(fd, 100)); /* mmap says nothing of memory that is not there */
}

static void open_and_be_told(void *argument)
{
    cove_region *region = NULL;
    struct cove_region_options options = {.size_bytes = 100};
    EXPECT_SAYS(-EMSGSIZE, cove_region_open(&region, trap_posix_name(argument), &options), "0 bytes");
    assert_null(region);
}

/* Trap: an opener that comes between another's shm_open and ftruncate finds the name, and dies at the first touch. */
static void test_create_opener_before_ftruncate_dies(void **state)
{
    (void)state;
    trap_meet_shm_open();
    const char *name = trap_shm_name("window");
    int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600); /* the creator is about to call ftruncate */
    EXPECT_DEATH(SIGBUS, open_and_touch, (void *)(uintptr_t)name);
    EXPECT_LIFE(open_and_be_told, (void *)(uintptr_t)name); /* others' windows stay, and are told */
    assert_int_equal(close(fd), 0);
    assert_int_equal(shm_unlink(name), 0);
}

/* Trap: and after ftruncate it still has to be filled; who comes then finds zeros where a table should be. */
static void test_create_opener_before_content_reads_zeros(void **state)
{
    (void)state;
    const char *name = trap_shm_name("content");
    int fd = trap_shm_make(name, 100); /* the creator is about to write 42 into it */
    int reader = shm_open(name, O_RDONLY, 0);
    char *data = mmap(NULL, 100, PROT_READ, MAP_SHARED, reader, 0);
    assert_true(data != MAP_FAILED);
    assert_int_equal(trap_read(data), 0); /* a size, and no content */
    assert_int_equal(munmap(data, 100), 0);
    assert_int_equal(close(reader) + close(fd), 0);
    assert_int_equal(shm_unlink(name), 0);
}

struct race {
    _Atomic bool over;
    uint64_t seen, missed;
};

static void make_and_remove(void *argument)
{
    const struct race *race = argument;
    static char bytes[WHOLE_BYTES];
    memset(bytes, 42, sizeof bytes);
    while (!atomic_load_explicit(&race->over, memory_order_relaxed)) { /* relaxed: a flag alone */
        EXPECT(COVE_CREATED, cove_region_replace("table", bytes, sizeof bytes, NULL));
        EXPECT(0, cove_region_unlink("table", 0));
    }
}

static void look_at_whole(const cove_region *region)
{
    const char *data = cove_region_data(region);
    assert_int_equal(cove_region_size(region), WHOLE_BYTES);
    for (size_t at = 0; at < WHOLE_BYTES; at += TRAP_PAGE)
        assert_int_equal(trap_read(data + at), 42);
    assert_int_equal(trap_read(data + WHOLE_BYTES - 1), 42);
}

/* Cove: a name stands for size and content; whoever finds it finds all. */
static void test_create_whole_before_named(void **state)
{
    (void)state;
    struct race *race = testing_shared(sizeof *race);
    pid_t maker = testing_spawn(make_and_remove, race);
    struct testing_patience patience = testing_patience_of(8000);
    while (race->seen < 200 || race->missed < 20) {
        cove_region *region = NULL;
        int result = cove_region_open(&region, "table", &(struct cove_region_options){.flags = COVE_READONLY});
        if (result == -ENOENT) {
            race->missed++;
            assert_true(testing_pause(&patience));
            continue;
        }
        EXPECT_WAS(0, result);
        look_at_whole(region);
        trap_close(region);
        race->seen++;
    }
    atomic_store_explicit(&race->over, true, memory_order_relaxed);
    testing_join(maker);
}

static void create_and_remove(void *argument)
{
    (void)argument;
    for (;;) {
        trap_close(trap_create("table", WHOLE_BYTES));
        EXPECT(0, cove_region_unlink("table", 0));
    }
}

/* Cove: a creator that is killed leaves nothing, or the whole. */
static void test_create_killed_leaves_nothing_or_whole(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        pid_t maker = testing_spawn(create_and_remove, NULL);
        struct testing_patience patience = testing_patience_of(2000);
        struct cove_region_info info;
        while (cove_region_look("table", &info) < 0) /* until it is at work */
            assert_true(testing_pause(&patience));
        testing_kill(maker);
        (void)EXPECT_GOOD(cove_gc(0, NULL, NULL)); /* for file systems that have no nameless files */
        int result = cove_region_look("table", &info);
        assert_true(result == 0 || result == -ENOENT);
        if (result == 0) {
            assert_int_equal(info.size_bytes, WHOLE_BYTES);
            EXPECT(0, cove_region_unlink("table", 0));
        }
    }
}

static const struct testing_case tests[] = {
    TEST(test_create_without_excl_adopts_stale_content),
    TEST(test_create_after_look_makes_two_creators),
    TEST(test_create_mode_is_eaten_by_umask),
    TEST(test_create_names_of_two_programs_clash),
    TEST(test_create_opener_before_ftruncate_dies),
    TEST(test_create_opener_before_content_reads_zeros),
    TEST_TIMEOUT(test_create_whole_before_named, 20),
    TEST_TIMEOUT(test_create_killed_leaves_nothing_or_whole, 20),
};

int main(void)
{
    return testing_run("trap_create", tests);
}
