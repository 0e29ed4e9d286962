/* test_trap_sysv.c - traps of System V shared memory: keys that mean less than they seem to, and books of numbers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Objects of System V live until somebody removes them. So each test works in a set of its own, which goes with it,
 * where that is allowed; elsewhere with keys that hold its process number, and removes what it made. */
#include "traps.h"

#include <grp.h>
#include <sys/ipc.h>
#include <sys/shm.h>

static key_t own_key(void)
{
    return (key_t)(0x5f000000 | getpid());
}

static const char *own_name(void)
{
    static char name[32];
    (void)snprintf(name, sizeof name, "sysv:0x%x", (unsigned)own_key());
    return name;
}

static char *attach(int id, int flags)
{
    char *data = shmat(id, NULL, flags);
    assert_true(data != (void *)-1);
    return data;
}

static struct shmid_ds books(int id)
{
    struct shmid_ds info;
    assert_int_equal(shmctl(id, IPC_STAT, &info), 0);
    return info;
}

/* ---- row: ftok, shmget, shmat, shmdt, shmctl */

/* Trap: ftok takes an int for the id and keeps its lowest 8 bits. */
static void test_sysv_ftok_keeps_eight_bits(void **state)
{
    (void)state;
    trap_own_ipc();
    const char *path = trap_file("key", "", 0);
    assert_int_not_equal(ftok(path, 0x66), -1);
    assert_int_equal(ftok(path, 0x666), ftok(path, 0x66));

    char name[1200];
    cove_region *region = NULL;
    struct cove_region_options options = {.size_bytes = 10};
    (void)snprintf(name, sizeof name, "sysv:%s:0x666", path);
    EXPECT_SAYS(COVE_ENAME, cove_region_open(&region, name, &options), "255");
    (void)snprintf(name, sizeof name, "sysv:%s:0x66", path);
    EXPECT(COVE_CREATED, cove_region_open(&region, name, &options));
    assert_true(shmget(ftok(path, 0x66), 0, 0) >= 0); /* and that one is what others' ftok means */
    trap_close(region);
    EXPECT(0, cove_region_unlink(name, 0));
    assert_int_equal(unlink(path), 0);
}

static void enter(const char *name)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", testing_dir(), name);
    assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
    assert_int_equal(chdir(path), 0);
}

/* Trap: ftok("./", 1) is another key in each directory: client and server, started in two, never meet. */
static void test_sysv_key_of_a_relative_path_is_refused(void **state)
{
    (void)state;
    trap_own_ipc();
    enter("server");
    key_t server = ftok("./", 1);
    enter("client");
    assert_int_not_equal(ftok("./", 1), server);

    cove_region *region = NULL;
    EXPECT_SAYS(COVE_ENAME, cove_region_open(&region, "sysv:./:1", &(struct cove_region_options){.size_bytes = 10}),
                "/");
    char path[1024];
    assert_int_equal(chdir("/"), 0);
    (void)snprintf(path, sizeof path, "%s/server", testing_dir());
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof path, "%s/client", testing_dir());
    assert_int_equal(rmdir(path), 0);
}

/* Trap: shmget with a larger size than there is says EINVAL, as it does of other things; with a smaller one,
 * nothing. */
static void test_sysv_size_that_is_not_there_is_told(void **state)
{
    (void)state;
    trap_own_ipc();
    int id = shmget(own_key(), 100, IPC_CREAT | IPC_EXCL | 0600);
    assert_true(id >= 0);
    assert_int_equal(shmget(own_key(), 101, IPC_CREAT | 0600), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(shmget(own_key(), 10, IPC_CREAT | 0600), id);

    cove_region *region = NULL;
    EXPECT_SAYS(-EMSGSIZE, cove_region_open(&region, own_name(), &(struct cove_region_options){.size_bytes = 101}),
                "100 bytes");
    EXPECT(0, cove_region_open(&region, own_name(), &(struct cove_region_options){.size_bytes = 10}));
    assert_int_equal(cove_region_size(region), 100); /* and how much there is, is known */
    trap_close(region);
    EXPECT(0, cove_region_unlink(own_name(), 0));
}

/* Trap: 0666, from the textbook: everybody on the machine reads and writes. 0 in its place: not even its maker
 * may. */
static void test_sysv_rights_are_ones_own_unless_asked(void **state)
{
    (void)state;
    trap_own_ipc();
    int id = shmget(own_key(), 100, IPC_CREAT | IPC_EXCL | 0666);
    assert_int_equal(books(id).shm_perm.mode & 0777, 0666);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
    id = shmget(own_key(), 100, IPC_CREAT | IPC_EXCL);
    struct shmid_ds info;
    assert_true(shmctl(id, IPC_STAT, &info) == 0 ? (info.shm_perm.mode & 0777) == 0 : errno == EACCES);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);

    trap_close(trap_create(own_name(), 100));
    assert_int_equal(trap_look(own_name()).mode, 0600);
    EXPECT(0, cove_region_unlink(own_name(), 0));
}

/* Trap: after IPC_RMID the memory stays while anybody has it, and its key is gone: the next shmget makes a second
 * one, and the first can no longer be reached, nor seen but by its number. */
static void test_sysv_removed_is_unreachable(void **state)
{
    (void)state;
    trap_own_ipc();
    int id = shmget(own_key(), 100, IPC_CREAT | IPC_EXCL | 0600);
    char *data = attach(id, 0);
    strcpy(data, "old");
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
    int again = shmget(own_key(), 100, IPC_CREAT | 0600);
    assert_int_not_equal(again, id);
    assert_int_equal(books(id).shm_perm.__key, IPC_PRIVATE);
    char *other = attach(again, 0);
    assert_string_equal(other, ""); /* two programs, one key, two memories */
    assert_int_equal(shmdt(other) + shmdt(data), 0);
    assert_int_equal(shmctl(again, IPC_RMID, NULL), 0);

    cove_segment *segment = unit_open(own_name());
    EXPECT_SAYS(-EBUSY, cove_unlink(own_name(), 0), "in use"); /* while anybody has it */
    unit_close(segment);
    EXPECT(0, cove_unlink(own_name(), 0));
    assert_int_equal(shmget(own_key(), 0, 0), -1);
}

static void make_private_and_be_killed(void *argument)
{
    *(int *)argument = shmget(IPC_PRIVATE, 100, IPC_CREAT | 0600);
    (void)attach(*(int *)argument, 0);
    (void)raise(SIGKILL);
}

static void make_nameless_and_be_killed(void *argument)
{
    struct stat info;
    cove_region *region = trap_create("memfd:", 1000000);
    int fd = cove_region_fd(region);
    assert_int_equal(fstat(fd, &info), 0);
    *(ino_t *)argument = info.st_ino;
    (void)raise(SIGKILL);
}

/* Trap: IPC_PRIVATE sounds as if it went with its program. It has no name, and stays. */
static void test_sysv_private_leaks_for_good(void **state)
{
    (void)state;
    trap_own_ipc();
    int *id = testing_shared(sizeof *id);
    EXPECT_DEATH(SIGKILL, make_private_and_be_killed, id);
    UNTIL(books(*id).shm_nattch == 0, 5000);
    assert_int_equal(books(*id).shm_segsz, 100); /* nobody has it, and it is there */
    assert_int_equal(shmctl(*id, IPC_RMID, NULL), 0);

    ino_t *inode = testing_shared(sizeof *inode);
    EXPECT_DEATH(SIGKILL, make_nameless_and_be_killed, inode);
    assert_int_not_equal(*inode, 0); /* it was there; its only descriptors and mappings went with the process */
}

/* Trap: whose memory a key stands for is luck: a number that was made of a file's inode is somebody else's too. */
static void test_sysv_clash_with_foreign_memory_is_told(void **state)
{
    (void)state;
    trap_own_ipc();
    int id = shmget(own_key(), 100000, IPC_CREAT | IPC_EXCL | 0600); /* a stranger's */
    char *data = attach(id, 0);
    memset(data, 0x77, 100000);
    int ours = shmget(own_key(), 100000, IPC_CREAT | 0600);
    assert_int_equal(ours, id); /* no word */

    cove_segment *segment = NULL;
    cove_region *region = NULL;
    EXPECT_SAYS(COVE_ENOTCOVE, cove_open(&segment, own_name(), NULL), own_name());
    EXPECT_SAYS(-EEXIST,
                cove_region_open(&region, own_name(),
                                 &(struct cove_region_options){.flags = COVE_EXCLUSIVE, .size_bytes = 100}),
                own_name());
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(data[i], 0x77); /* and not a byte of theirs was changed */
    assert_int_equal(shmdt(data), 0);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);
}

/* ---- row: shmid_ds, ipc_perm */

static void visit(void *argument)
{
    trap_close(trap_open_as(argument, NULL));
}

/* The kernel's books are all there, and a look at them leaves no trace in them. */
static void test_sysv_books_are_told(void **state)
{
    (void)state;
    trap_own_ipc();
    cove_region *region = trap_create(own_name(), 5000);
    pid_t visitor = testing_spawn(visit, (void *)(uintptr_t)own_name());
    testing_join(visitor);
    int id = shmget(own_key(), 0, 0);
    struct shmid_ds kernel = books(id);
    struct cove_region_info info = trap_look(own_name());
    assert_string_equal(info.backend, "sysv");
    assert_int_equal(info.size_bytes, 5000);
    assert_int_equal(info.system_id, id);
    assert_int_equal(info.creator_pid, getpid());
    assert_int_equal(info.last_pid, visitor);
    assert_int_equal(info.attached_count, 1);
    assert_int_equal(info.owner_uid, geteuid());
    assert_int_equal(info.creator_uid, geteuid());
    assert_int_equal(info.creator_gid, getegid());
    assert_int_equal(info.attached_ns / UNIT_S, kernel.shm_atime);
    assert_int_equal(info.detached_ns / UNIT_S, kernel.shm_dtime);
    assert_int_equal(info.changed_ns / UNIT_S, kernel.shm_ctime);
    assert_int_equal(memcmp(&kernel, &(struct shmid_ds[]){books(id)}[0], sizeof kernel), 0);
    trap_close(region);
    EXPECT(0, cove_region_unlink(own_name(), 0));
}

/* Trap: nattch counts attachments, not programs; and who they are, nobody knows. */
static void test_sysv_attachments_are_no_processes(void **state)
{
    (void)state;
    trap_own_ipc();
    int id = shmget(own_key(), 100, IPC_CREAT | IPC_EXCL | 0600);
    char *once = attach(id, 0), *twice = attach(id, SHM_RDONLY);
    assert_int_equal(books(id).shm_nattch, 2);
    assert_int_equal(shmdt(once) + shmdt(twice), 0);
    assert_int_equal(shmctl(id, IPC_RMID, NULL), 0);

    cove_segment *segment = unit_open(own_name()), *again = unit_open(own_name());
    struct cove_member_info members[4];
    EXPECT(1, cove_segment_members(segment, members, 4));
    assert_int_equal(members[0].pid, getpid());
    assert_int_equal(members[0].alive, 1);
    assert_non_null(strstr("test_trap_sysv", members[0].command));
    assert_true(members[0].command[0] != '\0');
    unit_close(again);
    unit_close(segment);
    EXPECT(0, cove_unlink(own_name(), 0));
}

/* Rights can be changed later, without whoever has it mapped noticing. */
static void test_sysv_rights_change_later(void **state)
{
    (void)state;
    trap_own_ipc();
    cove_region *region = trap_create(own_name(), 100);
    trap_write(cove_region_data(region), 'x');
    const struct group *group = getgrgid(getegid());
    EXPECT(0, cove_region_set_rights(own_name(), 0640, group ? group->gr_name : NULL));
    int id = shmget(own_key(), 0, 0);
    assert_int_equal(books(id).shm_perm.mode & 0777, 0640);
    assert_int_equal(trap_look(own_name()).mode, 0640);
    assert_int_equal(trap_read(cove_region_data(region)), 'x');
    trap_close(region);
    EXPECT(0, cove_region_unlink(own_name(), 0));
    EXPECT_SAYS(-ENOENT, cove_region_set_rights(own_name(), 0600, NULL), own_name());
}

static const struct testing_case tests[] = {
    TEST(test_sysv_ftok_keeps_eight_bits),
    TEST(test_sysv_key_of_a_relative_path_is_refused),
    TEST(test_sysv_size_that_is_not_there_is_told),
    TEST(test_sysv_rights_are_ones_own_unless_asked),
    TEST(test_sysv_removed_is_unreachable),
    TEST(test_sysv_private_leaks_for_good),
    TEST(test_sysv_clash_with_foreign_memory_is_told),
    TEST(test_sysv_books_are_told),
    TEST(test_sysv_attachments_are_no_processes),
    TEST(test_sysv_rights_change_later),
};

int main(void)
{
    return testing_run("trap_sysv", tests);
}
