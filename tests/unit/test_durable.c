/* test_durable.c - what is believed of a `file:` segment: by boot id, mark of cleanness, and the copy beside it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "durable.h"

#define SYNCED ".synced"

static void remove_all(const char *name)
{
    EXPECT(0, cove_unlink(durable_name(name), 1));
    assert_false(durable_exists(name, ""));
    assert_false(durable_exists(name, SYNCED));
}

/* ---- the mark */

static void stays_until_told(void *name)
{
    cove_segment *segment = unit_open(durable_name(name));
    testing_reach(0);
    testing_await(1);
    unit_close(segment);
}

static void ends_without_closing(void *name)
{
    (void)unit_open(durable_name(name));
}

static void test_durable_is_clean_when_the_last_member_has_left(void **state)
{
    (void)state;
    cove_segment *segment = unit_open(durable_name("d"));
    assert_int_equal(durable_clean("d"), 0);
    unit_close(segment);
    assert_int_equal(durable_clean("d"), 1);
    segment = unit_open(durable_name("d"));
    assert_int_equal(durable_clean("d"), 0);
    pid_t other = testing_spawn(stays_until_told, (void *)(uintptr_t) "d");
    testing_await(0);
    unit_close(segment);
    assert_int_equal(durable_clean("d"), 0); /* not the last */
    testing_reach(1);
    testing_join(other);
    assert_int_equal(durable_clean("d"), 1);
    testing_join(testing_spawn(ends_without_closing, (void *)(uintptr_t) "d"));
    assert_int_equal(durable_clean("d"), 0); /* as the dead go */
    unit_close(unit_open(durable_name("d")));
    assert_int_equal(durable_clean("d"), 1); /* the same run: nothing was lost */
    remove_all("d");
}

static void *uses_and_stays(void *segment)
{
    EXPECT_GOOD(cove_alloc(segment, 64) != 0);
    testing_reach(0);
    testing_await(1);
    return NULL;
}

/* A thread that used it keeps the mapping, not the membership. */
static void test_durable_is_clean_though_a_thread_lingers(void **state)
{
    (void)state;
    cove_segment *segment = unit_open(durable_name("d"));
    pthread_t thread = unit_thread(uses_and_stays, segment);
    testing_await(0);
    unit_close(segment);
    assert_int_equal(durable_clean("d"), 1);
    segment = unit_open(durable_name("d")); /* the lingering handle comes back */
    assert_int_equal(durable_clean("d"), 0);
    unit_close(segment);
    assert_int_equal(durable_clean("d"), 1);
    testing_reach(1);
    unit_thread_join(thread);
    assert_int_equal(durable_clean("d"), 1);
    durable_other_boot(durable_path("d", ""));
    segment = unit_open(durable_name("d"));
    unit_sound(segment);
    assert_int_equal(unit_stat(segment).heap_block_count, 0); /* what that thread had not kept went with its member */
    unit_close(segment);
    remove_all("d");
}

static void test_durable_is_what_the_file_says_not_the_name(void **state)
{
    (void)state;
    unit_close(unit_open(durable_name("d"))); /* DIRECTORY/d.cove */
    cove_segment *segment = unit_open("d"); /* the same file */
    assert_int_equal(durable_clean("d"), 0);
    EXPECT_SAYS(-EOPNOTSUPP, cove_sync(segment, COVE_NOWAIT), "open it so"); /* a copy belongs to file:PATH */
    unit_close(segment);
    assert_int_equal(durable_clean("d"), 1);
    remove_all("d");
    segment = unit_open("p"); /* made as mere memory, it stays that */
    EXPECT(-EOPNOTSUPP, cove_sync(segment, COVE_NOWAIT));
    unit_close(segment);
    segment = unit_open(durable_name("p"));
    EXPECT(-EOPNOTSUPP, cove_sync(segment, COVE_NOWAIT));
    unit_close(segment);
    unit_remove("p");
}

/* ---- what is believed */

static void test_durable_is_believed_as_the_table_says(void **state)
{
    (void)state;
    static const struct {
        bool other_boot, clean, copy;
        int result;
        uint64_t number;
    } rows[] = {
        {false, false, false, 0, 9},
        {false, false, true, 0, 9},
        {false, true, false, 0, 9},
        {false, true, true, 0, 9},
        {true, true, false, 0, 9},
        {true, true, true, 0, 9},
        {true, false, true, COVE_RECOVERED, 8},
        {true, false, false, COVE_EUNCLEAN, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        durable_leave_unclean("d", rows[i].copy ? 8 : 0, 9);
        durable_set_clean(durable_path("d", ""), rows[i].clean);
        if (rows[i].other_boot)
            durable_other_boot(durable_path("d", ""));
        cove_segment *segment = NULL;
        EXPECT(rows[i].result, cove_open(&segment, durable_name("d"), NULL));
        if (rows[i].result >= 0) {
            assert_int_equal(*durable_number(segment), rows[i].number);
            unit_sound(segment);
            struct cove_member_info members[2];
            assert_int_equal(cove_segment_members(segment, members, 2), 1);
            unit_close(segment);
            assert_int_equal(durable_clean("d"), 1);
        } else
            assert_null(segment);
        remove_all("d");
    }
}

static void *bytes_of(const char *path, size_t *size_bytes)
{
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    *size_bytes = (size_t)about.st_size;
    void *bytes = malloc(*size_bytes + 1);
    assert_non_null(bytes);
    durable_read(path, bytes, *size_bytes, 0);
    return bytes;
}

/* Unclean without a copy: refused in each way, told what to do, and not a byte of it is changed. */
static void test_durable_unclean_without_a_copy_is_left_as_it_is(void **state)
{
    (void)state;
    size_t before_bytes = 0, after_bytes = 0;
    struct cove_segment_info info;
    cove_segment *segment = NULL;
    durable_leave_unclean("d", 0, 9);
    durable_other_boot(durable_path("d", ""));
    void *before = bytes_of(durable_path("d", ""), &before_bytes);
    EXPECT_SAYS(COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), NULL), "d.cove.synced");
    EXPECT_SAYS(COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), NULL), "cove rm --force");
    EXPECT(COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), &(struct cove_options){.flags = COVE_EXISTING}));
    EXPECT(-EEXIST, cove_open(&segment, durable_name("d"), &(struct cove_options){.flags = COVE_EXCLUSIVE}));
    EXPECT(COVE_EUNCLEAN, cove_open(&segment, "d", NULL)); /* by its other name likewise */
    /* Looking is allowed: that is how one finds out. */
    EXPECT(0, cove_stat(durable_name("d"), &info));
    EXPECT(0, cove_open(&segment, durable_name("d"), &(struct cove_options){.flags = COVE_READONLY}));
    assert_true(cove_segment_check(segment, NULL, NULL) >= 0);
    unit_close(segment);
    assert_true(cove_gc(0, NULL, NULL) >= 0);
    void *after = bytes_of(durable_path("d", ""), &after_bytes);
    assert_int_equal(before_bytes, after_bytes);
    assert_memory_equal(before, after, before_bytes);
    free(before);
    free(after);
    EXPECT(0, cove_unlink(durable_name("d"), 0)); /* it has no members */
    assert_false(durable_exists("d", ""));
}

/* By a descriptor there is no name to find a copy by, but what it is stays the same. */
static void test_durable_by_a_descriptor_is_believed_no_more_than_by_name(void **state)
{
    (void)state;
    char name[16];
    cove_segment *segment = NULL;
    durable_leave_unclean("d", 8, 9);
    durable_other_boot(durable_path("d", ""));
    int file = open(durable_path("d", ""), O_RDWR | O_CLOEXEC);
    (void)snprintf(name, sizeof name, "fd:%d", file);
    EXPECT(COVE_EUNCLEAN, cove_open(&segment, name, NULL));
    durable_set_clean(durable_path("d", ""), 1);
    segment = unit_open(name);
    assert_int_equal(durable_clean("d"), 0); /* on the disk before anything changes */
    *durable_number(segment) = 10;
    unit_close(segment);
    assert_int_equal(durable_clean("d"), 1);
    assert_int_equal(close(file), 0);
    remove_all("d");
}

/* ---- the copy */

enum spoiling {
    EMPTY,
    SHORT,
    HEADER_ONLY,
    ALMOST_WHOLE,
    OTHER_MAGIC,
    OTHER_LAYOUT,
    OTHER_SIGNATURE,
    OTHER_MEMBERS,
    NOT_CLEAN,
    OF_ANOTHER_SEGMENT,
    A_LINK,
    A_DIRECTORY,
    A_FIFO,
    WITHOUT_RIGHTS,
    ANOTHER_OWNERS,
    SPOILINGS
};

static void store32(uint64_t offset, uint32_t value)
{
    durable_write(durable_path("d", SYNCED), &value, sizeof value, offset);
}

/* "d.cove.synced" is not what cove_sync wrote of d. False: not here. */
static bool spoil(enum spoiling how)
{
    const char *copy = durable_path("d", SYNCED), *kept = durable_path("d", ".kept");
    struct stat about;
    uint64_t other_time = 12345;
    assert_int_equal(stat(copy, &about), 0);
    switch (how) {
    case EMPTY:
        return truncate(copy, 0) == 0;
    case SHORT:
        return truncate(copy, 100) == 0;
    case HEADER_ONLY:
        return truncate(copy, 4096) == 0;
    case ALMOST_WHOLE:
        return truncate(copy, about.st_size - 1) == 0;
    case OTHER_MAGIC:
        store32(offsetof(struct covei_header_shm, magic), 1);
        return true;
    case OTHER_LAYOUT:
        store32(offsetof(struct covei_header_shm, layout), COVEI_LAYOUT + 1);
        return true;
    case OTHER_SIGNATURE:
        store32(offsetof(struct covei_header_shm, signature), 1);
        return true;
    case OTHER_MEMBERS:
        store32(offsetof(struct covei_header_shm, max_members), 4);
        return true;
    case NOT_CLEAN:
        durable_set_clean(copy, 0);
        return true;
    case OF_ANOTHER_SEGMENT:
        durable_write(copy, &other_time, 8, offsetof(struct covei_header_shm, created_ns));
        return true;
    case A_LINK:
        return rename(copy, kept) == 0 && symlink(kept, copy) == 0;
    case A_DIRECTORY:
        return unlink(copy) == 0 && mkdir(copy, 0700) == 0;
    case A_FIFO:
        return unlink(copy) == 0 && mkfifo(copy, 0600) == 0;
    case WITHOUT_RIGHTS:
        return geteuid() != 0 && chmod(copy, 0) == 0;
    case ANOTHER_OWNERS:
        return geteuid() == 0 && chown(copy, 1, 1) == 0;
    default:
        return false;
    }
}

/* None of these is believed: an error that says something, the unclean file as it was, nothing left behind. */
static void test_durable_copy_that_is_none_is_not_believed(void **state)
{
    (void)state;
    for (int how = 0; how < SPOILINGS; how++) {
        cove_segment *segment = NULL;
        size_t before_bytes = 0, after_bytes = 0;
        durable_leave_unclean("d", 8, 9);
        durable_other_boot(durable_path("d", ""));
        void *before = bytes_of(durable_path("d", ""), &before_bytes);
        if (spoil((enum spoiling)how)) {
            unit_forget();
            int result = cove_open(&segment, durable_name("d"), NULL);
            if (result >= 0 || !*cove_last_error())
                fail_msg("spoilt in way %d: %d %s", how, result, cove_last_error());
            void *after = bytes_of(durable_path("d", ""), &after_bytes);
            if (before_bytes != after_bytes || memcmp(before, after, before_bytes) != 0)
                fail_msg("spoilt in way %d: the unclean file was changed", how);
            free(after);
        }
        free(before);
        (void)unlink(durable_path("d", ".kept"));
        if (how == A_DIRECTORY)
            assert_int_equal(rmdir(durable_path("d", SYNCED)), 0);
        remove_all("d");
    }
}

/* The file's name was lost by hand, and a new segment made under it: what lies beside it is not its copy. */
static void test_durable_copy_of_what_was_there_before_is_not_believed(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    durable_leave_unclean("d", 8, 9);
    assert_int_equal(unlink(durable_path("d", "")), 0);
    durable_leave_unclean("d", 0, 5);
    durable_other_boot(durable_path("d", ""));
    EXPECT(COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), NULL));
    remove_all("d");
}

static void test_durable_restored_has_the_rights_of_the_original(void **state)
{
    (void)state;
    struct stat about;
    durable_leave_unclean("d", 8, 9);
    assert_int_equal(chmod(durable_path("d", ""), 0640), 0);
    assert_int_equal(chmod(durable_path("d", SYNCED), 0600), 0);
    durable_other_boot(durable_path("d", ""));
    mode_t before = umask(0777);
    cove_segment *segment = NULL;
    EXPECT(COVE_RECOVERED, cove_open(&segment, durable_name("d"), NULL));
    (void)umask(before);
    assert_int_equal(stat(durable_path("d", ""), &about), 0);
    assert_int_equal(about.st_mode & 07777, 0640);
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
    assert_int_equal(stat(durable_path("d", SYNCED), &about), 0);
    assert_int_equal(about.st_mode & 07777, 0640);
    unit_close(segment);
    remove_all("d");
}

#define RACERS 8u

static struct {
    _Atomic uint32_t recovered, opened;
    _Atomic uint64_t inodes[RACERS];
} * race;

static void opens_what_was_restored(void *argument)
{
    cove_segment *segment = NULL;
    struct stat about;
    testing_reach(0);
    testing_await_count(0, RACERS);
    int result = (int)EXPECT_GOOD(cove_open(&segment, durable_name("d"), NULL));
    atomic_fetch_add(result == COVE_RECOVERED ? &race->recovered : &race->opened, 1);
    assert_int_equal(*durable_number(segment), 8);
    testing_reach(1);
    testing_await_count(1, RACERS);
    assert_int_equal(stat(durable_path("d", ""), &about), 0);
    atomic_store(&race->inodes[(uintptr_t)argument], about.st_ino);
    struct cove_member_info members[RACERS];
    assert_int_equal(cove_segment_members(segment, members, RACERS), RACERS); /* all of them in one file */
    testing_reach(2);
    testing_await_count(2, RACERS);
    unit_close(segment);
}

static void test_durable_restored_by_many_at_once_is_one(void **state)
{
    (void)state;
    race = testing_shared(sizeof *race);
    durable_leave_unclean("d", 8, 9);
    durable_other_boot(durable_path("d", ""));
    pid_t pids[RACERS];
    for (uintptr_t i = 0; i < RACERS; i++)
        pids[i] = testing_spawn(opens_what_was_restored, (void *)i);
    for (unsigned i = 0; i < RACERS; i++)
        testing_join(pids[i]);
    assert_true(atomic_load(&race->recovered) >= 1);
    assert_int_equal(atomic_load(&race->recovered) + atomic_load(&race->opened), RACERS);
    for (unsigned i = 1; i < RACERS; i++)
        assert_int_equal(race->inodes[i], race->inodes[0]);
    assert_int_equal(durable_clean("d"), 1);
    remove_all("d");
}

/* ---- LAST_OUT */

static void test_durable_last_out_takes_its_copy_along(void **state)
{
    (void)state;
    struct cove_options last_out = {.lifetime = COVE_LAST_OUT, .max_members = 8};
    cove_segment *segment = unit_open_as(durable_name("d"), &last_out);
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
    assert_true(durable_exists("d", SYNCED));
    unit_close(segment);
    assert_false(durable_exists("d", ""));
    assert_false(durable_exists("d", SYNCED));
    /* Its last member died with the machine: it went with him, unclean as it is. */
    struct durable_death death = {"d", 8, 9, COVE_LAST_OUT};
    assert_int_equal(WTERMSIG(testing_wait(testing_spawn(durable_die, &death))), SIGKILL);
    durable_other_boot(durable_path("d", ""));
    EXPECT(COVE_CREATED, cove_open(&segment, durable_name("d"), &last_out));
    assert_int_equal(*durable_number(segment), 0);
    assert_false(durable_exists("d", SYNCED));
    unit_close(segment);
}

static const struct testing_case tests[] = {
    TEST(test_durable_is_clean_when_the_last_member_has_left),
    TEST(test_durable_is_clean_though_a_thread_lingers),
    TEST(test_durable_is_what_the_file_says_not_the_name),
    TEST(test_durable_is_believed_as_the_table_says),
    TEST(test_durable_unclean_without_a_copy_is_left_as_it_is),
    TEST(test_durable_by_a_descriptor_is_believed_no_more_than_by_name),
    TEST_TIMEOUT(test_durable_copy_that_is_none_is_not_believed, 30),
    TEST(test_durable_copy_of_what_was_there_before_is_not_believed),
    TEST(test_durable_restored_has_the_rights_of_the_original),
    TEST_TIMEOUT(test_durable_restored_by_many_at_once_is_one, 30),
    TEST(test_durable_last_out_takes_its_copy_along),
};

int main(void)
{
    return testing_run("durable", tests);
}
