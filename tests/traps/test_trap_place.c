/* test_trap_place.c - traps of what lies in the memory: pointers in it, and structs whose places were computed by
 * hand.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "traps.h"

/* ---- row: different addresses in each process */

struct greeting {
    char *pointer; /* the trap */
    char text[16];
};

/* Another process: the address that the writer has the memory at is in use for something else here, or for
 * nothing. */
struct reader {
    const char *name;
    void *writers_address;
    int protection;
};

static struct greeting *map_elsewhere(const struct reader *reader)
{
    char *taken = mmap(reader->writers_address, TRAP_PAGE, reader->protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                       -1, 0);
    assert_ptr_equal(taken, reader->writers_address);
    if (reader->protection & PROT_WRITE)
        memset(taken, '?', TRAP_PAGE - 1);
    int fd = shm_open(reader->name, O_RDWR, 0);
    struct greeting *greeting = (void *)trap_map(fd, TRAP_PAGE);
    assert_ptr_not_equal(greeting, reader->writers_address);
    assert_string_equal(greeting->text, "hello"); /* it is the same memory */
    return greeting;
}

static void follow_pointer(void *argument)
{
    (void)trap_read(map_elsewhere(argument)->pointer);
}

static void follow_pointer_to_others_bytes(void *argument)
{
    struct greeting *greeting = map_elsewhere(argument);
    assert_int_equal(trap_read(greeting->pointer), '?'); /* no crash, and the wrong bytes: worse */
}

struct box {
    cove_ref text, stray;
    uint64_t address; /* what a pointer would have been */
};

static void follow_ref(void *argument)
{
    cove_segment *inherited = argument;
    cove_segment *segment = unit_open("greeting");
    struct box *box = unit_object(segment, "box", sizeof *box);
    const char *text = cove_at(segment, box->text, 6);
    assert_string_equal(text, "hello");
    assert_int_not_equal((uintptr_t)text, box->address); /* really elsewhere */
    assert_int_equal(cove_ref_of(segment, text), box->text);
    assert_null(cove_at(segment, box->stray, 8)); /* one that leads nowhere is an error, no address */
    unit_close(segment);
    unit_drop_inherited(inherited);
}

/* Trap: a pointer that is stored in shared memory means something to the process that stored it. */
static void test_place_stored_pointer_leads_elsewhere(void **state)
{
    (void)state;
    const char *name = trap_shm_name("pointer");
    int fd = trap_shm_make(name, TRAP_PAGE);
    struct greeting *greeting = (void *)trap_map(fd, TRAP_PAGE);
    strcpy(greeting->text, "hello");
    greeting->pointer = greeting->text;
    struct reader reader = {name, greeting, PROT_NONE};
    EXPECT_DEATH(SIGSEGV, follow_pointer, &reader);
    reader.protection = PROT_READ | PROT_WRITE;
    EXPECT_LIFE(follow_pointer_to_others_bytes, &reader);
    assert_int_equal(munmap(greeting, TRAP_PAGE), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);
}

/* Cove: a ref counts from the segment's beginning, and is bounded. The mapping that a child inherits keeps its
 * own, which it opens by name, from coming to the same address. */
static void test_place_stored_ref_leads_right(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("greeting");
    struct box *box = unit_object(segment, "box", sizeof *box);
    EXPECT(0, cove_alloc_into(segment, &box->text, 6));
    box->address = (uintptr_t)memcpy(cove_at(segment, box->text, 6), "hello", 6);
    box->stray = UINT64_C(1) << 62;
    testing_join(testing_spawn(follow_ref, segment));
    unit_close(segment);
    unit_remove("greeting");
}

/* ---- row: objects in raw memory, offsets by hand */

/* Two programs, two ideas of one record: the second was compiled before a field came in. */
struct record_now {
    uint32_t id, flags;
    int64_t cents;
};
struct record_then {
    uint32_t id, padding;
    double euros;
};

#define RECORD_AT 64 /* "the first 64 bytes are the header" */
#define HEADER_BYTES 72 /* and then the header got another field */

/* Trap: the place and the shape of a struct are known by heart, by each program for itself. */
static void test_place_offsets_by_hand_disagree(void **state)
{
    (void)state;
    const char *name = trap_shm_name("offsets");
    int fd = trap_shm_make(name, TRAP_PAGE);
    char *memory = trap_map(fd, TRAP_PAGE);
    struct record_now *now = (void *)(memory + RECORD_AT);
    *now = (struct record_now){.id = 7, .flags = 1, .cents = 1250};
    struct record_then *then = (void *)(memory + RECORD_AT);
    assert_true(then->euros < 1e-300); /* 12.50 */
    memset(memory, 0, HEADER_BYTES); /* "set up the header" */
    assert_int_equal(now->id, 0); /* over the record's first field */
    assert_int_equal(munmap(memory, TRAP_PAGE), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);
}

/* Cove: memory is found by name, comes with a type, and does not overlap. */
static void test_place_objects_have_type_and_room_of_their_own(void **state)
{
    (void)state;
    static const struct cove_type now_type = {.name = "record", .version = 2, .size_bytes = sizeof(struct record_now)};
    static const struct cove_type then_type = {
        .name = "record", .version = 1, .size_bytes = sizeof(struct record_then)};
    static const struct cove_type header_type = {.name = "header", .version = 1, .size_bytes = HEADER_BYTES};
    cove_segment *segment = unit_open("objects");
    void *record = NULL, *header = NULL, *other = NULL;
    EXPECT(COVE_CREATED, cove_object_open(&record, segment, "record", &now_type, 0));
    EXPECT(COVE_CREATED, cove_object_open(&header, segment, "header", &header_type, 0));
    assert_int_equal((uintptr_t)record % 16, 0);
    *(struct record_now *)record = (struct record_now){.id = 7, .flags = 1, .cents = 1250};
    memset(header, 0xff, HEADER_BYTES);
    assert_int_equal(((struct record_now *)record)->cents, 1250);
    EXPECT_SAYS(COVE_ETYPE, cove_object_open(&other, segment, "record", &then_type, 0), "record (version 2, 16 bytes)");
    assert_null(other);
    EXPECT(0, cove_object_open(&other, segment, "record", &now_type, COVE_EXISTING));
    assert_ptr_equal(other, record);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("objects");
}

static const struct testing_case tests[] = {
    TEST(test_place_stored_pointer_leads_elsewhere),
    TEST(test_place_stored_ref_leads_right),
    TEST(test_place_offsets_by_hand_disagree),
    TEST(test_place_objects_have_type_and_room_of_their_own),
};

int main(void)
{
    return testing_run("trap_place", tests);
}
