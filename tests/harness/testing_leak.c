/* testing_leak.c - what a test's process holds at its end that it did not hold at its start.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Descriptors are told apart by number, device and inode, so that one which was closed and opened anew as something
 * else is noticed, and so is one that was there before and is gone: somebody closed what was not theirs. Mappings are
 * told apart by device and inode, since growing or protecting a part of one splits its line in /proc/self/maps.
 *
 * Tools have descriptors of their own: those that exist at the start are not looked at again, and valgrind's lie at or
 * above the soft limit that it shows to the program. Shared anonymous memory (/dev/zero) is not reported: nothing of it
 * outlives the process. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing_inner.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 4096u
#define MAPPINGS_MAX 256u

struct descriptor {
    int number;
    dev_t device;
    ino_t inode;
};

struct descriptors {
    size_t count;
    struct descriptor list[DESCRIPTORS_MAX];
};

struct mapping {
    char device[16];
    unsigned long inode;
    char path[TESTING_PATH_BYTES];
};

struct mappings {
    size_t count;
    struct mapping list[MAPPINGS_MAX];
};

/* At the start and at the end; static, for they are large and a test's process needs them once. */
static struct descriptors descriptors_before, descriptors_after;
static struct mappings mappings_before, mappings_after;
static rlim_t tools_descriptors_begin;

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

static void descriptor_path(int number, char *path, size_t path_size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", number);
    ssize_t length = readlink(link, path, path_size - 1);
    path[length < 0 ? 0 : length] = '\0';
}

static void descriptors_list(struct descriptors *now)
{
    now->count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        testing_report("cannot look for descriptors left open: /proc/self/fd: %s", strerror(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int number = atoi(entry->d_name);
        struct stat about;
        if (entry->d_name[0] == '.' || number == dirfd(directory) || (rlim_t)number >= tools_descriptors_begin)
            continue;
        if (fstat(number, &about) != 0)
            continue; /* closed since, by another thread */
        if (now->count == DESCRIPTORS_MAX) {
            testing_report("more than %u descriptors are open", DESCRIPTORS_MAX);
            break;
        }
        now->list[now->count++] = (struct descriptor){number, about.st_dev, about.st_ino};
    }
    closedir(directory);
}

static const struct descriptor *descriptor_find(const struct descriptors *in, int number)
{
    for (size_t i = 0; i < in->count; i++) {
        if (in->list[i].number == number)
            return &in->list[i];
    }
    return NULL;
}

static void descriptors_compare(void)
{
    char path[TESTING_PATH_BYTES];
    for (size_t i = 0; i < descriptors_after.count; i++) {
        const struct descriptor *now = &descriptors_after.list[i];
        const struct descriptor *then = descriptor_find(&descriptors_before, now->number);
        if (then != NULL && then->device == now->device && then->inode == now->inode)
            continue;
        descriptor_path(now->number, path, sizeof path);
        testing_report("left descriptor %d open: %.300s%s", now->number, path,
                       then != NULL ? " (it replaced one that was open before the test)" : "");
    }
    for (size_t i = 0; i < descriptors_before.count; i++) {
        if (descriptor_find(&descriptors_after, descriptors_before.list[i].number) == NULL)
            testing_report("closed descriptor %d, which was open before the test", descriptors_before.list[i].number);
    }
}

/* ---- mappings ---------------------------------------------------------------------------------------------------- */

/* Of a file, and either shared or of a segment's name. valgrind maps a page that it shares with its debugger. */
static bool mapping_counts(const char *rights, const char *path)
{
    if (path[0] == '\0' || path[0] == '[' || strncmp(path, "/dev/zero", 9) == 0 || strstr(path, "vgdb-pipe") != NULL)
        return false;
    return rights[3] == 's' || strstr(path, ".cove") != NULL;
}

static bool mapping_known(const struct mappings *in, const struct mapping *mapping)
{
    for (size_t i = 0; i < in->count; i++) {
        if (in->list[i].inode == mapping->inode && strcmp(in->list[i].device, mapping->device) == 0)
            return true;
    }
    return false;
}

static void mappings_list(struct mappings *now)
{
    now->count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) {
        testing_report("cannot look for mappings left: /proc/self/maps: %s", strerror(errno));
        return;
    }
    char line[TESTING_PATH_BYTES + 128];
    while (fgets(line, sizeof line, maps) != NULL) {
        char rights[8];
        struct mapping found = {.path = ""};
        int fields = sscanf(line, "%*s %7s %*s %15s %lu %511[^\n]", rights, found.device, &found.inode, found.path);
        if (fields < 4 || !mapping_counts(rights, found.path) || mapping_known(now, &found))
            continue;
        if (now->count == MAPPINGS_MAX) {
            testing_report("more than %u files are mapped", MAPPINGS_MAX);
            break;
        }
        now->list[now->count++] = found;
    }
    fclose(maps);
}

static void mappings_compare(void)
{
    for (size_t i = 0; i < mappings_after.count; i++) {
        if (!mapping_known(&mappings_before, &mappings_after.list[i]))
            testing_report("left a mapping of %.300s", mappings_after.list[i].path);
    }
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

/* One is enough to fail the test; the runner kills and reaps all of them. */
static void children_compare(void)
{
    siginfo_t child = {0};
    if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) != 0)
        return; /* ECHILD: there are none */
    if (child.si_pid != 0)
        testing_report("did not wait for its child %d, which has ended", (int)child.si_pid);
    else
        testing_report("ended while a child of it was running");
}

void testing_holdings_note(void)
{
    struct rlimit limit;
    tools_descriptors_begin = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
    descriptors_list(&descriptors_before);
    mappings_list(&mappings_before);
}

void testing_holdings_compare(void)
{
    children_compare();
    if (atomic_load_explicit(&testing_context.control->leaves_open, memory_order_relaxed) != 0)
        return; /* relaxed: our own store, or one of a process that has told us by a step */
    descriptors_list(&descriptors_after);
    descriptors_compare();
    mappings_list(&mappings_after);
    mappings_compare();
}
