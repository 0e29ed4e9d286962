/* test_os_shm.c - System V shared memory as os.h promises it: its books, its errors.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "unit.h"

#include "os/os.h"

#include <limits.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#define SIZE UINT64_C(5000) /* not a whole number of pages: the books keep it to the byte */

/* Keys that are this program's alone, as long as it lives. */
static uint32_t own_keys;

static uint32_t a_key(unsigned which)
{
    return own_keys | which;
}

static int make(unsigned which)
{
    int id = -1;
    int result = covei_os->shm_make(a_key(which), SIZE, 0640, &id);
    if (result == -ENOSYS || result == -EPERM || result == -ENOSPC)
        testing_skip("no System V shared memory can be had here");
    assert_int_equal(result, 0);
    return id;
}

static struct covei_shm_stat books(int id)
{
    struct covei_shm_stat stat;
    assert_int_equal(covei_os->shm_stat(id, &stat), 0);
    return stat;
}

static void test_shm_made_is_as_asked_whatever_the_umask(void **state)
{
    (void)state;
    mode_t before = umask(0777);
    int id = make(0), found = -1;
    (void)umask(before);
    struct covei_shm_stat stat = books(id);
    assert_int_equal(stat.id, id);
    assert_int_equal(stat.key, a_key(0));
    assert_int_equal(stat.size_bytes, SIZE);
    assert_int_equal(stat.mode, 0640);
    assert_int_equal(stat.uid, geteuid());
    assert_int_equal(stat.gid, getegid());
    assert_int_equal(stat.creator_uid, geteuid());
    assert_int_equal(stat.creator_gid, getegid());
    assert_int_equal(stat.creator_pid, getpid());
    assert_int_equal(stat.attached_count, 0);
    assert_int_equal(stat.attached_s, 0);
    assert_int_equal(stat.detached_s, 0);
    assert_false(stat.removed);
    assert_int_equal(covei_os->shm_find(a_key(0), &found), 0);
    assert_int_equal(found, id);
    assert_int_equal(covei_os->shm_make(a_key(0), SIZE, 0600, &found), -EEXIST);
    assert_int_equal(covei_os->shm_remove(id), 0);
    assert_int_equal(covei_os->shm_find(a_key(0), &found), -ENOENT);
    assert_int_equal(found, id); /* written on success only */
}

static void test_shm_mapped_is_counted_and_read_only_where_asked(void **state)
{
    (void)state;
    void *writable = NULL, *readable = NULL;
    int id = make(0);
    assert_int_equal(covei_os->shm_map(&writable, id, true), 0);
    assert_int_equal(covei_os->shm_map(&readable, id, false), 0);
    assert_int_equal(books(id).attached_count, 2);
    assert_int_equal(books(id).last_pid, getpid());
    assert_true(books(id).attached_s > 0);
    *(unsigned char *)writable = 7;
    assert_int_equal(*(unsigned char *)readable, 7);
    assert_int_equal(covei_os->map_protect(readable, 4096, COVEI_ACCESS_WRITE), -EACCES);
    assert_int_equal(covei_os->shm_unmap(writable), 0);
    assert_int_equal(covei_os->shm_unmap(writable), -EINVAL); /* nothing is there any more */
    assert_int_equal(books(id).attached_count, 1);
    assert_int_equal(covei_os->shm_remove(id), 0);
    assert_true(books(id).removed); /* goes with its last attachment */
    assert_int_equal(books(id).key, 0);
    assert_int_equal(*(unsigned char *)readable, 7);
    assert_int_equal(covei_os->shm_unmap(readable), 0);
    struct covei_shm_stat stat;
    int result = covei_os->shm_stat(id, &stat);
    assert_true(result == -EINVAL || result == -EIDRM);
}

static void test_shm_rights_change_and_nothing_else(void **state)
{
    (void)state;
    int id = make(0);
    uint32_t gid = getegid();
    assert_int_equal(covei_os->shm_set_rights(id, 0600, NULL), 0);
    assert_int_equal(books(id).mode, 0600);
    assert_int_equal(covei_os->shm_set_rights(id, 07666, &gid), 0); /* permission bits alone */
    assert_int_equal(books(id).mode, 0666);
    assert_int_equal(books(id).gid, gid);
    assert_int_equal(books(id).uid, geteuid());
    assert_int_equal(books(id).size_bytes, SIZE);
    assert_int_equal(covei_os->shm_set_rights(id, 0, NULL), 0);
    struct covei_shm_stat stat; /* the owner has no right to look then, and may remove it all the same */
    assert_int_equal(covei_os->shm_stat(id, &stat), geteuid() == 0 ? 0 : -EACCES);
    assert_int_equal(covei_os->shm_remove(id), 0);
}

static void test_shm_that_is_not_there_is_an_error_of_each_call(void **state)
{
    (void)state;
    void *address = NULL;
    int id = make(0), found = -1;
    struct covei_shm_stat stat;
    assert_int_equal(covei_os->shm_remove(id), 0);
    int gone[] = {covei_os->shm_stat(id, &stat), covei_os->shm_map(&address, id, true), covei_os->shm_remove(id),
                  covei_os->shm_set_rights(id, 0600, NULL)};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        assert_true(gone[i] == -EINVAL || gone[i] == -EIDRM);
    assert_null(address);
    assert_int_equal(covei_os->shm_make(a_key(1), 0, 0600, &found), -EINVAL);
    assert_true(covei_os->shm_make(a_key(1), UINT64_MAX, 0600, &found) < 0);
    assert_int_equal(found, -1);
    assert_int_equal(covei_os->shm_stat(-1, &stat), -EINVAL);
}

/* All 32 bits of a key count, and those above the sign do. */
static void test_shm_keys_keep_all_their_bits(void **state)
{
    (void)state;
    int high = make(0), low = -1, found = -1;
    uint32_t other = a_key(0) & ~UINT32_C(0x80000000);
    if (covei_os->shm_make(other, SIZE, 0600, &low) == 0) {
        assert_int_not_equal(high, low);
        assert_int_equal(covei_os->shm_find(other, &found), 0);
        assert_int_equal(found, low);
        assert_int_equal(covei_os->shm_remove(low), 0);
    }
    assert_int_equal(covei_os->shm_find(a_key(0), &found), 0);
    assert_int_equal(found, high);
    assert_int_equal(covei_os->shm_remove(high), 0);
}

static const struct testing_case tests[] = {
    TEST(test_shm_made_is_as_asked_whatever_the_umask),
    TEST(test_shm_mapped_is_counted_and_read_only_where_asked),
    TEST(test_shm_rights_change_and_nothing_else),
    TEST(test_shm_that_is_not_there_is_an_error_of_each_call),
    TEST(test_shm_keys_keep_all_their_bits),
};

int main(void)
{
    own_keys = UINT32_C(0xc0000000) | (uint32_t)getpid() << 4;
    int result = testing_run("os_shm", tests), id = -1;
    for (unsigned which = 0; which < 2; which++)
        if (covei_os->shm_find(a_key(which), &id) == 0) /* of a test that failed */
            (void)covei_os->shm_remove(id);
    return result;
}
