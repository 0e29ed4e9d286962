/* names.c - what peers leave in the system under names, removed after each row, however the row ended.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Semaphores and shared memory by name begin with this run's name; System V semaphores have the key of a file in this
 * run's directory. */
#include "bench.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

static void for_each_file(const char *directory, void (*act)(const char *path, const char *file, const char *name),
                          const char *name)
{
    DIR *all = opendir(directory);
    const struct dirent *entry;
    char path[512];

    if (!all)
        return;
    while ((entry = readdir(all)) != NULL)
        if (entry->d_name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name) < (int)sizeof path)
            act(path, entry->d_name, name);
    closedir(all);
}

static void remove_key_and_file(const char *path, const char *file, const char *name)
{
    key_t key = ftok(path, KEY_OF_FILE);
    int id = key == (key_t)-1 ? -1 : semget(key, 0, 0);

    (void)file, (void)name;
    if (id >= 0)
        semctl(id, 0, IPC_RMID);
    unlink(path);
}

/* Not the segment's own file: what cove_unlink leaves is to be seen. */
static void remove_shared(const char *path, const char *file, const char *name)
{
    const char *suffix = strrchr(file, '.');

    if (strncmp(file, "sem.", 4) == 0)
        file += 4;
    if (strncmp(file, name, strlen(name)) == 0 && !(suffix && strcmp(suffix, ".cove") == 0))
        unlink(path);
}

void names_clear(const struct settings *settings)
{
    for_each_file(settings->directory, remove_key_and_file, NULL);
    for_each_file("/dev/shm", remove_shared, settings->segment);
}

void names_begin(struct settings *settings)
{
    const char *parent = getenv("TMPDIR");

    if (snprintf(settings->directory, sizeof settings->directory, "%s/cove-bench-XXXXXX",
                 parent && *parent ? parent : "/tmp") >= (int)sizeof settings->directory)
        snprintf(settings->directory, sizeof settings->directory, "/tmp/cove-bench-XXXXXX");
    if (!mkdtemp(settings->directory))
        fail_row("no directory %s", settings->directory);
    setenv("TMPDIR", settings->directory, 1); /* where Qt puts its own */
}

void names_end(const struct settings *settings)
{
    names_clear(settings);
    rmdir(settings->directory);
}
