/* machine_holes.c - reading what has no memory behind it, where there is no memory left.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Reading a hole of a mapped file takes a page, and on a full tmpfs that is a SIGBUS. A segment has holes on
 * purpose: rows and lanes that nobody used yet. Files that are not ours have them anywhere: sparse copies, truncated
 * and grown again, and words that claim that a hole has memory. Whoever looks must live, also the command, and with
 * not a page free. */
#include "machine_setup.h"

#include <fcntl.h>

#define ROOM_BYTES (32 * MACHINE_MIB)
#define READY_AT 88 /* rows_ready and lanes_ready in the header, 4 bytes each: ARCHITECTURE.md */

/* Whatever a call answers is good, as long as it answers. */
static void any(int64_t result)
{
    assert_true(result >= 0 || *cove_last_error() != '\0');
}

static void look_at(cove_segment *segment)
{
    struct cove_segment_info info;
    struct cove_member_info members[8];
    struct cove_object_info objects[8];
    any(cove_segment_stat(segment, &info));
    any(cove_segment_members(segment, members, 8));
    any(cove_objects(segment, objects, 8));
    any(cove_segment_check(segment, NULL, NULL));
}

/* All ways of looking, and then of taking part. Results are the callers' to ask for: here it only has to live. */
static void look_in_all_ways(void *argument)
{
    const char *name = argument;
    struct cove_segment_info info;
    cove_segment *segment = NULL;
    any(cove_stat(name, &info));
    if (cove_open(&segment, name, &(struct cove_options){.flags = COVE_READONLY}) == 0) {
        look_at(segment);
        unit_close(segment);
    }
    any(cove_gc(1, NULL, NULL));
    any(cove_gc(0, NULL, NULL));
    segment = NULL;
    if (cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXISTING}) >= 0) {
        look_at(segment);
        (void)cove_alloc(segment, 100);
        void *object = NULL;
        any(cove_object_open(&object, segment, "o", &(struct cove_type){.name = "unit", .size_bytes = 8}, 0));
        any(cove_recover(segment));
        (void)cove_close(segment);
    }
}

static void expect_to_live(const char *name)
{
    int status = testing_wait(testing_spawn(look_in_all_ways, (void *)(uintptr_t)name));
    if (status != 0)
        fail_msg("looking at %s: status %#x", name, (unsigned)status);
}

static void commands_live(const char *name)
{
    static const char *const verbs[] = {"ls", "stat", "doctor", "gc --dry-run"};
    static char output[65536];
    if (!machine_has_command())
        return;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        char line[128];
        (void)snprintf(line, sizeof line, "%s%s%s", verbs[i], i == 1 || i == 2 ? " " : "",
                       i == 1 || i == 2 ? name : "");
        output[0] = '\0';
        int status = machine_command(line, output, sizeof output);
        if (status > 2 || (i < 3 && !strstr(output, name)))
            fail_msg("cove %s: exit status %d: %s", line, status, output);
    }
}

/* ---- the holes that every segment has */

static void test_holes_of_a_good_segment(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(ROOM_BYTES, "");
    static char output[65536];
    cove_segment *segment = unit_open("good");
    machine_leave_pages(0);
    if (machine_has_command())
        assert_int_equal(machine_command("stat good", output, sizeof output), 0);
    commands_live("good");
    expect_to_live("good");
    cove_segment *look = unit_open_as("good", &(struct cove_options){.flags = COVE_READONLY});
    unit_sound(look);
    assert_int_equal(unit_stat(look).members_alive, 1);
    unit_close(look);
    machine_expect_pages(0);
    machine_make_room();
    unit_sound(segment);
    unit_close(segment);
    unit_remove("good");
    machine_unmount();
}

/* ---- files with other holes */

static unsigned char image[4096 * 16];

/* A file with the first `whole_bytes` of a good segment, and its size; everything else is a hole. */
static void make_sparse(const char *name, size_t whole_bytes, bool all_ready)
{
    unit_close(unit_open_as("model", &(struct cove_options){.max_members = 64}));
    int from = open(unit_path("model"), O_RDONLY | O_CLOEXEC);
    int to = open(unit_path(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat info;
    assert_true(from >= 0 && to >= 0 && whole_bytes <= sizeof image);
    assert_int_equal(fstat(from, &info), 0);
    assert_int_equal(pread(from, image, whole_bytes, 0), whole_bytes);
    assert_int_equal(pwrite(to, image, whole_bytes, 0), whole_bytes);
    assert_int_equal(ftruncate(to, info.st_size), 0);
    const uint32_t ready[2] = {64, 256};
    if (all_ready)
        assert_int_equal(pwrite(to, ready, sizeof ready, READY_AT), sizeof ready);
    (void)close(from);
    (void)close(to);
    unit_remove("model");
}

static void test_holes_of_a_sparse_copy(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(ROOM_BYTES, "");
    for (size_t pages = 1; pages <= 6; pages++)
        for (int ready = 0; ready < 2; ready++) {
            make_sparse("sparse", pages * MACHINE_PAGE, ready != 0);
            machine_leave_pages(0);
            expect_to_live("sparse");
            commands_live("sparse");
            machine_make_room();
            unit_remove("sparse");
        }
    machine_unmount();
}

static void test_holes_that_claim_to_be_ready(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(ROOM_BYTES, "");
    cove_segment *segment = unit_open_as("claims", &(struct cove_options){.max_members = 64});
    int file = open(unit_path("claims"), O_RDWR | O_CLOEXEC);
    const uint32_t ready[2] = {64, 256};
    assert_int_equal(pwrite(file, ready, sizeof ready, READY_AT), sizeof ready);
    (void)close(file);
    machine_leave_pages(0);
    commands_live("claims");
    expect_to_live("claims");
    machine_make_room();
    (void)cove_close(segment);
    unit_remove("claims");
    machine_unmount();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_holes_of_a_good_segment, 20),
    TEST_TIMEOUT(test_holes_of_a_sparse_copy, 30),
    TEST_TIMEOUT(test_holes_that_claim_to_be_ready, 20),
};

int main(void)
{
    return testing_run("machine_holes", tests);
}
