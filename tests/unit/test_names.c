/* test_names.c - names: what each form means, what is refused, and where the limits lie, to the byte.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind */
#include "unit.h"

#include "region/name.h"

#include <cove/region.h>

#define DIRECTORY "/names"

static void expect_path(const char *expected, const char *name, bool raw)
{
    static struct covei_place place;
    EXPECT(0, covei_place_parse(&place, name, raw));
    assert_string_equal(place.path, expected);
    assert_string_equal(place.name, name);
    char directory[COVEI_PATH_MAX];
    covei_place_directory(&place, directory);
    size_t length = strlen(directory);
    if (*expected && strcmp(directory, "/") != 0) {
        assert_memory_equal(directory, expected, length);
        assert_int_equal(expected[length], '/');
        assert_null(strchr(expected + length + 1, '/'));
    }
}

/* `count` times `c` behind `begin`; lives until the next call but one. */
static const char *filled(const char *begin, char c, size_t count, const char *end)
{
    static char texts[2][8192];
    static unsigned turn;
    char *text = texts[turn++ % 2];
    size_t length = strlen(begin);
    memcpy(text, begin, length);
    memset(text + length, c, count);
    memcpy(text + length + count, end, strlen(end) + 1);
    return text;
}

/* ---- what is taken */

static void test_names_of_each_backend_lead_to_their_files(void **state)
{
    (void)state;
    static const struct {
        const char *name, *path;
        enum covei_backend_id backend;
    } rows[] = {
        {"robot", DIRECTORY "/robot.cove", COVEI_POSIX},
        {"a", DIRECTORY "/a.cove", COVEI_POSIX},
        {"9._-Z", DIRECTORY "/9._-Z.cove", COVEI_POSIX},
        {"robot.cove", DIRECTORY "/robot.cove.cove", COVEI_POSIX},
        {"posix", DIRECTORY "/posix.cove", COVEI_POSIX}, /* no prefix without its colon */
        {"posix:/robot", DIRECTORY "/robot", COVEI_POSIX},
        {"posix:/.hidden", DIRECTORY "/.hidden", COVEI_POSIX}, /* shm_open takes it, so others may have made it */
        {"posix:/with space:and\n", DIRECTORY "/with space:and\n", COVEI_POSIX},
        {"posix:/...", DIRECTORY "/...", COVEI_POSIX},
        {"file:/x", "/x", COVEI_FILE},
        {"file:/var/lib/app/state.cove", "/var/lib/app/state.cove", COVEI_FILE},
        {"file:/var/../x", "/var/../x", COVEI_FILE},
        {"file:/a b/c:d", "/a b/c:d", COVEI_FILE},
        {"file:/x/...", "/x/...", COVEI_FILE},
        {"memfd:", "", COVEI_MEMFD},
        {"fd:0", "", COVEI_FD},
        {"fd:2147483647", "", COVEI_FD},
        {"fd:007", "", COVEI_FD},
        {"hugetry:robot", "", COVEI_HUGETRY},
        {"sysv:0x5eed", DIRECTORY "/.cove-sysv-00005eed", COVEI_SYSV},
        {"sysv:24301", DIRECTORY "/.cove-sysv-00005eed", COVEI_SYSV},
        {"sysv:0xffffffff", DIRECTORY "/.cove-sysv-ffffffff", COVEI_SYSV},
        {"sysv:1", DIRECTORY "/.cove-sysv-00000001", COVEI_SYSV},
    };
    static struct covei_place place;
    assert_int_equal(setenv("COVE_DIR", DIRECTORY, 1), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect_path(rows[i].path, rows[i].name, false);
        EXPECT(0, covei_place_parse(&place, rows[i].name, true)); /* a region's names are the same */
        assert_int_equal(place.backend, rows[i].backend);
        if (rows[i].backend == COVEI_SYSV) /* raw memory has no side file */
            assert_string_equal(place.path, "");
        else
            assert_string_equal(place.path, rows[i].path);
    }
    EXPECT(0, covei_place_parse(&place, "fd:007", false));
    assert_int_equal(place.fd, 7);
}

static void test_names_follow_the_directory_of_the_environment(void **state)
{
    (void)state;
    static const char *const none[] = {NULL, ""};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(none[i] ? setenv("COVE_DIR", none[i], 1) : unsetenv("COVE_DIR"), 0);
        assert_string_equal(cove_directory(), "/dev/shm");
        expect_path("/dev/shm/robot.cove", "robot", false);
        expect_path("/dev/shm/robot", "posix:/robot", false);
    }
    assert_int_equal(setenv("COVE_DIR", "relative/of mine", 1), 0);
    expect_path("relative/of mine/robot.cove", "robot", false);
    assert_int_equal(setenv("COVE_DIR", "/", 1), 0);
    expect_path("//robot.cove", "robot", false);
    expect_path("/x", "file:/x", false); /* goes its own way */
}

static void test_names_of_files_are_told_from_the_working_directory(void **state)
{
    (void)state;
    char expected[2048], here[1024];
    assert_int_equal(chdir(testing_dir()), 0);
    assert_non_null(getcwd(here, sizeof here));
    static const char *const relative[] = {"x", "a/x", "./x", "../x", "a/../b/x"};
    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "file:%s", relative[i]);
        (void)snprintf(expected, sizeof expected, "%s/%s", here, relative[i]);
        expect_path(expected, name, false);
    }
    /* What was opened so stays the same when the program goes elsewhere. */
    cove_segment *segment = unit_open("file:here.cove");
    assert_int_equal(chdir("/"), 0);
    EXPECT_GOOD(cove_sync(segment, COVE_NOWAIT));
    unit_close(segment);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(access("here.cove.synced", F_OK), 0);
    unit_remove("file:here.cove");
    assert_int_equal(chdir("/"), 0);
    expect_path("//x", "file:x", false);
}

static void test_names_of_files_without_a_working_directory_are_refused(void **state)
{
    (void)state;
    static struct covei_place place;
    char gone[1024];
    (void)snprintf(gone, sizeof gone, "%s/gone", testing_dir());
    assert_int_equal(mkdir(gone, 0700), 0);
    assert_int_equal(chdir(gone), 0);
    assert_int_equal(rmdir(gone), 0);
    EXPECT_SAYS(-ENOENT, covei_place_parse(&place, "file:x", false), "begins with '/'");
    EXPECT(0, covei_place_parse(&place, "file:/x", false));
    assert_int_equal(chdir("/"), 0);
}

/* ---- what is not */

static void test_names_that_mean_nothing_are_refused_with_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *name, *says;
    } rows[] = {
        {NULL, "empty"},
        {"", "empty"},
        {".robot", "does not begin with '.'"},
        {"-robot", "does not begin with '-'"},
        {"a/b", "cannot hold '/'"},
        {"a b", "0x20"},
        {"a\n", "0x0a"},
        {"a\x7f", "0x7f"},
        {"a\xc3\xa4", "0xc3"},
        {"a:b", "no backend"},
        {"Posix:/x", "no backend"},
        {"shm:/x", "no backend"},
        {":x", "cannot hold ':'"},
        {"posix:", "posix:/NAME"},
        {"posix:x", "posix:/NAME"},
        {"posix:/", "posix:/NAME"},
        {"posix://x", "posix:/NAME"},
        {"posix:/a/b", "posix:/NAME"},
        {"posix:/.", "posix:/NAME"},
        {"posix:/..", "posix:/NAME"},
        {"file:", "path of a file"},
        {"file:/", "path of a file"},
        {"file:/x/", "path of a file"},
        {"file:/x/.", "path of a file"},
        {"file:/x/..", "path of a file"},
        {"file:..", "path of a file"},
        {"memfd:x", "no name"},
        {"memfd: ", "no name"},
        {"fd:", "number of a descriptor"},
        {"fd:-1", "number of a descriptor"},
        {"fd:+1", "number of a descriptor"},
        {"fd: 1", "number of a descriptor"},
        {"fd:1x", "number of a descriptor"},
        {"fd:0x1", "number of a descriptor"},
        {"fd:2147483648", "number of a descriptor"},
        {"fd:18446744073709551616", "number of a descriptor"},
        {"sysv:", "sysv:KEY"},
        {"sysv:0", "sysv:KEY"},
        {"sysv:0x0", "sysv:KEY"},
        {"sysv:0x", "sysv:KEY"},
        {"sysv:-1", "sysv:KEY"},
        {"sysv:+1", "sysv:KEY"},
        {"sysv: 1", "sysv:KEY"},
        {"sysv:1 ", "sysv:KEY"},
        {"sysv:5eed", "sysv:KEY"},
        {"sysv:0x100000000", "sysv:KEY"},
        {"sysv:18446744073709551617", "sysv:KEY"},
        {"sysv:/etc/passwd", "sysv:KEY"},
        {"sysv:/etc/passwd:", "sysv:KEY"},
        {"sysv:/etc/passwd:x", "sysv:KEY"},
        {"sysv:/etc/passwd:1x", "sysv:KEY"},
        {"sysv:/etc/passwd:-1", "sysv:KEY"},
        {"sysv:/etc/passwd:+1", "sysv:KEY"},
        {"sysv:/etc/passwd: 1", "sysv:KEY"},
        {"sysv:/etc/passwd:\t1", "sysv:KEY"},
        {"sysv:/etc/passwd:\n1", "sysv:KEY"},
        {"sysv:/etc/passwd:18446744073709551617", "sysv:KEY"},
        {"sysv:/etc/passwd:0", "1 to 255"},
        {"sysv:/etc/passwd:256", "1 to 255"},
        {"sysv:/etc/passwd:0x100", "1 to 255"},
        {"sysv:passwd:1", "relative path"},
        {"sysv:./passwd:1", "relative path"},
        {"sysv::1", "relative path"},
        {"huge:", "empty"},
        {"huge:.x", "does not begin"},
        {"huge:a/b", "cannot hold '/'"},
        {"huge:a:b", "cannot hold ':'"},
        {"hugetry:", "empty"},
        {"hugetry:-x", "does not begin"},
        {"hugetry:a/b", "cannot hold '/'"},
        {"hugetry:huge:x", "cannot hold ':'"},
    };
    static struct covei_place place;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int raw = 0; raw < 2; raw++) {
            unit_forget();
            if (covei_place_parse(&place, rows[i].name, raw) != COVE_ENAME || !strstr(cove_last_error(), rows[i].says))
                fail_msg("\"%s\": \"%s\" does not say \"%s\"", rows[i].name, cove_last_error(), rows[i].says);
        }
        EXPECT(COVE_ENAME, cove_supports(rows[i].name, COVE_CAN_USE));
        for (const char *c = cove_last_error(); *c; c++) /* fit for a terminal */
            assert_in_range((unsigned char)*c, ' ', '~');
    }
    EXPECT_SAYS(-ENOENT, covei_place_parse(&place, "sysv:/no/such/file:1", false), "/no/such/file");
}

/* ---- limits */

static void test_names_end_at_their_limits(void **state)
{
    (void)state;
    static struct covei_place place;
    assert_int_equal(setenv("COVE_DIR", DIRECTORY, 1), 0);
    static const struct {
        const char *begin;
        size_t longest; /* of what stands behind it */
    } rows[] = {{"", 200}, {"huge:", 200}, {"hugetry:", 200}, {"posix:/", 255}, {"file:/", 1023 - 6}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        EXPECT(0, covei_place_parse(&place, filled(rows[i].begin, 'x', rows[i].longest - 1, ""), false));
        EXPECT(0, covei_place_parse(&place, filled(rows[i].begin, 'x', rows[i].longest, ""), false));
        EXPECT(COVE_ENAME, covei_place_parse(&place, filled(rows[i].begin, 'x', rows[i].longest + 1, ""), false));
        EXPECT(COVE_ENAME, covei_place_parse(&place, filled(rows[i].begin, 'x', 4000, ""), false));
    }
    /* What is longest can be used, too. */
    assert_int_equal(setenv("COVE_DIR", testing_dir(), 1), 0);
    char name[256];
    (void)snprintf(name, sizeof name, "%s", filled("", 'x', 200, ""));
    unit_close(unit_open(name));
    unit_remove(name);
}

static void test_names_in_long_directories_end_where_paths_end(void **state)
{
    (void)state;
    static struct covei_place place;
    static char directory[COVEI_PATH_MAX + 16];
    memset(directory, 'd', sizeof directory - 1);
    directory[0] = '/';
    size_t tail = strlen("/robot.cove");
    for (size_t length = COVEI_PATH_MAX - tail - 2; length < COVEI_PATH_MAX - tail + 2; length++) {
        directory[length] = '\0';
        assert_int_equal(setenv("COVE_DIR", directory, 1), 0);
        directory[length] = 'd';
        if (length + tail < COVEI_PATH_MAX)
            EXPECT(0, covei_place_parse(&place, "robot", false));
        else
            EXPECT_SAYS(-ENAMETOOLONG, covei_place_parse(&place, "robot", false), "COVE_DIR");
    }
}

static void test_names_of_objects_are_checked_to_the_byte(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a/b", "a/b/c", "0", "a.b-c_d", "a/.b", "a/-", "A9"};
    static const char *const bad[] = {"", "/a", "a/", "a//b", ".a", "-a", "a b", "a:b", "a\\b", "a\xff", "/"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        EXPECT(0, covei_name_check_object(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT(COVE_ENAME, covei_name_check_object(bad[i]));
    EXPECT(COVE_ENAME, covei_name_check_object(NULL));
    EXPECT(0, covei_name_check_object(filled("", 'o', 200, "")));
    EXPECT(COVE_ENAME, covei_name_check_object(filled("", 'o', 201, "")));
}

/* ---- SEGMENT/OBJECT */

static void test_names_of_objects_split_where_the_segment_ends(void **state)
{
    (void)state;
    static const struct {
        const char *full, *segment, *object;
    } rows[] = {
        {"robot/commands", "robot", "commands"},
        {"robot/arm/left", "robot", "arm/left"},
        {"posix:/robot//commands", "posix:/robot", "commands"},
        {"posix:/robot//arm/left", "posix:/robot", "arm/left"},
        {"file:/var/lib/state.cove//commands", "file:/var/lib/state.cove", "commands"},
        {"file:x//commands", "file:x", "commands"},
        {"file:/a//b//commands", "file:/a//b", "commands"}, /* paths may hold two; objects may not */
        {"sysv:0x5eed/commands", "sysv:0x5eed", "commands"},
        {"sysv:/etc/passwd:7//commands", "sysv:/etc/passwd:7", "commands"},
        {"memfd:/commands", "memfd:", "commands"},
        {"fd:7/commands", "fd:7", "commands"},
        {"huge:robot/commands", "huge:robot", "commands"},
        {"hugetry:robot/arm/left", "hugetry:robot", "arm/left"},
    };
    static char segment[COVEI_FULL_NAME_MAX + 1];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *object = covei_name_split(segment, rows[i].full);
        if (!object || strcmp(segment, rows[i].segment) != 0 || strcmp(object, rows[i].object) != 0)
            fail_msg("%s is split into %s and %s", rows[i].full, segment, object ? object : "(null)");
    }
}

static void test_names_of_objects_without_one_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *full, *says;
    } rows[] = {
        {NULL, "SEGMENT/OBJECT"},       {"", "SEGMENT/OBJECT"},           {"robot", "SEGMENT/OBJECT"},
        {"robot/", "SEGMENT/OBJECT"},   {"/commands", "SEGMENT/OBJECT"},  {"file:/a/b", "begin with two"},
        {"posix:/robot", "begin with"}, {"posix:/robot//", "SEGMENT/OB"}, {"sysv:/etc/passwd:7/x", "begin with two"},
        {"memfd:", "SEGMENT/OBJECT"},   {"file:", "SEGMENT/OBJECT"},      {"huge:robot", "SEGMENT/OBJECT"},
    };
    static char segment[COVEI_FULL_NAME_MAX + 1];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unit_forget();
        assert_null(covei_name_split(segment, rows[i].full));
        unit_expect_says(rows[i].full ? rows[i].full : "(null)", rows[i].says, __FILE__, __LINE__);
    }
    assert_non_null(covei_name_split(segment, filled("", 's', 200, "/o")));
    assert_null(covei_name_split(segment, filled("", 's', 201, "/o")));
    assert_non_null(covei_name_split(segment, filled("file:/", 's', 1023 - 6, "//o")));
    assert_null(covei_name_split(segment, filled("file:/", 's', 1023 - 5, "//o")));
}

/* ---- names of files */

static void test_names_of_files_are_known_for_ours_or_not(void **state)
{
    (void)state;
    char name[COVEI_NAME_MAX + 1];
    uint32_t key = 0;
    static const char *const foreign[] = {".cove",   "x.cov",    "x.cove~",  ".x.cove",
                                          "-x.cove", "a b.cove", "a:b.cove", ""};
    assert_true(covei_name_of_file(name, "robot.cove"));
    assert_string_equal(name, "robot");
    assert_true(covei_name_of_file(name, filled("", 'x', 200, ".cove")));
    assert_false(covei_name_of_file(name, filled("", 'x', 201, ".cove")));
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_false(covei_name_of_file(name, foreign[i]));
    assert_true(covei_name_of_side_file(&key, ".cove-sysv-00005eed"));
    assert_int_equal(key, 0x5eed);
    assert_true(covei_name_of_side_file(&key, ".cove-sysv-ffffffff"));
    assert_int_equal(key, UINT32_MAX);
    static const char *const no_side[] = {
        ".cove-sysv-",         ".cove-sysv-5eed",    ".cove-sysv-0000005eed",   ".cove-sysv-00005EED",
        ".cove-sysv-0x005eed", "cove-sysv-00005eed", ".cove-sysv-00005eed.cove"};
    for (size_t i = 0; i < sizeof no_side / sizeof *no_side; i++)
        assert_false(covei_name_of_side_file(&key, no_side[i]));
}

/* ---- cove_supports */

/* A column each: enum cove_feature from COVE_CAN_NAME on. */
static void test_supports_is_as_the_table_says(void **state)
{
    (void)state;
    char fd_name[16];
    cove_region *region = NULL;
    EXPECT(COVE_CREATED, cove_region_open(&region, "memfd:", &(struct cove_region_options){.size_bytes = 1}));
    int fd = (int)EXPECT_GOOD(cove_region_fd(region));
    (void)snprintf(fd_name, sizeof fd_name, "fd:%d", fd);
    const struct {
        const char *name, *can; /* name, hide, grow, sync, seal, pass, replace, reserve, huge pages */
    } rows[] = {
        {"robot", "111001110"},       {"posix:/robot", "111001110"}, {"file:/tmp/robot", "111101110"},
        {"sysv:0x5eed", "100010000"}, {"memfd:", "011011010"},       {fd_name, "001011010"},
        {"huge:robot", "111001111"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int feature = COVE_CAN_NAME; feature <= COVE_HAS_HUGE_PAGES; feature++)
            if (cove_supports(rows[i].name, (enum cove_feature)feature) != rows[i].can[feature - COVE_CAN_NAME] - '0')
                fail_msg("cove_supports(%s, %d) is not %c", rows[i].name, feature,
                         rows[i].can[feature - COVE_CAN_NAME]);
    EXPECT(0, cove_region_close(region));
    EXPECT(1, cove_supports(fd_name, COVE_CAN_USE));
    assert_int_equal(close(fd), 0);
    EXPECT(0, cove_supports(fd_name, COVE_CAN_USE));
    EXPECT(0, cove_supports(fd_name, COVE_CAN_SEAL));
}

static void test_supports_knows_no_other_features(void **state)
{
    (void)state;
    static const char *const names[] = {"robot", "file:/tmp/x", "sysv:1", "memfd:", "fd:0", "huge:x", "hugetry:x"};
    static const int features[] = {COVE_HAS_HUGE_PAGES + 1, 31, 32, 33, 64, INT32_MAX, -1, INT32_MIN};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t j = 0; j < sizeof features / sizeof *features; j++)
            assert_int_equal(cove_supports(names[i], (enum cove_feature)features[j]), 0);
}

static void test_supports_tells_what_can_be_used_here_and_now(void **state)
{
    (void)state;
    struct stat about;
    EXPECT(1, cove_supports("robot", COVE_CAN_USE));
    EXPECT(1, cove_supports("file:/tmp/robot", COVE_CAN_USE));
    EXPECT(1, cove_supports("memfd:", COVE_CAN_USE));
    EXPECT(1, cove_supports("hugetry:robot", COVE_CAN_USE));
    assert_int_equal(cove_supports("huge:robot", COVE_CAN_USE), cove_supports("hugetry:robot", COVE_HAS_HUGE_PAGES));
    assert_int_equal(setenv("COVE_DIR", "/no/such/directory", 1), 0);
    EXPECT(0, cove_supports("robot", COVE_CAN_USE));
    assert_int_equal(setenv("COVE_DIR", testing_dir(), 1), 0);
    assert_int_equal(lstat(unit_path("robot"), &about), -1); /* asking made nothing */
}

static const struct testing_case tests[] = {
    TEST(test_names_of_each_backend_lead_to_their_files),
    TEST(test_names_follow_the_directory_of_the_environment),
    TEST(test_names_of_files_are_told_from_the_working_directory),
    TEST(test_names_of_files_without_a_working_directory_are_refused),
    TEST(test_names_that_mean_nothing_are_refused_with_what_is_wrong),
    TEST(test_names_end_at_their_limits),
    TEST(test_names_in_long_directories_end_where_paths_end),
    TEST(test_names_of_objects_are_checked_to_the_byte),
    TEST(test_names_of_objects_split_where_the_segment_ends),
    TEST(test_names_of_objects_without_one_are_refused),
    TEST(test_names_of_files_are_known_for_ours_or_not),
    TEST(test_supports_is_as_the_table_says),
    TEST(test_supports_knows_no_other_features),
    TEST(test_supports_tells_what_can_be_used_here_and_now),
};

int main(void)
{
    return testing_run("names", tests);
}
