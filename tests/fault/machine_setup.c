/* machine_setup.c - small file systems in mount namespaces of the test's own, and the command in them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A tmpfs counts its memory by the page and says exactly how many are free (f_bfree), so a filler of the right
 * length leaves any number of them. Directories and names take none. A file's memory may come back a moment after its
 * last close: whoever looks into /proc/PID/maps or fd of a process holds its files meanwhile. So figures are waited
 * for. */
#include "machine_setup.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        fail_msg("%s: %s", path, strerror(errno));
}

/* As an ordinary user: the same user, in a user namespace in which he may mount. */
static bool own_users(void)
{
    char users[64], groups[64];
    (void)snprintf(users, sizeof users, "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
    (void)snprintf(groups, sizeof groups, "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
    if (unshare(CLONE_NEWUSER) != 0)
        return false;
    write_text("/proc/self/setgroups", "deny");
    write_text("/proc/self/uid_map", users);
    write_text("/proc/self/gid_map", groups);
    return true;
}

void machine_own_mounts(void)
{
    if ((geteuid() != 0 && !own_users()) || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        testing_skip("no mounts of one's own here: run it as root, or allow user namespaces "
                     "(sysctl -w kernel.unprivileged_userns_clone=1)");
}

void machine_mount(size_t size_bytes, const char *more)
{
    char options[128];
    (void)snprintf(options, sizeof options, "size=%zu,mode=0700%s", size_bytes, more);
    if (mount("cove-test", cove_directory(), "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
        fail_msg("mounting %s at %s: %s", options, cove_directory(), strerror(errno));
}

void machine_unmount(void)
{
    assert_int_equal(umount2(cove_directory(), MNT_DETACH), 0);
}

uint64_t machine_free_pages(void)
{
    struct statvfs info;
    assert_int_equal(statvfs(cove_directory(), &info), 0);
    return (uint64_t)info.f_bfree * info.f_frsize / MACHINE_PAGE;
}

static const char *filler_path(void)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/filler", cove_directory());
    return path;
}

void machine_expect_pages(uint64_t free_pages)
{
    UNTIL(machine_free_pages() == free_pages, 5000);
}

/* Take what is free beyond that; true when nothing was. */
static bool is_filled(int file, uint64_t free_pages)
{
    struct stat info;
    uint64_t now = machine_free_pages();
    assert_int_equal(fstat(file, &info), 0);
    if (now > free_pages)
        assert_int_equal(fallocate(file, 0, info.st_size, (off_t)((now - free_pages) * MACHINE_PAGE)), 0);
    return now == free_pages;
}

void machine_leave_pages(uint64_t free_pages)
{
    int file = open(filler_path(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    UNTIL(is_filled(file, free_pages), 5000);
    (void)close(file);
}

void machine_make_room(void)
{
    assert_true(unlink(filler_path()) == 0 || errno == ENOENT);
}

int machine_files(void)
{
    DIR *directory = opendir(cove_directory());
    int count = 0;
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                 strcmp(entry->d_name, "filler") != 0;
    (void)closedir(directory);
    return count;
}

void machine_expect_full(const char *what)
{
    const char *at = strstr(cove_last_error(), "full: ");
    unsigned long long needed = 0, spare = 0;
    if (!at || sscanf(at, "full: %llu bytes are needed, %llu of", &needed, &spare) != 2)
        fail_msg("%s: \"%s\" does not say what is needed and what is free", what, cove_last_error());
    if (needed <= spare || needed == 0 || spare % MACHINE_PAGE != 0)
        fail_msg("%s: \"%s\": these figures cannot be", what, cove_last_error());
    unit_expect_says(what, "cove gc", __FILE__, __LINE__); /* what to do */
}

/* ---- the command ---- */

#define WORDS_MAX 16

static _Noreturn void be_command(const char *line, int output)
{
    static char words[1024];
    char *list[WORDS_MAX + 1] = {getenv("COVE_COMMAND")};
    int count = 1;
    (void)snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word && count < WORDS_MAX; word = strtok(NULL, " "))
        list[count++] = word;
    (void)dup2(output, STDOUT_FILENO);
    (void)dup2(output, STDERR_FILENO);
    (void)execv(list[0], list);
    _exit(126);
}

bool machine_has_command(void)
{
    return getenv("COVE_COMMAND") != NULL;
}

int machine_command(const char *line, char *output, size_t output_bytes)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        be_command(line, ends[1]);
    (void)close(ends[1]);
    size_t length = strnlen(output, output_bytes - 1);
    for (ssize_t count;
         length + 1 < output_bytes && (count = read(ends[0], output + length, output_bytes - 1 - length)) != 0;)
        length += count > 0 ? (size_t)count : 0;
    output[length] = '\0';
    (void)close(ends[0]);
    int status = testing_wait(pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 126)
        fail_msg("cove %s: status %#x: %s", line, (unsigned)status, output);
    return WEXITSTATUS(status);
}
