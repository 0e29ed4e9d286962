/* process_names.c - names at their limits, directories at theirs, and umasks of all kinds.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "process.h"

#include <dirent.h>
#include <fcntl.h>

#define NAME_MOST 200

static int count_files(void)
{
    int count = 0;
    DIR *directory = opendir(cove_directory());
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    assert_int_equal(closedir(directory), 0);
    return count;
}

static void use_whole_life(const char *name)
{
    struct cove_segment_info info;
    cove_segment *segment = NULL;
    EXPECT(COVE_CREATED, cove_open(&segment, name, NULL));
    (void)bank_make(segment);
    assert_string_equal(cove_segment_name(segment), name);
    unit_close(segment);
    EXPECT(0, cove_stat(name, &info));
    assert_string_equal(info.name, name);
    segment = unit_open_as(name, &(struct cove_options){.flags = COVE_EXISTING});
    bank_transfer(segment, bank_open(segment));
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_gc(0, NULL, NULL));
    EXPECT(0, cove_unlink(name, 0));
    assert_int_equal(count_files(), 0);
}

/* By every call that takes a segment's name: the same result, a sentence that says what is wrong, and no file. */
static void refused(const char *name, const char *part)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    EXPECT_SAYS(COVE_ENAME, cove_open(&segment, name, NULL), part);
    EXPECT_SAYS(COVE_ENAME, cove_open(&segment, name, &(struct cove_options){.flags = COVE_READONLY}), part);
    EXPECT_SAYS(COVE_ENAME, cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXCLUSIVE}), part);
    EXPECT_SAYS(COVE_ENAME, cove_stat(name, &info), part);
    EXPECT_SAYS(COVE_ENAME, cove_unlink(name, 1), part);
    assert_null(segment);
    assert_int_equal(count_files(), 0);
}

static void test_names_at_their_limits(void **state)
{
    (void)state;
    char name[NAME_MOST + 2];
    use_whole_life("t");
    use_whole_life("T.9_-");
    use_whole_life("a..b");
    use_whole_life("9");
    use_whole_life("_");
    memset(name, 'n', sizeof name);
    name[NAME_MOST] = '\0';
    use_whole_life(name);
    name[NAME_MOST] = 'n';
    name[NAME_MOST + 1] = '\0';
    refused(name, "longer than 200 bytes");
    refused("", "empty");
    refused(NULL, "empty");
    refused(".", "does not begin with '.'");
    refused("..", "does not begin with '.'");
    refused(".hidden", "does not begin with '.'");
    refused("-f", "does not begin with '-'");
    refused("trailing ", "cannot hold the byte 0x20");
    refused("new\nline", "cannot hold the byte 0x0a");
    refused("r\xc3\xb6"
            "bot",
            "cannot hold the byte 0xc3"); /* UTF-8 */
    refused("\xff\xfe", "cannot hold the byte 0xff");
    refused("*", "cannot hold '*'");
}

static bool is_plain(unsigned c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

static void test_names_hold_no_other_byte(void **state)
{
    (void)state;
    for (unsigned c = 1; c < 256; c++) {
        char name[] = {'a', (char)c, 'b', '\0'};
        cove_segment *segment = NULL;
        if (is_plain(c))
            continue;
        EXPECT(COVE_ENAME, cove_open(&segment, name, NULL));
        for (const char *at = cove_last_error(); *at; at++) /* the sentence goes to a terminal */
            assert_in_range((unsigned char)*at, ' ', 126);
    }
    assert_int_equal(count_files(), 0);
}

static void test_names_of_objects_at_their_limits(void **state)
{
    (void)state;
    char name[NAME_MOST + 2];
    cove_segment *segment = unit_open("t");
    void *object = NULL;
    struct cove_type type = {.name = "thing", .size_bytes = 8};
    memset(name, 'o', sizeof name);
    name[NAME_MOST] = '\0';
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, name, &type, 0));
    struct cove_object_info info;
    EXPECT(1, cove_objects(segment, &info, 1));
    assert_string_equal(info.name, name);
    EXPECT(0, cove_object_remove(segment, name));
    name[NAME_MOST] = 'o';
    name[NAME_MOST + 1] = '\0';
    EXPECT_SAYS(COVE_ENAME, cove_object_open(&object, segment, name, &type, 0), "longer than 200 bytes");
    static const char *const bad[] = {"", "/", "/a", "a/", "a//b", ".a", "-a", "a b", "a\xc3\xa4", "a:b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(COVE_ENAME, cove_object_open(&object, segment, bad[i], &type, 0));
        EXPECT(COVE_ENAME, cove_object_remove(segment, bad[i]));
    }
    EXPECT(0, cove_objects(segment, NULL, 0));
    unit_close(segment);
    unit_remove("t");
}

/* ---- directories with long paths */

#define STEP 240 /* bytes of one part of the path */

/* Directories in each other, until the path is `length` bytes long. */
static void make_long_directory(char *path, size_t length)
{
    size_t at = strlen(path);
    while (at < length) {
        size_t part = length - at - 1 < STEP ? length - at - 1 : STEP;
        if (length - at - 1 - part == 1)
            part--; /* the last one must not be a slash alone */
        path[at] = '/';
        memset(path + at + 1, 'd', part);
        at += 1 + part;
        path[at] = '\0';
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_int_equal(strlen(path), length);
}

static void remove_long_directory(char *path, size_t until)
{
    for (size_t at = strlen(path); at > until; at = strlen(path)) {
        assert_int_equal(rmdir(path), 0);
        *strrchr(path, '/') = '\0';
    }
}

static void test_names_in_directories_with_long_paths(void **state)
{
    (void)state;
    static char path[8192];
    const size_t longest = 4095 - strlen("/t.cove"); /* the kernel takes 4095 bytes */
    (void)snprintf(path, sizeof path, "%s", testing_dir());
    size_t begin = strlen(path);
    make_long_directory(path, longest);
    assert_int_equal(setenv("COVE_DIR", path, 1), 0);
    use_whole_life("t");
    cove_segment *segment = NULL;
    EXPECT_SAYS(-ENAMETOOLONG, cove_open(&segment, "tt", NULL), "COVE_DIR");
    EXPECT(-ENAMETOOLONG, cove_unlink("tt", 1));
    EXPECT(0, cove_gc(0, NULL, NULL));
    char beyond[8192];
    (void)snprintf(beyond, sizeof beyond, "%.4000s/%.4000s", path, path);
    assert_int_equal(setenv("COVE_DIR", beyond, 1), 0);
    EXPECT(-ENAMETOOLONG, cove_open(&segment, "t", NULL));
    assert_true(cove_gc(0, NULL, NULL) < 0);
    assert_null(segment);
    remove_long_directory(path, begin);
    assert_int_equal(setenv("COVE_DIR", testing_dir(), 1), 0);
}

/* ---- umask */

static mode_t mode_of(const char *name)
{
    struct stat info;
    assert_int_equal(stat(unit_path(name), &info), 0);
    return info.st_mode & 07777;
}

static void test_names_appear_with_rights_whatever_the_umask(void **state)
{
    (void)state;
    static const mode_t masks[] = {0, 022, 0277, 0777};
    static const mode_t modes[] = {0, 0600, 0640, 0666, 0660, 0604};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
        for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
            mode_t before = umask(masks[i]);
            cove_segment *segment = unit_open_as("t", &(struct cove_options){.mode = modes[k]});
            (void)bank_make(segment);
            cove_ref ref = cove_alloc(segment, 1 << 20); /* growth does not mind either */
            assert_true(ref != 0);
            unit_close(segment);
            unit_close(unit_open("t"));
            (void)umask(before);
            assert_int_equal(mode_of("t"), modes[k] ? modes[k] : 0600);
            unit_remove("t");
        }
}

static const struct testing_case tests[] = {
    TEST(test_names_at_their_limits),
    TEST(test_names_hold_no_other_byte),
    TEST(test_names_of_objects_at_their_limits),
    TEST(test_names_in_directories_with_long_paths),
    TEST(test_names_appear_with_rights_whatever_the_umask),
};

int main(void)
{
    return testing_run("process_names", tests);
}
