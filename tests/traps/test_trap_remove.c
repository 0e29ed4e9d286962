/* test_trap_remove.c - traps of names that stay, of names that lead elsewhere, and of looking at and removing what is
 * there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "traps.h"

#include <mqueue.h>
#include <sys/shm.h>

#define TABLE_BYTES ((size_t)1 << 20)

/* ---- row: shm_unlink */

static void make_and_be_killed(void *argument)
{
    (void)trap_map(trap_shm_make(argument, 100), 100);
    (void)raise(SIGKILL); /* the shm_unlink at the program's end does not come */
}

static void open_and_be_killed(void *argument)
{
    cove_segment *segment = unit_open_as("session", argument);
    cove_ref ref = cove_alloc(segment, 100000);
    assert_true(ref != 0);
    (void)raise(SIGKILL);
}

static void find_it_taken(void *argument)
{
    cove_segment *segment = NULL;
    EXPECT_SAYS(-EEXIST, cove_open(&segment, "session", argument), "session");
}

/* Trap: a program that is killed leaves its name, and with O_EXCL does not start again: "may need to reboot". */
static void test_remove_forgotten_name_blocks_next_start(void **state)
{
    (void)state;
    const char *name = trap_shm_name("forgotten");
    EXPECT_DEATH(SIGKILL, make_and_be_killed, (void *)(uintptr_t)name);
    assert_int_equal(shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(shm_unlink(name), 0);

    struct cove_options options = {.lifetime = COVE_LAST_OUT};
    EXPECT_DEATH(SIGKILL, open_and_be_killed, &options);
    cove_segment *segment = NULL;
    options.flags = COVE_EXCLUSIVE;
    EXPECT(COVE_CREATED, cove_open(&segment, "session", &options)); /* nothing of the dead one's is in it */
    assert_int_equal(unit_stat(segment).heap_block_count, 0);
    cove_segment *second = NULL;
    EXPECT_SAYS(-EEXIST, cove_open(&second, "session", &options), "session"); /* while anybody lives in it */
    testing_join(testing_spawn(find_it_taken, &options));
    unit_close(segment);
    assert_false(unit_exists("session")); /* and with the last it went */
}

static int64_t removed_count(void)
{
    return EXPECT_GOOD(cove_gc(0, NULL, NULL));
}

/* Cove: what a killed program leaves for good is what it was asked to keep, whole. The rest goes by gc. */
static void test_remove_gc_takes_what_nobody_wants(void **state)
{
    (void)state;
    EXPECT_DEATH(SIGKILL, open_and_be_killed, (&(struct cove_options){.lifetime = COVE_LAST_OUT}));
    assert_true(unit_exists("session"));
    assert_true(removed_count() > 0);
    assert_false(unit_exists("session"));
    EXPECT_DEATH(SIGKILL, open_and_be_killed, (&(struct cove_options){.lifetime = COVE_KEEP}));
    (void)removed_count();
    assert_true(unit_exists("session"));
    cove_segment *segment = unit_open_as("session", &(struct cove_options){.flags = COVE_EXISTING});
    assert_int_equal(unit_stat(segment).heap_block_count, 0); /* its dead member's block came back */
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink("session", 0)); /* without force: nobody is in it */
}

static void be_member(void *argument)
{
    cove_segment *segment = unit_open(argument);
    assert_string_equal(unit_stat(segment).state, "ready");
    testing_reach(0);
    testing_await(1);
    assert_string_equal(unit_stat(segment).state, "removed"); /* it can know */
    unit_close(segment);
}

/* Trap: the name is not the memory. Once somebody removed it and another made it anew, two pairs of programs talk
 * past each other under one name. */
static void test_remove_used_name_splits_its_users(void **state)
{
    (void)state;
    const char *name = trap_shm_name("split");
    int fd = trap_shm_make(name, 10);
    char *one = trap_map(fd, 10);
    assert_int_equal(shm_unlink(name), 0); /* nobody asks whether it is in use */
    int again = trap_shm_make(name, 10);
    char *other = trap_map(again, 10);
    trap_write(one, '1');
    assert_int_equal(trap_read(other), 0);
    assert_int_equal(munmap(one, 10) + munmap(other, 10), 0);
    assert_int_equal(close(fd) + close(again) + shm_unlink(name), 0);

    pid_t member = testing_spawn(be_member, (void *)(uintptr_t) "split");
    testing_await(0);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "pid %d", (int)member);
    EXPECT_SAYS(-EBUSY, cove_unlink("split", 0), pid); /* who is in it is said */
    EXPECT(0, cove_unlink("split", 1));
    testing_reach(1);
    testing_join(member);
    assert_false(unit_exists("split"));
}

/* ---- row: ipcs, ipcrm, /dev/shm, /dev/mqueue */

/* Trap: what lies in /dev/shm can be looked at with cat at any time, so also half way through a change. */
static void test_remove_cat_reads_half_of_a_change(void **state)
{
    (void)state;
    const char *name = trap_shm_name("half");
    int fd = trap_shm_make(name, 2 * TRAP_PAGE);
    char *writer = trap_map(fd, 2 * TRAP_PAGE), *seen = malloc(2 * TRAP_PAGE);
    assert_non_null(seen);
    memset(writer, 'a', 2 * TRAP_PAGE);
    memset(writer, 'b', TRAP_PAGE); /* half of the next version */
    assert_int_equal(pread(fd, seen, 2 * TRAP_PAGE, 0), 2 * TRAP_PAGE);
    assert_int_not_equal(seen[0], seen[2 * TRAP_PAGE - 1]);
    free(seen);
    assert_int_equal(munmap(writer, 2 * TRAP_PAGE), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);
}

static void replace_forever(void *argument)
{
    (void)argument;
    static char bytes[TABLE_BYTES];
    for (char version = 'a';; version = version == 'z' ? 'a' : (char)(version + 1)) {
        memset(bytes, version, sizeof bytes);
        EXPECT_GOOD(cove_region_replace("table", bytes, sizeof bytes, NULL));
        testing_reach(0);
    }
}

static char version_of(const cove_region *region)
{
    const char *bytes = cove_region_data(region);
    assert_int_equal(cove_region_size(region), TABLE_BYTES);
    for (size_t at = 0; at < TABLE_BYTES; at += 512)
        assert_int_equal(bytes[at], bytes[0]);
    return bytes[0];
}

/* Cove: replaced whole or not at all, also by a writer that is killed; who has the old version keeps it. */
static void test_remove_replaced_is_seen_whole(void **state)
{
    (void)state;
    unsigned versions = 0;
    char last = 0;
    for (unsigned round = 0; round < 10; round++) {
        pid_t writer = testing_spawn(replace_forever, NULL);
        testing_await_count(0, testing_reached(0) + 1);
        struct cove_region_options options = {.flags = COVE_READONLY};
        cove_region *kept = trap_open_as("table", &options);
        char before = version_of(kept);
        for (unsigned look = 0; look < 20; look++) {
            cove_region *region = trap_open_as("table", &options);
            char version = version_of(region);
            versions += version != last;
            last = version;
            trap_close(region);
            testing_await_count(0, testing_reached(0) + 1);
        }
        testing_kill(writer);
        assert_int_equal(version_of(kept), before);
        trap_close(kept);
    }
    assert_true(versions > 50); /* it did change under the looks */
    cove_region *region = trap_open_as("table", &(struct cove_region_options){.flags = COVE_READONLY});
    (void)version_of(region);
    trap_close(region);
    (void)removed_count();
    EXPECT(0, cove_region_unlink("table", 0)); /* the test fails where anything else is left in the directory */
}

/* Trap: ipcrm takes a number, asks nobody, and those who are in it are alone from then on. */
static void test_remove_by_number_asks_nobody(void **state)
{
    (void)state;
    trap_own_ipc();
    key_t key = (key_t)(0x5f000000 | getpid());
    int id = shmget(key, 100, IPC_CREAT | IPC_EXCL | 0600);
    char *data = shmat(id, NULL, 0);
    assert_true(data != (void *)-1);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0); /* ipcrm -m, of the wrong line of ipcs */
    assert_int_equal(shmget(key, 0, 0), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(shmdt(data), 0);

    char name[64], pid[32];
    (void)snprintf(name, sizeof name, "sysv:0x%x", (unsigned)key);
    pid_t member = testing_spawn(be_member, name);
    testing_await(0);
    (void)snprintf(pid, sizeof pid, "pid %d", (int)member);
    EXPECT_SAYS(-EBUSY, cove_unlink(name, 0), pid); /* by the name that it was made by */
    EXPECT(0, cove_unlink(name, 1));
    testing_reach(1);
    testing_join(member);
}

/* Trap: QSIZE in /dev/mqueue is how many bytes wait, and reads as how many messages. */
static void test_remove_qsize_is_bytes(void **state)
{
    (void)state;
    trap_own_mounts(CLONE_NEWIPC);
    char place[1024], path[1100], text[128];
    (void)snprintf(place, sizeof place, "%s/mqueue", testing_dir());
    assert_int_equal(mkdir(place, 0700), 0);
    if (mount("none", place, "mqueue", 0, NULL) != 0) {
        assert_int_equal(rmdir(place), 0);
        testing_skip("no message queues here");
    }
    mqd_t queue = mq_open("/trap", O_CREAT | O_EXCL | O_RDWR, 0600, NULL);
    assert_true(queue != (mqd_t)-1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(mq_send(queue, "hello", 5, 0), 0);
    struct mq_attr attributes;
    assert_int_equal(mq_getattr(queue, &attributes), 0);
    assert_int_equal(attributes.mq_curmsgs, 3);
    (void)snprintf(path, sizeof path, "%s/trap", place);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    assert_int_equal(strtol(strstr(text, "QSIZE:") + 6, NULL, 10), 15);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(mq_close(queue) + mq_unlink("/trap"), 0);
    assert_int_equal(umount(place) + rmdir(place), 0);

    cove_stream *stream = NULL; /* a figure that says what it counts */
    EXPECT(COVE_CREATED, cove_stream_open(&stream, "figures/trap", COVE_WRITER, NULL));
    for (int i = 0; i < 3; i++)
        assert_int_equal(cove_stream_write(stream, "hello", 5, COVE_FOREVER), 5);
    cove_segment *segment = unit_open("figures");
    struct cove_object_info info;
    EXPECT(1, cove_objects(segment, &info, 1));
    assert_non_null(strstr(info.figures, "unread=15"));
    EXPECT(0, cove_stream_close(stream));
    unit_close(segment);
    unit_remove("figures");
}

/* Cove looks at and removes by name what others made, too. */
static void test_remove_foreign_memory_by_name(void **state)
{
    (void)state;
    trap_meet_shm_open();
    const char *name = trap_shm_name("foreign");
    int fd = trap_shm_make(name, 100);
    assert_int_equal(fchmod(fd, 0640), 0);
    struct cove_region_info info = trap_look(trap_posix_name(name));
    assert_string_equal(info.backend, "posix");
    assert_int_equal(info.size_bytes, 100);
    assert_int_equal(info.mode, 0640);
    assert_int_equal(info.owner_uid, getuid());
    assert_int_equal(info.is_segment, 0);
    EXPECT(0, cove_region_unlink(trap_posix_name(name), 0));
    assert_int_equal(shm_unlink(name), -1);
    assert_int_equal(errno, ENOENT);
    EXPECT_SAYS(-ENOENT, cove_region_unlink(trap_posix_name(name), 0), name);
    assert_int_equal(close(fd), 0);
}

static const struct testing_case tests[] = {
    TEST(test_remove_forgotten_name_blocks_next_start),
    TEST(test_remove_gc_takes_what_nobody_wants),
    TEST(test_remove_used_name_splits_its_users),
    TEST(test_remove_cat_reads_half_of_a_change),
    TEST_TIMEOUT(test_remove_replaced_is_seen_whole, 20),
    TEST(test_remove_by_number_asks_nobody),
    TEST(test_remove_qsize_is_bytes),
    TEST(test_remove_foreign_memory_by_name),
};

int main(void)
{
    return testing_run("trap_remove", tests);
}
