/* testing_debris.c - what is left of a test when its own process is gone: processes and files.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The runner is a subreaper: whatever a test started becomes the runner's child when its parents die, however often it
 * forked. So "all descendants" is: the children of the runner, again and again until there are none. One that has
 * ended counts until it is reaped: while other threads of it still live, its children are not yet the runner's.
 * Children that the runner had before it began (it may have been exec'd by a shell with jobs) are not touched.
 *
 * Every test has a directory, made under a name that nothing else has; that name is also part of all names that
 * testing_name() gives, so that what a test left in /dev/shm is known from what others have there. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing_inner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN_MAX 2048u
#define UNKILLABLE_AFTER_S 10.0
#define SHM_DIR "/dev/shm"

struct children {
    size_t count;
    pid_t list[CHILDREN_MAX];
};

static struct children not_ours; /* the runner's children from before the run */

/* ---- processes --------------------------------------------------------------------------------------------------- */

static bool children_have(const struct children *in, pid_t pid)
{
    for (size_t i = 0; i < in->count; i++) {
        if (in->list[i] == pid)
            return true;
    }
    return false;
}

/* The parent of a process, and its state as a letter; false if it is gone. */
static bool process_parent(const char *pid, pid_t *parent, char *state)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length < 0 ? 0 : length] = '\0';
    const char *after_name = strrchr(text, ')'); /* the name in between may hold anything */
    int parent_number;
    if (after_name == NULL || sscanf(after_name + 1, " %c %d", state, &parent_number) != 2)
        return false;
    *parent = parent_number;
    return true;
}

/* Children of this process, without those of not_ours. A list that is full is followed by another look. */
static void children_list(struct children *now)
{
    now->count = 0;
    DIR *directory = opendir("/proc");
    if (directory == NULL) {
        testing_report("cannot look for processes left running: /proc: %s", strerror(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL && now->count < CHILDREN_MAX;) {
        pid_t pid = atoi(entry->d_name), parent;
        char state;
        if (pid <= 0 || !process_parent(entry->d_name, &parent, &state) || parent != getpid())
            continue;
        if (!children_have(&not_ours, pid))
            now->list[now->count++] = pid;
    }
    closedir(directory);
}

static bool has_ended(pid_t pid)
{
    char number[24], state;
    pid_t parent;
    snprintf(number, sizeof number, "%d", (int)pid);
    return !process_parent(number, &parent, &state) || state == 'Z' || state == 'X';
}

static void report_running(pid_t pid)
{
    char path[64], name[64] = "?";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *comm = fopen(path, "re");
    if (comm != NULL) {
        if (fgets(name, sizeof name, comm) == NULL)
            strcpy(name, "?");
        fclose(comm);
    }
    name[strcspn(name, "\n")] = '\0';
    testing_report("left process %d (%s) running", (int)pid, name);
}

void testing_debris_begin(void)
{
    not_ours.count = 0;
    children_list(&not_ours);
}

void testing_processes_reap(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
}

/* Those that were killed by us once are not reported again while they die; those that end by themselves are not. */
static void kill_all(const struct children *now, struct children *told)
{
    for (size_t i = 0; i < now->count; i++) {
        if (!children_have(told, now->list[i]) && told->count < CHILDREN_MAX && !has_ended(now->list[i])) {
            told->list[told->count++] = now->list[i];
            report_running(now->list[i]);
        }
        kill(now->list[i], SIGKILL);
    }
}

void testing_processes_end(int64_t grace_ns)
{
    static struct children now, told;
    int64_t begin_ns = testing_now_ns();
    struct testing_patience patience = {begin_ns + grace_ns + testing_scaled_ns(UNKILLABLE_AFTER_S), 0};
    told.count = 0;
    for (;;) {
        testing_processes_reap();
        children_list(&now);
        if (now.count == 0)
            break;
        if (testing_now_ns() - begin_ns >= grace_ns)
            kill_all(&now, &told);
        if (!testing_pause(&patience)) {
            testing_report("process %d cannot be killed", (int)now.list[0]);
            break;
        }
    }
    testing_processes_reap();
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static bool dir_make_in(const char *parent)
{
    struct testing_context *context = &testing_context;
    int length = snprintf(context->dir, sizeof context->dir, "%s/cove-test-%d-XXXXXX", parent, (int)getpid());
    if (length < 0 || (size_t)length >= sizeof context->dir || mkdtemp(context->dir) == NULL)
        return false;
    snprintf(context->tag, sizeof context->tag, "%.63s", strrchr(context->dir, '/') + 1);
    return true;
}

void testing_dir_make(void)
{
    const char *parent = getenv("TMPDIR");
    if (dir_make_in(SHM_DIR) || (parent != NULL && dir_make_in(parent)) || dir_make_in("/tmp"))
        return;
    print_error("no directory for the test, neither in " SHM_DIR " nor in $TMPDIR nor in /tmp: %s\n", strerror(errno));
    fail();
}

static bool leaves_files(void)
{
    /* relaxed: who wrote it is dead, and the wait for its death orders its stores before our loads */
    return atomic_load_explicit(&testing_context.control->leaves_files, memory_order_relaxed) != 0;
}

/* Called by nftw for each file, directories after what is in them; level 0 is the test's directory itself. */
static int report_and_remove(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    if (where->level > 0 && !leaves_files())
        testing_report("left %s %.300s (%lld bytes)", kind == FTW_DP ? "directory" : "file", path,
                       (long long)about->st_size);
    if (remove(path) != 0)
        testing_report("cannot remove %.300s: %s", path, strerror(errno));
    return 0;
}

static void shm_clear(void)
{
    DIR *directory = opendir(SHM_DIR);
    if (directory == NULL)
        return; /* no such place, so nothing was left there */
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char path[TESTING_PATH_BYTES];
        if (strstr(entry->d_name, testing_context.tag) == NULL)
            continue;
        snprintf(path, sizeof path, SHM_DIR "/%.255s", entry->d_name);
        if (!leaves_files())
            testing_report("left %s", path);
        if (remove(path) != 0)
            testing_report("cannot remove %s: %s", path, strerror(errno));
    }
    closedir(directory);
}

void testing_dir_clear(void)
{
    if (nftw(testing_context.dir, report_and_remove, 16, FTW_DEPTH | FTW_PHYS) != 0)
        testing_report("cannot look into %.300s: %s", testing_context.dir, strerror(errno));
    shm_clear();
}
