/* test_object.c - named objects: types, names, many of them, removal, and many who make the same one.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "unit.h"

static const struct cove_type account = {.name = "account", .version = 2, .size_bytes = 48};

static void test_object_open_creates_zeroed_then_finds(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_ref dirt = cove_alloc(segment, 5000);
    memset(cove_at(segment, dirt, 5000), 0xff, 5000);
    EXPECT(0, cove_free(segment, dirt));
    void *object = NULL, *again = NULL;
    EXPECT(-ENOENT, cove_object_open(&object, segment, "a", &account, COVE_EXISTING));
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "a", &account, 0));
    assert_int_equal((uintptr_t)object % 16, 0);
    for (size_t i = 0; i < account.size_bytes; i++)
        assert_int_equal(((unsigned char *)object)[i], 0);
    EXPECT(0, cove_object_open(&again, segment, "a", &account, COVE_EXISTING));
    assert_ptr_equal(object, again);
    again = NULL;
    EXPECT_SAYS(-EEXIST, cove_object_open(&again, segment, "a", &account, COVE_EXCLUSIVE), "t/a");
    assert_null(again);
    unit_sound(segment);
    unit_close(segment);
    segment = unit_open("t"); /* objects stay */
    EXPECT(0, cove_object_open(&object, segment, "a", &account, 0));
    unit_close(segment);
    unit_remove("t");
}

static void test_object_of_another_type_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *object = NULL;
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "a", &account, 0));
    static const struct cove_type others[] = {
        {.name = "account", .version = 3, .size_bytes = 48}, {.name = "account", .version = 2, .size_bytes = 47},
        {.name = "account", .version = 2, .size_bytes = 49}, {.name = "accounts", .version = 2, .size_bytes = 48},
        {.name = "accoun", .version = 2, .size_bytes = 48},  {.name = "stream", .version = 2, .size_bytes = 48},
    };
    object = NULL;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        EXPECT_SAYS(COVE_ETYPE, cove_object_open(&object, segment, "a", &others[i], 0),
                    "account (version 2, 48 bytes)");
    cove_stream *stream = NULL;
    EXPECT(COVE_CREATED, cove_stream_open_in(&stream, segment, "s", COVE_READER, NULL));
    EXPECT(0, cove_stream_close(stream));
    EXPECT_SAYS(COVE_ETYPE, cove_object_open(&object, segment, "s", &account, 0), "stream");
    assert_null(object);
    unit_close(segment);
    unit_remove("t");
}

static void test_object_bad_arguments_are_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *object = NULL;
    static const struct cove_type bad[] = {
        {.name = NULL, .size_bytes = 1},
        {.name = "", .size_bytes = 1},
        {.name = "x", .size_bytes = 0},
        {.name = "x", .size_bytes = UINT64_MAX},
        {.name = "x", .size_bytes = UINT64_MAX - 15},
        {.name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", .size_bytes = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT(-EINVAL, cove_object_open(&object, segment, "a", &bad[i], 0));
    EXPECT(-EINVAL, cove_object_open(&object, segment, "a", NULL, 0));
    EXPECT(-EINVAL, cove_object_open(NULL, segment, "a", &account, 0));
    EXPECT(-EINVAL, cove_object_open(&object, segment, "a", &account, COVE_READONLY));
    EXPECT(-ENOSPC, cove_object_open(&object, segment, "a",
                                     &(struct cove_type){.name = "x", .size_bytes = UINT64_C(1) << 44}, 0));
    char long_name[202];
    memset(long_name, 'n', 201);
    long_name[201] = '\0';
    const char *const names[] = {"",    "/",   "/a",  "a/",       "a//b",    ".a", "-a",
                                 "a b", "a\n", "a:b", "\xc3\xa9", long_name, NULL};
    for (int i = 0; i == 0 || names[i - 1]; i++) {
        EXPECT(COVE_ENAME, cove_object_open(&object, segment, names[i], &account, 0));
        EXPECT(COVE_ENAME, cove_object_remove(segment, names[i]));
    }
    assert_null(object);
    assert_int_equal(unit_stat(segment).object_count, 0);
    assert_int_equal(unit_stat(segment).heap_block_count, 0);
    long_name[200] = '\0';
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, long_name, &account, 0));
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "a/b/c", &account, 0));
    EXPECT(COVE_CREATED,
           cove_object_open(&object, segment, "t31",
                            &(struct cove_type){.name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", .size_bytes = 1}, 0));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_object_remove(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    uint64_t before = unit_free_bytes(segment);
    void *object = NULL;
    EXPECT(-ENOENT, cove_object_remove(segment, "a"));
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "a", &account, 0));
    EXPECT(0, cove_object_remove(segment, "a"));
    EXPECT(-ENOENT, cove_object_remove(segment, "a"));
    assert_int_equal(unit_free_bytes(segment), before);
    EXPECT(-ENOENT, cove_object_open(&object, segment, "a", &account, COVE_EXISTING));
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "a", &(struct cove_type){.name = "b", .size_bytes = 9}, 0));
    cove_stream *stream = NULL;
    EXPECT(COVE_CREATED, cove_stream_open_in(&stream, segment, "s", COVE_READER, NULL));
    EXPECT(-EBUSY, cove_object_remove(segment, "s"));
    EXPECT(0, cove_stream_close(stream));
    EXPECT(0, cove_object_remove(segment, "s"));
    EXPECT(0, cove_object_remove(segment, "a"));
    assert_int_equal(unit_free_bytes(segment) + 32, unit_stat(segment).heap_bytes);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_object_inside_a_transaction(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    uint64_t *value = unit_object(segment, "v", 8);
    void *object = NULL;
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, value, 8));
    *value = 5;
    EXPECT_SAYS(-EBUSY, cove_object_open(&object, segment, "new", &account, 0), "before cove_begin");
    EXPECT(-EBUSY, cove_object_remove(segment, "v"));
    EXPECT(-ENOENT, cove_object_open(&object, segment, "new", &account, COVE_EXISTING));
    EXPECT(0, cove_object_open(&object, segment, "v", &(struct cove_type){.name = "unit", .size_bytes = 8}, 0));
    assert_ptr_equal(object, value);
    EXPECT(0, cove_abort(segment)); /* still the user's own */
    assert_int_equal(*value, 0);
    assert_int_equal(unit_stat(segment).object_count, 1);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

#define MANY 5000

static void name_of(char name[32], int i)
{
    (void)snprintf(name, 32, "group%d/object%d", i % 7, i);
}

static void test_object_many(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    char name[32];
    int many = testing_scale() > 1 ? MANY / 10 : MANY;
    for (int i = 0; i < many; i++) {
        name_of(name, i);
        *(int *)unit_object(segment, name, 64) = i;
    }
    assert_int_equal(unit_stat(segment).object_count, many);
    for (int i = 0; i < many; i++) {
        name_of(name, i);
        assert_int_equal(*(int *)unit_object(segment, name, 64), i);
    }
    struct cove_object_info *info = calloc((size_t)many + 1, sizeof *info);
    assert_non_null(info);
    EXPECT(many, cove_objects(segment, info, (size_t)many + 1));
    assert_int_equal(info[many].name[0], 0);
    for (int i = 0; i < many; i++) {
        assert_string_equal(info[i].type, "unit");
        assert_int_equal(info[i].size_bytes, 64);
    }
    EXPECT(many, cove_objects(segment, info, 3));
    free(info);
    unit_sound(segment);
    for (int i = 0; i < many; i += 2) {
        name_of(name, i);
        EXPECT(0, cove_object_remove(segment, name));
    }
    unit_sound(segment);
    for (int i = 0; i < many; i++) {
        void *object = NULL;
        name_of(name, i);
        EXPECT(i % 2 ? 0 : -ENOENT,
               cove_object_open(&object, segment, name, &(struct cove_type){.name = "unit", .size_bytes = 64},
                                COVE_EXISTING));
    }
    unit_close(segment);
    unit_remove("t");
}

#define MAKERS 12
#define ROUNDS 50

static void make_all(void *argument)
{
    _Atomic uint32_t *created = argument;
    cove_segment *segment = unit_open("t");
    testing_reach(0);
    testing_await_count(0, MAKERS);
    for (int i = 0; i < ROUNDS; i++) {
        char name[32];
        name_of(name, i);
        void *object = NULL;
        int result = cove_object_open(&object, segment, name, &account, 0);
        (void)EXPECT_GOOD(result);
        atomic_fetch_add(&created[i], result == COVE_CREATED);
    }
    unit_close(segment);
}

static void test_object_made_by_many_at_once_is_made_once(void **state)
{
    (void)state;
    _Atomic uint32_t *created = testing_shared(ROUNDS * sizeof *created);
    pid_t pids[MAKERS];
    for (int i = 0; i < MAKERS; i++)
        pids[i] = testing_spawn(make_all, (void *)created);
    for (int i = 0; i < MAKERS; i++)
        testing_join(pids[i]);
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(created[i], 1);
    cove_segment *segment = unit_open("t");
    assert_int_equal(unit_stat(segment).object_count, ROUNDS);
    assert_int_equal(unit_stat(segment).heap_block_count, 2 * ROUNDS);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_object_open_creates_zeroed_then_finds),
    TEST(test_object_of_another_type_is_told),
    TEST(test_object_bad_arguments_are_told),
    TEST(test_object_remove),
    TEST(test_object_inside_a_transaction),
    TEST_TIMEOUT(test_object_many, 30),
    TEST(test_object_made_by_many_at_once_is_made_once),
};

int main(void)
{
    return testing_run("object", tests);
}
