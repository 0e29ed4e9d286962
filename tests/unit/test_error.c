/* test_error.c - names, phrases and sentences of results; what names may look like.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads valgrind */
#include "unit.h"

#include "base/error.h"
#include "region/name.h"

#include <fcntl.h>

static const struct {
    int result;
    const char *name;
} results[] = {
    {COVE_CREATED, "COVE_CREATED"},
    {COVE_RECOVERED, "COVE_RECOVERED"},
    {COVE_COMMITTED, "COVE_COMMITTED"},
    {COVE_LEADER, "COVE_LEADER"},
    {COVE_ECORRUPT, "COVE_ECORRUPT"},
    {COVE_ELAYOUT, "COVE_ELAYOUT"},
    {COVE_ENOTCOVE, "COVE_ENOTCOVE"},
    {COVE_EOWNER, "COVE_EOWNER"},
    {COVE_EPEER, "COVE_EPEER"},
    {COVE_EFORKED, "COVE_EFORKED"},
    {COVE_ETYPE, "COVE_ETYPE"},
    {COVE_ENAME, "COVE_ENAME"},
    {COVE_EREMOVED, "COVE_EREMOVED"},
    {COVE_EUNCLEAN, "COVE_EUNCLEAN"},
    {COVE_ECLOSED, "COVE_ECLOSED"},
    {COVE_ETRUNCATED, "COVE_ETRUNCATED"},
    {-ENOENT, "ENOENT"},
    {-ENOSPC, "ENOSPC"},
    {-ETIMEDOUT, "ETIMEDOUT"},
};

static void test_error_every_result_has_a_name_and_a_phrase(void **state)
{
    (void)state;
    size_t count = sizeof results / sizeof *results;
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(cove_errname(results[i].result), results[i].name);
        assert_true(strlen(cove_strerror(results[i].result)) > 3);
        assert_string_not_equal(cove_strerror(results[i].result), cove_strerror(-4999));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(cove_strerror(results[i].result), cove_strerror(results[k].result));
    }
    static const int unknown[] = {INT32_MIN, INT32_MAX, -5000, -5013, -4095, 5, 100};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_string_equal(cove_errname(unknown[i]), "unknown");
        assert_true(strlen(cove_strerror(unknown[i])) > 3);
    }
    assert_true(strlen(cove_strerror(0)) > 0);
}

/* The header's list is whole: every COVE_E... that it defines has a name here. */
static void test_error_list_is_the_headers(void **state)
{
    (void)state;
    for (int result = -5001; result >= -5012; result--)
        assert_int_equal(strncmp(cove_errname(result), "COVE_E", 6), 0);
}

static void *fail_otherwise(void *argument)
{
    (void)argument;
    assert_string_equal(cove_last_error(), ""); /* each thread has its own */
    assert_int_equal(covei_error(-5, "other"), -5);
    assert_string_equal(cove_last_error(), "other");
    return NULL;
}

static void test_error_sentences_are_kept_by_thread(void **state)
{
    (void)state;
    assert_string_equal(cove_last_error(), "");
    errno = 77;
    assert_int_equal(covei_error(-3, "%s: %d", "mine", 42), -3);
    assert_int_equal(errno, 77);
    assert_string_equal(cove_last_error(), "mine: 42");
    unit_in_thread(fail_otherwise, NULL);
    assert_string_equal(cove_last_error(), "mine: 42");
    char saved[COVEI_ERROR_BYTES];
    covei_error_save(saved);
    (void)covei_error(-4, "another");
    covei_error_restore(saved);
    assert_string_equal(cove_last_error(), "mine: 42");
    char huge[4000];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    (void)covei_error(-1, "%s", huge);
    assert_in_range(strlen(cove_last_error()), 300, 500);
}

static void test_error_complain_is_one_line(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int kept = dup(2);
    assert_int_equal(dup2(ends[1], 2), 2);
    (void)covei_error(-1, "t: it is so");
    int result = cove_complain("robot");
    assert_int_equal(dup2(kept, 2), 2);
    (void)close(kept);
    (void)close(ends[1]);
    char text[200] = "";
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    (void)close(ends[0]);
    assert_int_equal(result, 1);
    assert_string_equal(text, "robot: t: it is so\n");
    assert_string_equal(cove_version(), "0.1.0");
}

/* ---- names */

static int check_segment(const char *name)
{
    struct covei_place place;
    return covei_place_parse(&place, name, false);
}

static void test_name_of_an_object_is_split(void **state)
{
    (void)state;
    char segment[COVEI_FULL_NAME_MAX + 1];
    assert_string_equal(covei_name_split(segment, "robot/commands"), "commands");
    assert_string_equal(segment, "robot");
    assert_string_equal(covei_name_split(segment, "a/b/c"), "b/c");
    assert_string_equal(segment, "a");
    const char *const bad[] = {"", "/", "a", "a/", "/b", NULL};
    for (int i = 0; i == 0 || bad[i - 1]; i++)
        assert_null(covei_name_split(segment, bad[i]));
    char name[500];
    memset(name, 'x', sizeof name);
    name[201] = '/';
    name[499] = '\0';
    assert_null(covei_name_split(segment, name));
    name[200] = '/';
    assert_non_null(covei_name_split(segment, name));
}

static void test_name_every_byte_is_allowed_or_told(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char name[3] = {'a', (char)c, '\0'};
        bool plain = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", c) != NULL;
        assert_int_equal(check_segment(name), plain ? 0 : COVE_ENAME);
        assert_int_equal(covei_name_check_object(name), plain ? 0 : COVE_ENAME); /* '/' at the end */
        for (const char *at = cove_last_error(); *at; at++)
            assert_true((unsigned char)*at >= ' ' && (unsigned char)*at < 127); /* it goes to terminals */
        char inside[4] = {'a', (char)c, 'b', '\0'};
        assert_int_equal(covei_name_check_object(inside), plain || c == '/' ? 0 : COVE_ENAME);
    }
}

static void test_name_of_a_long_bad_one_fits_terminals(void **state)
{
    (void)state;
    char name[300];
    memset(name, '\x1b', sizeof name);
    name[299] = '\0';
    assert_int_equal(check_segment(name), COVE_ENAME);
    for (const char *at = cove_last_error(); *at; at++)
        assert_true((unsigned char)*at >= ' ');
    name[10] = '\0';
    name[0] = '.';
    assert_int_equal(check_segment(name), COVE_ENAME);
    for (const char *at = cove_last_error(); *at; at++)
        assert_true((unsigned char)*at >= ' ');
}

static void test_name_of_files(void **state)
{
    (void)state;
    char name[COVEI_NAME_MAX + 1];
    assert_true(covei_name_of_file(name, "a.cove"));
    assert_string_equal(name, "a");
    assert_true(covei_name_of_file(name, "a.cove.cove"));
    assert_string_equal(name, "a.cove");
    const char *const bad[] = {"",        ".cove",    "a",       "acove",  "a.cov", ".a.cove",
                               "-a.cove", "a b.cove", "a.cove~", "..cove", NULL};
    for (int i = 0; bad[i]; i++)
        assert_false(covei_name_of_file(name, bad[i]));
    char directory[COVEI_PATH_MAX + 10];
    memset(directory, 'd', sizeof directory);
    directory[0] = '/';
    directory[sizeof directory - 1] = '\0';
    char *kept = strdup(cove_directory());
    assert_int_equal(setenv("COVE_DIR", directory, 1), 0);
    struct covei_place place;
    EXPECT(-ENAMETOOLONG, covei_place_parse(&place, "a", false));
    assert_int_equal(setenv("COVE_DIR", "", 1), 0);
    assert_string_equal(cove_directory(), "/dev/shm");
    assert_int_equal(setenv("COVE_DIR", kept, 1), 0);
    free(kept);
}

static const struct testing_case tests[] = {
    TEST(test_error_every_result_has_a_name_and_a_phrase),
    TEST(test_error_list_is_the_headers),
    TEST(test_error_sentences_are_kept_by_thread),
    TEST(test_error_complain_is_one_line),
    TEST(test_name_of_an_object_is_split),
    TEST(test_name_every_byte_is_allowed_or_told),
    TEST(test_name_of_a_long_bad_one_fits_terminals),
    TEST(test_name_of_files),
};

int main(void)
{
    return testing_run("error", tests);
}
