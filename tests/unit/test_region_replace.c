/* test_region_replace.c - new contents in one step: what is kept of the old, what is refused, what a failure leaves.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "unit.h"

#include "os/os.h"

#include <cove/region.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/stat.h>

typedef struct cove_region_options region_options;

static void expect_bytes(const char *name, const void *bytes, uint64_t size_bytes)
{
    cove_region *region = NULL;
    EXPECT(0, cove_region_open(&region, name, &(region_options){.flags = COVE_READONLY}));
    assert_int_equal(cove_region_size(region), size_bytes);
    if (size_bytes > 0)
        assert_memory_equal(cove_region_data(region), bytes, size_bytes);
    EXPECT(0, cove_region_close(region));
}

static int replace(const char *name, const char *text, const region_options *options)
{
    return cove_region_replace(name, text, strlen(text), options);
}

static void expect_text(const char *name, const char *text)
{
    expect_bytes(name, text, strlen(text));
}

/* Files in the directory besides those of the test's own making. */
static unsigned debris(void)
{
    unsigned count = 0;
    char command[1200];
    (void)snprintf(command, sizeof command, "ls -A '%s' | grep -c '^.cove-new-'", testing_dir());
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    (void)pclose(pipe);
    return count;
}

static uint32_t mode_of(const char *name)
{
    struct stat about;
    assert_int_equal(stat(unit_path(name), &about), 0);
    return (uint32_t)about.st_mode & 07777;
}

/* ---- contents */

static void test_replace_makes_what_is_missing_and_changes_what_is_there(void **state)
{
    (void)state;
    cove_region *old = NULL;
    EXPECT(COVE_CREATED, replace("r", "first", NULL));
    expect_text("r", "first");
    EXPECT(0, cove_region_open(&old, "r", NULL));
    EXPECT(0, replace("r", "and a longer second", NULL));
    expect_text("r", "and a longer second");
    EXPECT(0, replace("r", "x", NULL));
    expect_text("r", "x");
    EXPECT(0, cove_region_replace("r", NULL, 0, NULL)); /* with nothing */
    expect_bytes("r", "", 0);
    assert_memory_equal(cove_region_data(old), "first", 5); /* who has the old ones keeps them */
    assert_int_equal(cove_region_size(old), 5);
    EXPECT(0, cove_region_close(old));
    EXPECT(0, cove_region_unlink("r", 0));
    EXPECT(COVE_CREATED, cove_region_replace("r", NULL, 0, NULL));
    EXPECT(0, cove_region_unlink("r", 0));
    EXPECT(-ENOENT, replace("r", "x", &(region_options){.flags = COVE_EXISTING}));
    assert_false(unit_exists("r"));
}

static void test_replace_of_each_size_is_exact(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 4095, 4096, 4097, 1 << 20, (UINT64_C(64) << 20) + 3};
    unsigned char *bytes = malloc(sizes[5]);
    assert_non_null(bytes);
    for (uint64_t i = 0; i < sizes[5]; i++)
        bytes[i] = (unsigned char)(i % 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        EXPECT_GOOD(cove_region_replace("r", bytes, sizes[i], NULL));
        expect_bytes("r", bytes, sizes[i]);
    }
    free(bytes);
    EXPECT(0, cove_region_unlink("r", 0));
}

static void test_replace_where_it_cannot_be_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"memfd:", "fd:0", "sysv:0x5eed0001"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT_SAYS(-EOPNOTSUPP, replace(names[i], "x", NULL), "in one step");
    static const uint32_t flags[] = {COVE_EXCLUSIVE, COVE_READONLY, COVE_GUARD, COVE_NODUMP, 0x40, 0x80000000u};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        EXPECT(-EINVAL, replace("r", "x", &(region_options){.flags = flags[i]}));
    EXPECT(-EINVAL, replace("r", "x", &(region_options){.mode = 01000}));
    EXPECT(-EINVAL, replace("r", "x", &(region_options){.group = "no such group"}));
    EXPECT(-EINVAL, cove_region_replace("r", NULL, 1, NULL));
    assert_false(unit_exists("r"));
    assert_int_equal(debris(), 0);
}

/* ---- rights */

static void test_replace_keeps_the_rights_of_the_old(void **state)
{
    (void)state;
    static const uint32_t modes[] = {0600, 0640, 0664, 0444, 0400};
    mode_t before = umask(0777);
    EXPECT(COVE_CREATED, replace("r", "first", NULL));
    assert_int_equal(mode_of("r"), 0600);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(unit_path("r"), modes[i]), 0);
        EXPECT(0, replace("r", "next", NULL));
        assert_int_equal(mode_of("r"), modes[i]);
        EXPECT(0, replace("r", "next", &(region_options){.mode = 0620}));
        assert_int_equal(mode_of("r"), 0620); /* asked for */
    }
    (void)umask(before);
    EXPECT(0, cove_region_unlink("r", 0));
}

static void test_replace_by_root_keeps_owner_and_group(void **state)
{
    (void)state;
    struct stat about;
    if (geteuid() != 0)
        testing_skip("only root may give files away");
    EXPECT(COVE_CREATED, replace("r", "first", NULL));
    assert_int_equal(chown(unit_path("r"), 1234, 4321), 0);
    assert_int_equal(chmod(unit_path("r"), 0640), 0);
    EXPECT(COVE_EOWNER, replace("r", "next", NULL));
    EXPECT(0, replace("r", "next", &(region_options){.flags = COVE_ANY_OWNER}));
    assert_int_equal(stat(unit_path("r"), &about), 0);
    assert_int_equal(about.st_uid, 1234);
    assert_int_equal(about.st_gid, 4321);
    assert_int_equal(about.st_mode & 07777, 0640);
    EXPECT(0, replace("r", "next", &(region_options){.flags = COVE_ANY_OWNER, .group = "root", .mode = 0660}));
    assert_int_equal(stat(unit_path("r"), &about), 0);
    assert_int_equal(about.st_gid, 0);
    assert_int_equal(about.st_mode & 07777, 0660);
    EXPECT(0, cove_region_unlink("r", 1));
}

/* Rights that were for another group must not become those of the replacer's. */
static void replaces_as_an_ordinary_user(void *unused)
{
    (void)unused;
    struct stat about;
    if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
        testing_report("this process cannot become another user");
    EXPECT(0, replace("r", "next", NULL));
    assert_int_equal(stat(unit_path("r"), &about), 0);
    assert_int_equal(about.st_gid, 65534);
    assert_int_equal(about.st_mode & 07777, 0604);
    EXPECT(0, cove_region_unlink("r", 0));
}

static void test_replace_without_the_old_group_gives_its_rights_to_nobody(void **state)
{
    (void)state;
    if (geteuid() != 0)
        testing_skip("only root may give files away");
    EXPECT(COVE_CREATED, replace("r", "first", NULL));
    assert_int_equal(chown(unit_path("r"), 65534, 4321), 0);
    assert_int_equal(chmod(unit_path("r"), 0664), 0);
    assert_int_equal(chmod(testing_dir(), 0777), 0);
    testing_join(testing_spawn(replaces_as_an_ordinary_user, NULL));
}

/* ---- what has the name */

static void test_replace_onto_what_is_no_region_is_refused(void **state)
{
    (void)state;
    struct stat about;
    EXPECT(COVE_CREATED, replace("target", "kept", NULL));
    char link[1100];
    (void)snprintf(link, sizeof link, "%s", unit_path("link"));
    assert_int_equal(symlink("target.cove", link), 0);
    EXPECT_SAYS(COVE_ENOTCOVE, replace("link", "x", NULL), "symbolic link");
    assert_int_equal(lstat(link, &about), 0);
    assert_true(S_ISLNK(about.st_mode)); /* neither followed nor replaced */
    expect_text("target", "kept");
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkdir(link, 0700), 0);
    EXPECT(COVE_ENOTCOVE, replace("link", "x", NULL));
    assert_int_equal(rmdir(link), 0);
    assert_int_equal(mkfifo(link, 0600), 0);
    EXPECT(COVE_ENOTCOVE, replace("link", "x", NULL));
    assert_int_equal(unlink(link), 0);
    EXPECT(0, cove_region_unlink("target", 0));
    assert_int_equal(debris(), 0);
}

static void test_replace_onto_a_segment_is_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("s");
    EXPECT_SAYS(COVE_ETYPE, replace("s", "x", NULL), "Cove segment");
    EXPECT(COVE_ETYPE, replace("s", "x", &(region_options){.flags = COVE_ANY_OWNER}));
    unit_sound(segment);
    unit_close(segment);
    EXPECT(COVE_ETYPE, replace("s", "x", NULL)); /* without members too */
    unit_remove("s");
    assert_int_equal(debris(), 0);
}

static void replaces_without_rights(void *unused)
{
    (void)unused;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return;
    EXPECT_SAYS(-EACCES, replace("r", "next", &(region_options){.flags = COVE_ANY_OWNER}), "COVE_DIR");
}

static void test_replace_in_a_directory_without_rights_changes_nothing(void **state)
{
    (void)state;
    EXPECT(COVE_CREATED, replace("r", "first", NULL));
    assert_int_equal(chmod(unit_path("r"), 0666), 0);
    assert_int_equal(chmod(testing_dir(), 0555), 0);
    testing_join(testing_spawn(replaces_without_rights, NULL));
    assert_int_equal(chmod(testing_dir(), 0700), 0);
    expect_text("r", "first");
    EXPECT(0, cove_region_unlink("r", 0));
}

/* ---- others, at the same time */

static struct covei_os table;
static unsigned meanwhile;
static int change; /* what somebody else does just before the name is taken */

enum { MAKES_IT, MAKES_A_SEGMENT, REMOVES_IT };

static int64_t write_and_be_overtaken(int file, const void *data, size_t size_bytes, uint64_t offset)
{
    int64_t result = covei_os_native.file_write_at(file, data, size_bytes, offset);
    if (meanwhile++ > 0)
        return result;
    const struct covei_os *ours = covei_os;
    covei_os = &covei_os_native;
    if (change == MAKES_IT)
        EXPECT(COVE_CREATED, replace("r", "theirs", NULL));
    else if (change == MAKES_A_SEGMENT)
        unit_close(unit_open("r"));
    else
        EXPECT(0, cove_region_unlink("r", 0));
    covei_os = ours;
    return result;
}

static int replace_overtaken(int what, uint32_t flags)
{
    table = covei_os_native;
    table.file_write_at = write_and_be_overtaken;
    meanwhile = 0;
    change = what;
    covei_os = &table;
    unit_forget();
    int result = replace("r", "ours", &(region_options){.flags = flags});
    covei_os = &covei_os_native;
    assert_int_equal(debris(), 0);
    return result;
}

static void test_replace_looks_again_before_it_takes_the_name(void **state)
{
    (void)state;
    EXPECT_WAS(0, replace_overtaken(MAKES_IT, 0)); /* there was none, and there was one then */
    expect_text("r", "ours");
    EXPECT_WAS(COVE_CREATED, replace_overtaken(REMOVES_IT, 0));
    expect_text("r", "ours");
    EXPECT_WAS(-ENOENT, replace_overtaken(REMOVES_IT, COVE_EXISTING));
    assert_false(unit_exists("r"));
    EXPECT_WAS(COVE_ETYPE, replace_overtaken(MAKES_A_SEGMENT, 0));
    cove_segment *segment = NULL;
    EXPECT(0, cove_open(&segment, "r", NULL));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("r");
}

#define WRITERS 4u
#define TIMES 100u

static void replaces_again_and_again(void *number)
{
    char text[2000];
    memset(text, 'a' + (int)(uintptr_t)number, sizeof text);
    for (unsigned i = 0; i < TIMES; i++)
        EXPECT_GOOD(cove_region_replace("r", text, 500 * (1 + (uintptr_t)number), NULL));
    testing_reach(0);
}

/* Whoever looks sees all of one writer's bytes. */
static void test_replace_by_several_is_always_one_of_them(void **state)
{
    (void)state;
    pid_t pids[WRITERS];
    for (uintptr_t i = 0; i < WRITERS; i++)
        pids[i] = testing_spawn(replaces_again_and_again, (void *)i);
    while (testing_reached(0) < WRITERS) {
        cove_region *region = NULL;
        int result = cove_region_open(&region, "r", &(region_options){.flags = COVE_READONLY});
        if (result == -ENOENT)
            continue;
        EXPECT_WAS(0, result);
        const char *text = cove_region_data(region);
        assert_in_range(text[0], 'a', 'a' + WRITERS - 1);
        assert_int_equal(cove_region_size(region), 500 * (1 + text[0] - 'a'));
        for (uint64_t i = 1; i < cove_region_size(region); i++)
            assert_int_equal(text[i], text[0]);
        EXPECT(0, cove_region_close(region));
    }
    for (unsigned i = 0; i < WRITERS; i++)
        testing_join(pids[i]);
    assert_int_equal(debris(), 0);
    EXPECT(0, cove_region_unlink("r", 0));
}

static int dying_rename(const char *from, const char *to)
{
    (void)from;
    (void)to;
    return raise(SIGKILL);
}

static void dies_before_the_rename(void *unused)
{
    (void)unused;
    table = covei_os_native;
    table.file_rename = dying_rename;
    covei_os = &table;
    EXPECT(0, replace("r", "never", NULL));
}

static void test_replace_killed_leaves_the_old_and_the_next_clears_up(void **state)
{
    (void)state;
    EXPECT(COVE_CREATED, replace("r", "first", NULL));
    for (int i = 0; i < 3; i++)
        assert_int_equal(WTERMSIG(testing_wait(testing_spawn(dies_before_the_rename, NULL))), SIGKILL);
    expect_text("r", "first");
    assert_int_equal(debris(), 3);
    EXPECT(0, replace("r", "second", NULL));
    assert_int_equal(debris(), 0);
    expect_text("r", "second");
    EXPECT(0, cove_region_unlink("r", 0));
}

static const struct testing_case tests[] = {
    TEST(test_replace_makes_what_is_missing_and_changes_what_is_there),
    TEST_TIMEOUT(test_replace_of_each_size_is_exact, 20),
    TEST(test_replace_where_it_cannot_be_is_refused),
    TEST(test_replace_keeps_the_rights_of_the_old),
    TEST(test_replace_by_root_keeps_owner_and_group),
    TEST(test_replace_without_the_old_group_gives_its_rights_to_nobody),
    TEST(test_replace_onto_what_is_no_region_is_refused),
    TEST(test_replace_onto_a_segment_is_refused),
    TEST(test_replace_in_a_directory_without_rights_changes_nothing),
    TEST(test_replace_looks_again_before_it_takes_the_name),
    TEST_TIMEOUT(test_replace_by_several_is_always_one_of_them, 30),
    TEST(test_replace_killed_leaves_the_old_and_the_next_clears_up),
};

int main(void)
{
    return testing_run("region_replace", tests);
}
