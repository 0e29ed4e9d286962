/* test_segment.c - opening, closing, removing: flags, rights, sizes, handles, lifetimes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "unit.h"

#include "segment/segment.h"

#include <fcntl.h>
#include <grp.h>

static void test_segment_open_creates_then_opens(void **state)
{
    (void)state;
    cove_segment *segment = NULL, *again = NULL;
    EXPECT_SAYS(-ENOENT, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXISTING}), "no such segment");
    EXPECT(-ENOENT, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_READONLY}));
    assert_null(segment);
    assert_false(unit_exists("t"));
    EXPECT(COVE_CREATED, cove_open(&segment, "t", NULL));
    assert_string_equal(cove_segment_name(segment), "t");
    EXPECT(0, cove_open(&again, "t", &(struct cove_options){.flags = COVE_EXISTING}));
    assert_ptr_equal(segment, again);
    again = NULL;
    EXPECT_SAYS(-EEXIST, cove_open(&again, "t", &(struct cove_options){.flags = COVE_EXCLUSIVE}), "exists already");
    assert_null(again);
    EXPECT(0, cove_open(&again, "t", &(struct cove_options){.flags = COVE_READONLY}));
    assert_ptr_not_equal(segment, again);
    unit_sound(again);
    unit_close(again);
    unit_close(segment); /* two closes */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    EXPECT(COVE_CREATED, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXCLUSIVE}));
    unit_close(segment);
    unit_remove("t");
}

static void test_segment_flags_that_do_not_go_together_are_refused(void **state)
{
    (void)state;
    static const uint32_t flags[] = {COVE_EXISTING | COVE_EXCLUSIVE, COVE_READONLY | COVE_EXCLUSIVE, 0x80, 0x80000000u};
    cove_segment *segment = NULL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        EXPECT(-EINVAL, cove_open(&segment, "t", &(struct cove_options){.flags = flags[i]}));
    EXPECT(-EINVAL, cove_open(NULL, "t", NULL));
    assert_null(segment);
    assert_false(unit_exists("t"));
    EXPECT(0, cove_close(NULL));
}

static void test_segment_impossible_sizes_are_refused(void **state)
{
    (void)state;
    static const struct cove_options bad[] = {
        {.size_bytes = 1},
        {.size_bytes = 4095},
        {.size_bytes = UINT64_MAX},
        {.size_bytes = UINT64_C(1) << 46},
        {.size_bytes = 8192, .max_size_bytes = 4096},
        {.max_size_bytes = 4096},
        {.max_size_bytes = UINT64_MAX},
        {.max_members = 1},
        {.max_members = 16385},
        {.max_members = UINT32_MAX},
        {.lifetime = 2},
        {.mode = 01000},
        {.mode = UINT32_MAX},
        {.group = "no-such-group-here"},
        {.group = ""},
    };
    cove_segment *segment = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(-EINVAL, cove_open(&segment, "t", &bad[i]));
        assert_null(segment);
        assert_false(unit_exists("t"));
    }
}

static void test_segment_sizes_are_as_asked(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {4096, 4097, 65536, 1000000, UINT64_C(16) << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cove_segment *segment = unit_open_as(
            "t", &(struct cove_options){.size_bytes = sizes[i], .max_size_bytes = sizes[i] + 5, .max_members = 2});
        struct cove_segment_info info = unit_stat(segment);
        assert_in_range(info.heap_bytes, sizes[i], sizes[i] + 4096);
        assert_true(info.max_size_bytes >= info.size_bytes);
        assert_in_range(info.max_size_bytes - info.size_bytes, 0, 4096);
        assert_int_equal(info.max_members, 2);
        assert_int_equal(info.members_alive, 1);
        assert_string_equal(info.state, "ready");
        assert_string_equal(info.backend, "posix");
        assert_string_equal(info.name, "t");
        assert_int_equal(info.object_count, 0);
        assert_int_equal(info.features, 0);
        unit_sound(segment);
        unit_close(segment);
        unit_remove("t");
    }
    cove_segment *segment = unit_open("t"); /* the defaults that the header names */
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.heap_bytes, 256 << 10);
    assert_int_equal(info.max_size_bytes, UINT64_C(1) << (sizeof(void *) < 8 ? 30 : 36));
    assert_int_equal(info.max_members, 1024);
    assert_int_equal(info.mode, 0600);
    unit_close(segment);
    unit_remove("t");
}

static void test_segment_mode_is_exact_whatever_the_umask(void **state)
{
    (void)state;
    static const mode_t masks[] = {0, 022, 077, 0777};
    static const uint32_t modes[] = {0, 0600, 0640, 0666, 0777, 0400, 0200};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
            (void)umask(masks[i]);
            cove_segment *segment = unit_open_as("t", &(struct cove_options){.mode = modes[k]});
            struct stat info;
            assert_int_equal(stat(unit_path("t"), &info), 0);
            assert_int_equal(info.st_mode & 07777, modes[k] ? modes[k] : 0600);
            assert_int_equal(info.st_uid, geteuid());
            assert_int_equal(unit_stat(segment).mode, info.st_mode & 07777);
            unit_close(segment);
            assert_int_equal(chmod(unit_path("t"), 0600), 0);
            unit_remove("t");
        }
}

static void test_segment_group_is_as_asked(void **state)
{
    (void)state;
    gid_t groups[64];
    int count = getgroups(64, groups);
    gid_t gid = count > 0 ? groups[count - 1] : getegid();
    struct group *group = geteuid() == 0 ? getgrnam("daemon") : getgrgid(gid);
    if (!group)
        testing_skip("this user's group has no name here");
    gid = group->gr_gid;
    char name[64];
    (void)snprintf(name, sizeof name, "%s", group->gr_name);
    (void)umask(0777);
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.group = name, .mode = 0660});
    struct stat info;
    assert_int_equal(stat(unit_path("t"), &info), 0);
    assert_int_equal(info.st_gid, gid);
    assert_int_equal(info.st_mode & 07777, 0660);
    assert_int_equal(unit_stat(segment).owner_gid, gid);
    unit_close(segment);
    unit_remove("t");
}

static void test_segment_names(void **state)
{
    (void)state;
    char long_name[203];
    memset(long_name, 'x', 202);
    long_name[202] = '\0';
    const char *const bad[] = {"",      ".",   "..",  ".a",  "-a",   "a/b",   "/",  "../t", "a b",      "a\n",
                               "a\xc3", "a:b", "a*b", "a$b", "a\\b", "a\x7f", "t,", "\xff", "posix:a", "shm:/a", NULL};
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    for (int i = 0; bad[i]; i++) {
        EXPECT(COVE_ENAME, cove_open(&segment, bad[i], NULL));
        EXPECT(COVE_ENAME, cove_unlink(bad[i], 1));
        EXPECT(COVE_ENAME, cove_stat(bad[i], &info));
    }
    EXPECT(COVE_ENAME, cove_open(&segment, NULL, NULL));
    EXPECT(COVE_ENAME, cove_open(&segment, long_name, NULL));
    long_name[201] = '\0';
    EXPECT_SAYS(COVE_ENAME, cove_open(&segment, long_name, NULL), "200");
    long_name[200] = '\0';
    const char *const good[] = {long_name, "a", "A.b_c-9", "0", "_", "a..b", "x.cove", NULL};
    for (int i = 0; good[i]; i++) {
        EXPECT(COVE_CREATED, cove_open(&segment, good[i], NULL));
        assert_string_equal(cove_segment_name(segment), good[i]);
        EXPECT(0, cove_stat(good[i], &info));
        assert_string_equal(info.name, good[i]);
        unit_close(segment);
        assert_true(unit_exists(good[i]));
        unit_remove(good[i]);
    }
}

static int count_name(const char *name, void *context)
{
    (void)name;
    ++*(int *)context;
    return *(int *)context == 2 ? 42 : 0;
}

static void test_segment_names_are_listed(void **state)
{
    (void)state;
    int count = 0;
    EXPECT(0, cove_segments(count_name, &count));
    unit_close(unit_open("a"));
    assert_int_equal(close(creat(unit_path(".hidden"), 0600)), 0);
    EXPECT(0, cove_segments(count_name, &count));
    assert_int_equal(count, 1);
    count = 0;
    unit_close(unit_open("b"));
    unit_close(unit_open("c"));
    EXPECT(42, cove_segments(count_name, &count)); /* what visit returned ends it */
    assert_int_equal(unlink(unit_path(".hidden")), 0);
    unit_remove("a");
    unit_remove("b");
    unit_remove("c");
    char *kept = strdup(cove_directory());
    assert_int_equal(setenv("COVE_DIR", "/nonexistent/cove", 1), 0);
    cove_segment *segment = NULL;
    EXPECT_SAYS(-ENOENT, cove_segments(count_name, &count), "/nonexistent/cove");
    EXPECT_SAYS(-ENOENT, cove_open(&segment, "t", NULL), "/nonexistent/cove");
    EXPECT(-ENOENT, cove_gc(0, NULL, NULL));
    assert_int_equal(setenv("COVE_DIR", kept, 1), 0);
    free(kept);
}

/* ---- handles */

static void *use_after_close(void *argument)
{
    cove_segment *segment = argument;
    EXPECT(0, cove_begin(segment)); /* this thread has a lane: the handle lingers until it ends */
    EXPECT(0, cove_commit(segment));
    testing_reach(0);
    testing_await(1);
    struct cove_segment_info info;
    cove_mutex mutex = {0};
    EXPECT(COVE_ECLOSED, cove_segment_stat(segment, &info));
    EXPECT(COVE_ECLOSED, cove_segment_members(segment, NULL, 0));
    EXPECT(COVE_ECLOSED, cove_close(segment));
    EXPECT(COVE_ECLOSED, cove_mutex_lock(segment, &mutex, COVE_NOWAIT));
    EXPECT(COVE_ECLOSED, cove_begin(segment));
    assert_int_equal(cove_alloc(segment, 8), 0);
    return NULL;
}

static void test_segment_closed_handle_refuses_while_it_lingers(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    pthread_t thread = unit_thread(use_after_close, segment);
    testing_await(0);
    unit_close(segment);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, 0); /* it has left, for everybody else */
    testing_reach(1);
    unit_thread_join(thread);
    unit_remove("t");
}

static void *take_lane_and_wait(void *argument)
{
    cove_segment *segment = argument;
    cove_ref ref = cove_alloc(segment, 100);
    assert_true(ref != 0);
    testing_reach(0);
    testing_await(1);
    return NULL;
}

static void test_segment_lingering_is_opened_again(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    uint64_t before = unit_free_bytes(segment);
    pthread_t thread = unit_thread(take_lane_and_wait, segment);
    testing_await(0);
    assert_true(unit_free_bytes(segment) < before);
    unit_close(segment);
    cove_segment *again = unit_open_as("t", &(struct cove_options){.flags = COVE_EXISTING});
    assert_int_equal(unit_free_bytes(again), before); /* what was not kept went back at the close */
    assert_int_equal(unit_stat(again).members_alive, 1);
    unit_sound(again);
    testing_reach(1);
    unit_thread_join(thread);
    unit_sound(again);
    unit_close(again);
    unit_remove("t");
}

static void test_segment_close_while_busy_is_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = unit_object(segment, "m", sizeof *mutex);
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT_SAYS(-EBUSY, cove_close(segment), "holds a lock");
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    EXPECT(0, cove_begin(segment));
    EXPECT(-EBUSY, cove_close(segment));
    EXPECT(0, cove_abort(segment));
    unit_close(segment);
    unit_remove("t");
}

static void test_segment_readonly_changes_nothing(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = unit_object(segment, "m", sizeof *mutex);
    (void)mutex;
    uint64_t before = unit_free_bytes(segment);
    cove_segment *look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    assert_int_equal(unit_stat(segment).members_alive, 1); /* takes no place */
    assert_int_equal(unit_stat(look).members_alive, 1);
    assert_int_equal(cove_alloc(look, 8), 0);
    assert_int_equal(errno, EPERM);
    void *object = NULL;
    EXPECT(-EPERM, cove_object_open(&object, look, "m", &(struct cove_type){.name = "unit", .size_bytes = 8}, 0));
    EXPECT(-EPERM, cove_object_remove(look, "m"));
    EXPECT(-EPERM, cove_recover(look));
    cove_stream *stream = NULL;
    EXPECT(-EPERM, cove_stream_open_in(&stream, look, "s", COVE_READER, NULL));
    struct cove_object_info info[2];
    EXPECT(1, cove_objects(look, info, 2));
    struct cove_member_info member;
    EXPECT(1, cove_segment_members(look, &member, 1));
    assert_int_equal(member.pid, getpid());
    assert_int_equal(member.alive, 1);
    unit_sound(look);
    unit_close(segment);
    assert_int_equal(unit_stat(look).members_alive, 0);
    unit_close(look);
    segment = unit_open("t");
    assert_int_equal(unit_free_bytes(segment), before);
    unit_close(segment);
    unit_remove("t");
}

/* ---- removing */

static void test_segment_unlink_in_use_wants_force(void **state)
{
    (void)state;
    EXPECT(-ENOENT, cove_unlink("t", 0));
    EXPECT(-ENOENT, cove_unlink("t", 1));
    cove_segment *old = unit_open("t");
    char part[32];
    (void)snprintf(part, sizeof part, "pid %d", (int)getpid());
    EXPECT_SAYS(-EBUSY, cove_unlink("t", 0), part);
    assert_true(unit_exists("t"));
    EXPECT(0, cove_unlink("t", 1));
    assert_false(unit_exists("t"));
    uint64_t *value = unit_object(old, "v", 8); /* members go on with what they have */
    *value = 1;
    assert_true(cove_alloc(old, (size_t)8 << 20) != 0);
    unit_sound(old);
    assert_string_equal(unit_stat(old).state, "removed");
    cove_segment *fresh = NULL;
    EXPECT(COVE_CREATED, cove_open(&fresh, "t", NULL));
    assert_ptr_not_equal(old, fresh);
    uint64_t *other = unit_object(fresh, "v", 8);
    assert_int_equal(*other, 0);
    assert_string_equal(unit_stat(fresh).state, "ready");
    unit_close(old); /* takes nothing away that is not its own */
    assert_true(unit_exists("t"));
    unit_sound(fresh);
    unit_close(fresh);
    EXPECT(0, cove_unlink("t", 0));
    assert_false(unit_exists("t"));
}

static void mark_removed(const char *name)
{
    uint32_t removed = COVEI_SEGMENT_REMOVED;
    int file = open(unit_path(name), O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, &removed, 4, offsetof(struct covei_header_shm, state)), 4);
    assert_int_equal(close(file), 0);
}

/* A remover died between the mark and the name. */
static int refuse_to_remove(const char *path)
{
    (void)path;
    return -EPERM;
}

/* As in a sticky directory, for a segment of somebody else's. */
static void test_segment_that_may_not_be_removed_stays_whole(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    (void)unit_object(segment, "precious", 8);
    unit_close(segment);
    struct covei_os os = covei_os_native;
    os.path_remove = refuse_to_remove;
    covei_os = &os;
    int result = cove_unlink("t", 0);
    covei_os = &covei_os_native;
    EXPECT_WAS(-EPERM, result);
    segment = NULL;
    EXPECT(0, cove_open(&segment, "t", NULL));
    assert_int_equal(unit_stat(segment).object_count, 1);
    unit_close(segment);
    unit_remove("t");
}

static void test_segment_half_removed_is_finished_by_the_next(void **state)
{
    (void)state;
    static const uint32_t flags[] = {0, COVE_EXCLUSIVE, COVE_EXISTING, COVE_READONLY};
    for (size_t i = 0; i < 4; i++) {
        cove_segment *segment = unit_open("t");
        (void)unit_object(segment, "old", 8);
        unit_close(segment);
        mark_removed("t");
        struct cove_segment_info info;
        EXPECT(0, cove_stat("t", &info));
        assert_string_equal(info.state, "removed");
        segment = NULL;
        int result = cove_open(&segment, "t", &(struct cove_options){.flags = flags[i]});
        if (flags[i] == COVE_EXISTING)
            EXPECT_WAS(-ENOENT, result);
        else if (flags[i] == COVE_READONLY)
            EXPECT_WAS(0, result); /* an onlooker takes nothing away */
        else {
            EXPECT_WAS(COVE_CREATED, result);
            assert_int_equal(unit_stat(segment).object_count, 0);
        }
        unit_close(segment);
        if (flags[i] != COVE_EXISTING)
            unit_remove("t");
        assert_false(unit_exists("t"));
    }
    unit_close(unit_open("t"));
    mark_removed("t");
    EXPECT(0, cove_unlink("t", 0));
    assert_false(unit_exists("t"));
    unit_close(unit_open("t"));
    mark_removed("t");
    EXPECT(1, cove_gc(0, NULL, NULL));
    assert_false(unit_exists("t"));
}

/* ---- lifetimes */

static void open_last_out(void *argument)
{
    (void)argument;
    (void)unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    testing_reach(0);
    unit_wait_for_death();
}

static void note_name(const char *name, const char *sentence, void *context)
{
    assert_string_equal(name, "t");
    assert_true(*sentence != '\0');
    ++*(int *)context;
}

static void test_segment_last_out_goes_with_the_last(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    cove_segment *look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    unit_close(look);
    assert_true(unit_exists("t"));
    unit_close(segment);
    assert_false(unit_exists("t"));

    segment = unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    pid_t pid = testing_spawn(open_last_out, NULL); /* another that lives on, then dies */
    testing_await(0);
    unit_close(segment);
    assert_true(unit_exists("t"));
    testing_kill(pid);
    int told = 0;
    EXPECT_GOOD(cove_gc(1, note_name, &told));
    assert_true(told >= 1);
    assert_true(unit_exists("t")); /* a dry run */
    EXPECT_GOOD(cove_gc(0, note_name, &told));
    assert_false(unit_exists("t"));
    EXPECT(0, cove_gc(0, note_name, &told));

    pid = testing_spawn(open_last_out, NULL); /* dead before the last one closes */
    testing_await_count(0, 2);
    segment = unit_open("t");
    testing_kill(pid);
    unit_close(segment);
    assert_false(unit_exists("t"));
}

static void test_segment_gc_never_removes_a_kept_one(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    EXPECT(0, cove_gc(0, NULL, NULL));
    assert_true(unit_exists("t"));
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_segment_open_creates_then_opens),
    TEST(test_segment_flags_that_do_not_go_together_are_refused),
    TEST(test_segment_impossible_sizes_are_refused),
    TEST(test_segment_sizes_are_as_asked),
    TEST(test_segment_mode_is_exact_whatever_the_umask),
    TEST(test_segment_group_is_as_asked),
    TEST(test_segment_names),
    TEST(test_segment_names_are_listed),
    TEST(test_segment_closed_handle_refuses_while_it_lingers),
    TEST(test_segment_lingering_is_opened_again),
    TEST(test_segment_close_while_busy_is_refused),
    TEST(test_segment_readonly_changes_nothing),
    TEST(test_segment_unlink_in_use_wants_force),
    TEST(test_segment_that_may_not_be_removed_stays_whole),
    TEST(test_segment_half_removed_is_finished_by_the_next),
    TEST(test_segment_last_out_goes_with_the_last),
    TEST(test_segment_gc_never_removes_a_kept_one),
};

int main(void)
{
    return testing_run("segment", tests);
}
