/* test_sysv.c - System V segments and what lies beside them: states of the side file, hands that remove things.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "unit.h"

#include <cove/region.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/shm.h>

/* The record of the side file, as src/region/sysv.c has it. */
enum { NONE = 0, BUILDING = 1, READY = 2 };
struct record {
    uint32_t phase;
    int32_t pid, id;
    uint32_t reserved;
    char name[1024];
};

#define SIZE UINT64_C(65536)

/* A key that is this program's alone, as long as it lives. */
static uint32_t own_key;

static key_t system_key(void)
{
    uint32_t bits = own_key;
    key_t key;
    memcpy(&key, &bits, sizeof key);
    return key;
}

static const char *the_name(void)
{
    static char name[32];
    (void)snprintf(name, sizeof name, "sysv:0x%x", own_key);
    return name;
}

static const char *side_path(void)
{
    static char path[1100];
    (void)snprintf(path, sizeof path, "%s/.cove-sysv-%08x", testing_dir(), own_key);
    return path;
}

static bool has_side(void)
{
    return access(side_path(), F_OK) == 0;
}

static void need_system_v(void)
{
    int id = shmget(system_key(), 4096, IPC_CREAT | IPC_EXCL | 0600);
    if (id < 0)
        testing_skip("no System V shared memory can be had here");
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
}

static int foreign_memory(void)
{
    int id = shmget(system_key(), SIZE, IPC_CREAT | IPC_EXCL | 0600);
    assert_true(id >= 0);
    return id;
}

static int the_id(void)
{
    return shmget(system_key(), 0, 0);
}

static void remove_memory(int id)
{
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
}

static void put_record(uint32_t phase, int32_t pid, int32_t id, const char *name)
{
    struct record record = {.phase = phase, .pid = pid, .id = id};
    (void)snprintf(record.name, sizeof record.name, "%s", name);
    int file = open(side_path(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, &record, sizeof record, 0), sizeof record);
    assert_int_equal(close(file), 0);
}

static struct record get_record(void)
{
    struct record record = {.phase = 99};
    int file = open(side_path(), O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pread(file, &record, sizeof record, 0), sizeof record);
    assert_int_equal(close(file), 0);
    return record;
}

static cove_segment *open_it(int expected)
{
    cove_segment *segment = NULL;
    EXPECT(expected, cove_open(&segment, the_name(), &(struct cove_options){.size_bytes = 65536, .max_members = 8}));
    return segment;
}

static void use_and_remove(cove_segment *segment)
{
    uint64_t *number = unit_object(segment, "number", 8);
    *number = 5;
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(the_name(), 0));
    assert_false(has_side());
    assert_true(the_id() < 0);
}

/* ---- the record, state by state */

static void test_sysv_record_says_what_leads_where(void **state)
{
    (void)state;
    need_system_v();
    cove_segment *segment = open_it(COVE_CREATED);
    struct record record = get_record();
    assert_int_equal(record.phase, READY);
    assert_int_equal(record.pid, getpid());
    assert_int_equal(record.id, the_id());
    assert_string_equal(record.name, the_name());
    use_and_remove(segment);
}

/* Nothing is known of the key: it is free, or somebody else's. */
static void test_sysv_record_of_nothing_leaves_the_key_to_whoever_has_it(void **state)
{
    (void)state;
    need_system_v();
    static const struct {
        bool is_there;
        uint32_t phase;
        int32_t id;
    } rows[] = {{false, 0, 0}, {true, NONE, 0}, {true, READY, -1}, {true, READY, 123456789}, {true, 77, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cove_segment *segment = NULL;
        if (rows[i].is_there)
            put_record(rows[i].phase, getpid(), rows[i].id, "");
        int id = foreign_memory();
        EXPECT_SAYS(COVE_ENOTCOVE, cove_open(&segment, the_name(), NULL), "no Cove segment");
        EXPECT(COVE_ENOTCOVE, cove_unlink(the_name(), 0));
        assert_int_equal(the_id(), id); /* left alone */
        remove_memory(id);
        EXPECT(-ENOENT, cove_open(&segment, the_name(), &(struct cove_options){.flags = COVE_EXISTING}));
        use_and_remove(open_it(COVE_CREATED)); /* what lay there is put to use */
    }
}

static void test_sysv_record_that_is_short_or_garbage_is_no_segment(void **state)
{
    (void)state;
    need_system_v();
    static const size_t sizes[] = {0, 1, 4, 15, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char bytes[100];
        memset(bytes, 0xff, sizeof bytes);
        int file = open(side_path(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
        assert_int_equal(write(file, bytes, sizes[i]), sizes[i]);
        assert_int_equal(close(file), 0);
        use_and_remove(open_it(COVE_CREATED));
    }
}

static void makes_memory_and_dies(void *with_memory)
{
    put_record(BUILDING, getpid(), -1, the_name());
    if (with_memory)
        (void)foreign_memory();
    (void)raise(SIGKILL);
}

/* Its builder died over it: what he made goes, and nothing else. */
static void test_sysv_record_of_a_dead_builder_is_cleared(void **state)
{
    (void)state;
    need_system_v();
    for (int with_memory = 0; with_memory < 2; with_memory++)
        for (int looking = 0; looking < 2; looking++) {
            struct cove_segment_info info;
            pid_t pid = testing_spawn(makes_memory_and_dies, with_memory ? &info : NULL);
            assert_int_equal(WTERMSIG(testing_wait(pid)), SIGKILL);
            if (looking) { /* who only looks changes nothing */
                EXPECT(with_memory ? COVE_ENOTCOVE : -ENOENT, cove_stat(the_name(), &info));
                assert_int_equal(the_id() >= 0, with_memory);
            }
            use_and_remove(open_it(COVE_CREATED));
        }
}

static void test_sysv_record_of_a_dead_builder_is_cleared_by_gc(void **state)
{
    (void)state;
    need_system_v();
    int here = 0;
    assert_int_equal(WTERMSIG(testing_wait(testing_spawn(makes_memory_and_dies, &here))), SIGKILL);
    EXPECT(1, cove_gc(1, NULL, NULL)); /* would be */
    assert_true(has_side() && the_id() >= 0);
    EXPECT(1, cove_gc(0, NULL, NULL));
    assert_true(!has_side() && the_id() < 0);
    EXPECT(0, cove_gc(0, NULL, NULL));
}

/* Somebody else took the key while he died: that is not the builder's to lose. */
static void test_sysv_record_of_a_dead_builder_spares_others_memory(void **state)
{
    (void)state;
    need_system_v();
    cove_segment *segment = NULL;
    assert_int_equal(WTERMSIG(testing_wait(testing_spawn(makes_memory_and_dies, NULL))), SIGKILL);
    int id = foreign_memory(); /* made by another pid than the record's */
    EXPECT(COVE_ENOTCOVE, cove_open(&segment, the_name(), NULL));
    assert_int_equal(the_id(), id);
    (void)cove_gc(0, NULL, NULL);
    assert_int_equal(the_id(), id);
    remove_memory(id);
    use_and_remove(open_it(COVE_CREATED));
}

static void builds_for_long(void *unused)
{
    (void)unused;
    put_record(BUILDING, getpid(), -1, the_name());
    int file = open(side_path(), O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)1 << 40, .l_len = 1};
    assert_int_equal(fcntl(file, F_OFD_SETLK, &lock), 0);
    testing_reach(0);
    unit_wait_for_death();
}

/* One who lives is waited for, and named as what he is when he does not get on; his death is his end. */
static void test_sysv_builder_that_lives_is_waited_for(void **state)
{
    (void)state;
    need_system_v();
    cove_segment *segment = NULL;
    pid_t pid = testing_spawn(builds_for_long, NULL);
    testing_await(0);
    int64_t before = unit_now();
    EXPECT_SAYS(-ETIMEDOUT, cove_open(&segment, the_name(), &(struct cove_options){.timeout_ns = 50 * UNIT_MS}),
                "does not get on");
    assert_true(unit_now() - before < 4 * UNIT_S); /* for as long as was asked */
    testing_kill(pid);
    use_and_remove(open_it(COVE_CREATED));
}

/* ---- clashes */

/* Two paths of one key, as ftok keeps 16 bits of an inode: by hand, since such files are hard to find. */
static void test_sysv_clash_of_two_paths_is_told(void **state)
{
    (void)state;
    need_system_v();
    char path[1100], link_path[1100], name[1200], alias[1200], forged[1200];
    struct stat about;
    cove_segment *segment = NULL;
    (void)snprintf(path, sizeof path, "%s/one", testing_dir());
    (void)snprintf(link_path, sizeof link_path, "%s/alias", testing_dir());
    int file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(fstat(file, &about), 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(link(path, link_path), 0);
    (void)snprintf(name, sizeof name, "sysv:%s:7", path);
    (void)snprintf(alias, sizeof alias, "sysv:%s:7", link_path);
    (void)snprintf(forged, sizeof forged, "sysv:/no/such/path:7");
    struct cove_options small = {.size_bytes = 65536, .max_members = 8};
    EXPECT(COVE_CREATED, cove_open(&segment, name, &small));
    unit_close(segment);
    EXPECT(0, cove_open(&segment, alias, &small)); /* two names of one file are one key by right */
    unit_close(segment);
    uint32_t key = UINT32_C(7) << 24 | (uint32_t)(about.st_dev & 0xff) << 16 | (uint32_t)(about.st_ino & 0xffff);
    char by_key[32], side[1100];
    (void)snprintf(by_key, sizeof by_key, "sysv:0x%x", key);
    EXPECT(0, cove_open(&segment, by_key, &small)); /* and who says the key means the key */
    unit_close(segment);
    (void)snprintf(side, sizeof side, "%s/.cove-sysv-%08x", testing_dir(), key);
    file = open(side, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(file, forged, sizeof forged, offsetof(struct record, name)), sizeof forged);
    assert_int_equal(close(file), 0);
    EXPECT_SAYS(-EEXIST, cove_open(&segment, name, &small), "/no/such/path");
    EXPECT_SAYS(-EEXIST, cove_open(&segment, name, &small), "use another id");
    EXPECT(0, cove_open(&segment, by_key, &small));
    unit_close(segment);
    EXPECT(0, cove_unlink(by_key, 0));
    assert_int_equal(unlink(path) | unlink(link_path), 0);
}

/* ---- rights */

static void test_sysv_rights_changed_later_are_those_of_both(void **state)
{
    (void)state;
    need_system_v();
    struct stat side;
    struct shmid_ds books;
    struct cove_segment_info info;
    cove_segment *segment = open_it(COVE_CREATED);
    static const uint32_t modes[] = {0660, 0644, 0600};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        EXPECT(0, cove_region_set_rights(the_name(), modes[i], NULL));
        assert_int_equal(stat(side_path(), &side), 0);
        assert_int_equal(shmctl(the_id(), IPC_STAT, &books), 0);
        assert_int_equal(side.st_mode & 07777, modes[i]);
        assert_int_equal(books.shm_perm.mode & 0777, modes[i]);
        EXPECT(0, cove_segment_stat(segment, &info));
        assert_int_equal(info.mode, modes[i]);
    }
    use_and_remove(segment);
}

/* ---- hands that remove */

static void stays_a_member(void *unused)
{
    (void)unused;
    cove_segment *segment = open_it(0);
    uint64_t *number = unit_object(segment, "number", 8);
    testing_reach(0);
    testing_await(1);
    assert_int_equal(*number, 7);
    EXPECT_GOOD(cove_alloc(segment, 100) != 0); /* they keep what they have */
    unit_sound(segment);
    struct cove_member_info members[4];
    EXPECT(2, cove_segment_members(segment, members, 4));
    testing_reach(2);
    testing_await(3);
    unit_close(segment);
}

/* ipcrm under members: the key is free, and a new segment may have it, beside the old one. */
static void test_sysv_memory_removed_by_hand_stays_its_members(void **state)
{
    (void)state;
    need_system_v();
    cove_segment *old = open_it(COVE_CREATED);
    *(uint64_t *)unit_object(old, "number", 8) = 7;
    pid_t other = testing_spawn(stays_a_member, NULL);
    testing_await(0);
    remove_memory(the_id());
    cove_segment *segment = NULL;
    EXPECT(-ENOENT, cove_open(&segment, the_name(), &(struct cove_options){.flags = COVE_EXISTING}));
    segment = open_it(COVE_CREATED);
    assert_ptr_not_equal(segment, old);
    struct cove_member_info members[8];
    *(uint64_t *)unit_object(segment, "number", 8) = 8;
    EXPECT(1, cove_segment_members(segment, members, 8)); /* those of the old one are not its own */
    testing_reach(1);
    testing_await(2);
    assert_int_equal(*(uint64_t *)unit_object(old, "number", 8), 7);
    assert_int_equal(*(uint64_t *)unit_object(segment, "number", 8), 8);
    testing_reach(3);
    testing_join(other);
    unit_close(old);
    assert_true(the_id() >= 0); /* closing the old one took nothing from the new one */
    use_and_remove(segment);
}

/* rm of the side file under members: those who come cannot see their locks, so they are refused. */
static void test_sysv_side_file_removed_by_hand_shuts_the_door(void **state)
{
    (void)state;
    need_system_v();
    cove_segment *old = open_it(COVE_CREATED), *segment = NULL;
    *(uint64_t *)unit_object(old, "number", 8) = 7;
    pid_t other = testing_spawn(stays_a_member, NULL);
    testing_await(0);
    int id = the_id();
    assert_int_equal(unlink(side_path()), 0);
    EXPECT(COVE_ENOTCOVE, cove_open(&segment, the_name(), NULL));
    EXPECT(COVE_ENOTCOVE, cove_unlink(the_name(), 0));
    testing_reach(1);
    testing_await(2); /* those who are in it go on */
    testing_reach(3);
    testing_join(other);
    unit_close(old);
    assert_int_equal(the_id(), id);
    EXPECT(0, cove_region_unlink(the_name(), 0)); /* it is mere memory now */
    assert_true(the_id() < 0);
    assert_false(has_side());
}

/* A side file without its memory is nothing, and debris. */
static void test_sysv_side_file_without_memory_is_debris(void **state)
{
    (void)state;
    need_system_v();
    struct cove_segment_info info;
    unit_close(open_it(COVE_CREATED));
    remove_memory(the_id());
    assert_true(has_side());
    EXPECT(-ENOENT, cove_stat(the_name(), &info));
    EXPECT(-ENOENT, cove_unlink(the_name(), 0));
    EXPECT(1, cove_gc(0, NULL, NULL));
    assert_false(has_side());
}

static const struct testing_case tests[] = {
    TEST(test_sysv_record_says_what_leads_where),
    TEST(test_sysv_record_of_nothing_leaves_the_key_to_whoever_has_it),
    TEST(test_sysv_record_that_is_short_or_garbage_is_no_segment),
    TEST(test_sysv_record_of_a_dead_builder_is_cleared),
    TEST(test_sysv_record_of_a_dead_builder_is_cleared_by_gc),
    TEST(test_sysv_record_of_a_dead_builder_spares_others_memory),
    TEST_TIMEOUT(test_sysv_builder_that_lives_is_waited_for, 20),
    TEST(test_sysv_clash_of_two_paths_is_told),
    TEST(test_sysv_rights_changed_later_are_those_of_both),
    TEST(test_sysv_memory_removed_by_hand_stays_its_members),
    TEST(test_sysv_side_file_removed_by_hand_shuts_the_door),
    TEST(test_sysv_side_file_without_memory_is_debris),
};

int main(void)
{
    own_key = UINT32_C(0xd0000000) | (uint32_t)getpid() << 4;
    int result = testing_run("sysv", tests);
    if (the_id() >= 0) /* of a test that failed */
        (void)shmctl(the_id(), IPC_RMID, NULL);
    return result;
}
