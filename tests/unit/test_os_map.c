/* test_os_map.c - mappings as os.h promises them: protections, ends, syncing, and who is asked about a SIGBUS.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "unit.h"

#include "os/os.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#define PAGE UINT64_C(4096)

static int file_of(uint64_t size_bytes)
{
    int file = covei_os->file_make_memory(false);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, (off_t)size_bytes), 0);
    return file;
}

static unsigned char *map_all(int file, uint64_t size_bytes, enum covei_access access)
{
    void *address = NULL;
    assert_int_equal(covei_os->map(&address, file, 0, size_bytes, access, false), 0);
    assert_non_null(address);
    return address;
}

/* "rw-s" of the mapping that holds the address. */
static void rights_of(const void *address, char rights[8])
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    rights[0] = '\0';
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        uintptr_t begin = 0, end = 0;
        char found[8] = "";
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &begin, &end, found) == 3 && (uintptr_t)address >= begin &&
            (uintptr_t)address < end)
            memcpy(rights, found, sizeof found);
    }
    (void)fclose(maps);
}

static void test_map_has_the_access_that_was_asked_for(void **state)
{
    (void)state;
    static const struct {
        enum covei_access access;
        const char *rights;
    } rows[] = {{COVEI_ACCESS_READ, "r--s"}, {COVEI_ACCESS_WRITE, "rw-s"}, {COVEI_ACCESS_NONE, "---s"}};
    int file = file_of(2 * PAGE);
    char rights[8];
    for (size_t i = 0; i < 3; i++) {
        unsigned char *bytes = map_all(file, 2 * PAGE, rows[i].access);
        rights_of(bytes, rights);
        assert_string_equal(rights, rows[i].rights);
        for (size_t j = 0; j < 3; j++) {
            assert_int_equal(covei_os->map_protect(bytes + PAGE, PAGE, rows[j].access), 0);
            rights_of(bytes + PAGE, rights);
            assert_string_equal(rights, rows[j].rights);
            rights_of(bytes, rights);
            assert_string_equal(rights, rows[i].rights); /* the page before is as it was */
        }
        covei_os->unmap(bytes, 2 * PAGE);
    }
    covei_os->file_close(file);
}

static void test_map_of_a_part_begins_there(void **state)
{
    (void)state;
    int file = file_of(4 * PAGE);
    unsigned char *whole = map_all(file, 4 * PAGE, COVEI_ACCESS_WRITE);
    void *part = NULL;
    assert_int_equal(covei_os->map(&part, file, 3 * PAGE, 16 * PAGE, COVEI_ACCESS_READ, true), 0); /* beyond the end */
    whole[3 * PAGE] = 7;
    assert_int_equal(*(unsigned char *)part, 7);
    assert_int_equal(ftruncate(file, 19 * PAGE), 0); /* what comes to be there can be read */
    assert_int_equal(((unsigned char *)part)[16 * PAGE - 1], 0);
    covei_os->unmap(part, 16 * PAGE);
    covei_os->unmap(whole, 4 * PAGE);
    covei_os->file_close(file);
}

static void test_map_that_cannot_be_is_an_error(void **state)
{
    (void)state;
    void *address = NULL;
    char path[1024];
    int file = file_of(PAGE), closed = file_of(PAGE);
    covei_os->file_close(closed);
    assert_int_equal(covei_os->map(&address, closed, 0, PAGE, COVEI_ACCESS_READ, false), -EBADF);
    assert_int_equal(covei_os->map(&address, file, 0, 0, COVEI_ACCESS_READ, false), -EINVAL);
    assert_int_equal(covei_os->map(&address, file, 1, PAGE, COVEI_ACCESS_READ, false), -EINVAL);
    assert_true(covei_os->map(&address, file, 0, UINT64_C(1) << 62, COVEI_ACCESS_READ, false) < 0);
    assert_null(address);
    (void)snprintf(path, sizeof path, "%s/f", testing_dir());
    int made = covei_os->file_make(path);
    assert_int_equal(ftruncate(made, PAGE), 0);
    int reading = covei_os->file_open(path, COVEI_OPEN_READ);
    assert_int_equal(covei_os->map(&address, reading, 0, PAGE, COVEI_ACCESS_WRITE, false), -EACCES);
    unsigned char *bytes = map_all(reading, PAGE, COVEI_ACCESS_READ);
    assert_int_equal(covei_os->map_protect(bytes, PAGE, COVEI_ACCESS_WRITE), -EACCES);
    assert_int_equal(covei_os->map_protect(bytes + 1, PAGE, COVEI_ACCESS_READ), -EINVAL);
    assert_int_equal(covei_os->map_sync(bytes + 1, PAGE), -EINVAL);
    covei_os->unmap(bytes, PAGE);
    assert_int_equal(covei_os->map_protect(bytes, PAGE, COVEI_ACCESS_READ), -ENOMEM);
    assert_int_equal(covei_os->map_sync(bytes, PAGE), -ENOMEM);
    assert_int_equal(covei_os->map_keep_from_dumps(bytes, PAGE), -ENOMEM);
    assert_int_equal(unlink(path), 0);
    covei_os->file_close(reading);
    covei_os->file_close(made);
    covei_os->file_close(file);
}

/* What was stored through the mapping is in the file for who reads it, and on its disk. */
static void test_map_synced_is_in_the_file(void **state)
{
    (void)state;
    char path[1024], byte = 0;
    (void)snprintf(path, sizeof path, "%s/f", testing_dir());
    int file = covei_os->file_make(path);
    assert_int_equal(ftruncate(file, 2 * PAGE), 0);
    unsigned char *bytes = map_all(file, 2 * PAGE, COVEI_ACCESS_WRITE);
    bytes[PAGE] = 9;
    assert_int_equal(covei_os->map_sync(bytes, 2 * PAGE), 0);
    assert_int_equal(covei_os->file_sync(file), 0);
    assert_int_equal(covei_os->directory_sync(testing_dir()), 0);
    assert_int_equal(covei_os->file_read_at(file, &byte, 1, PAGE), 1);
    assert_int_equal(byte, 9);
    assert_int_equal(covei_os->directory_sync("/no/such/directory"), -ENOENT);
    assert_int_equal(covei_os->directory_sync(path), -ENOTDIR);
    assert_int_equal(covei_os->file_sync(-1), -EBADF);
    covei_os->unmap(bytes, 2 * PAGE);
    covei_os->file_close(file);
    assert_int_equal(unlink(path), 0);
}

/* Private zeros in its place, from there to the end: nobody else sees them, and nobody else's are seen. */
static void test_map_zeros_takes_the_place_of_the_rest(void **state)
{
    (void)state;
    int file = file_of(3 * PAGE);
    unsigned char *one = map_all(file, 3 * PAGE, COVEI_ACCESS_WRITE),
                  *other = map_all(file, 3 * PAGE, COVEI_ACCESS_WRITE);
    memset(one, 5, 3 * PAGE);
    assert_int_equal(covei_os->map_zeros(one + PAGE, 2 * PAGE), 0);
    assert_int_equal(one[PAGE - 1], 5);
    assert_int_equal(one[PAGE], 0);
    one[PAGE] = 6;
    one[0] = 7;
    assert_int_equal(other[PAGE], 5);
    assert_int_equal(other[0], 7); /* what is before it is shared still */
    assert_int_equal(covei_os->map_zeros(one + 1, PAGE), -EINVAL);
    covei_os->unmap(one, 3 * PAGE);
    covei_os->unmap(other, 3 * PAGE);
    covei_os->file_close(file);
}

/* ---- faults */

static volatile sig_atomic_t asked, answers;
static void *volatile asked_about;
static sigjmp_buf back;

static bool maps_zeros(void *address)
{
    asked++;
    asked_about = address;
    if (!answers)
        return false;
    return covei_os->map_zeros((unsigned char *)address - (uintptr_t)address % PAGE, PAGE) == 0;
}

static bool knows_nothing(void *address)
{
    (void)address;
    asked += 100;
    return false;
}

static void jump_back(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

static void test_fault_is_asked_about_and_passed_on_where_it_is_not_ours(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitizers have handlers of their own");
    struct sigaction own = {.sa_handler = jump_back}, now;
    assert_int_equal(sigaction(SIGBUS, &own, NULL), 0);
    int file = file_of(PAGE);
    volatile unsigned char *bytes = map_all(file, 2 * PAGE, COVEI_ACCESS_WRITE);
    assert_int_equal(covei_os->fault_guard(maps_zeros), 0);
    assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
    void (*ours)(int, siginfo_t *, void *) = now.sa_sigaction;
    assert_true(now.sa_flags & SA_SIGINFO);
    if (sigsetjmp(back, 1) == 0) {
        bytes[PAGE + 9] = 1;
        fail_msg("it was taken for ours");
    }
    assert_int_equal(asked, 1);
    assert_ptr_equal(asked_about, (void *)(uintptr_t)&bytes[PAGE + 9]);
    answers = 1;
    bytes[PAGE + 9] = 1;
    assert_int_equal(bytes[PAGE + 9], 1);
    assert_int_equal(asked, 2);
    /* Repeated it changes nothing; another may be asked from then on; and ours comes first again. */
    assert_int_equal(covei_os->fault_guard(maps_zeros), 0);
    assert_int_equal(sigaction(SIGBUS, &own, &now), 0);
    assert_ptr_equal(now.sa_sigaction, ours);
    assert_int_equal(covei_os->fault_guard(knows_nothing), 0);
    assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
    assert_ptr_equal(now.sa_sigaction, ours);
    assert_int_equal(ftruncate(file, 0), 0);
    if (sigsetjmp(back, 1) == 0)
        bytes[0] = 1;
    assert_int_equal(asked, 102);
    covei_os->unmap((void *)(uintptr_t)bytes, 2 * PAGE);
    covei_os->file_close(file);
}

static const struct testing_case tests[] = {
    TEST(test_map_has_the_access_that_was_asked_for),
    TEST(test_map_of_a_part_begins_there),
    TEST(test_map_that_cannot_be_is_an_error),
    TEST(test_map_synced_is_in_the_file),
    TEST(test_map_zeros_takes_the_place_of_the_rest),
    TEST(test_fault_is_asked_about_and_passed_on_where_it_is_not_ours),
};

int main(void)
{
    return testing_run("os_map", tests);
}
