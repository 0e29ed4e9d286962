/* places.c - where the segments and regions of a run lie, and what must not be left there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Everything lies in the run's own directory, which is COVE_DIR: files of `file:` names too, so that cove_gc sees
 * what a dead builder left of them. System V keys are made of the number of the run's guardian, which removes what
 * they lead to when the run has ended; or the next run does, which finds the directory. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stage.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

enum { KEYS_A_RUN = 4 };

static uint32_t run_number;

void place_set_run(uint32_t number)
{
    run_number = number;
}

/* Pids end at 4,194,304 = 2^22. */
static uint32_t key_of(uint32_t run, unsigned which)
{
    return UINT32_C(0x6b000000) | (run & 0x3fffff) * KEYS_A_RUN | which;
}

uint32_t place_key(unsigned which)
{
    return key_of(run_number, which);
}

void place_path(enum backend backend, const char *directory, char *path, size_t size_bytes)
{
    if (backend == ON_SYSV)
        snprintf(path, size_bytes, "%s/.cove-sysv-%08x", directory, place_key(0));
    else
        snprintf(path, size_bytes, "%s/stage%s", directory, backend == ON_FILE ? ".file" : ".cove");
}

const char *stage_name(const struct stage *stage)
{
    static char name[300];
    char path[256];
    place_path(ON_FILE, cove_directory(), path, sizeof path);
    switch (stage->scenario->backend) {
    case ON_FILE:
        snprintf(name, sizeof name, "file:%s", path);
        break;
    case ON_SYSV:
        snprintf(name, sizeof name, "sysv:0x%x", place_key(0));
        break;
    default:
        snprintf(name, sizeof name, "stage");
    }
    return name;
}

const char *copy_path(void)
{
    static char path[300];
    place_path(ON_FILE, cove_directory(), path, sizeof path - sizeof ".synced");
    strcat(path, ".synced");
    return path;
}

static int has_memory(unsigned which)
{
    return shmget((key_t)place_key(which), 0, 0) >= 0;
}

/* A System V key leads to memory before the segment is whole: there the library is asked. */
int name_is_there(const struct stage *stage)
{
    char path[300];
    struct cove_segment_info info;
    enum backend backend = stage->scenario->backend;
    if (backend == ON_SYSV)
        return has_memory(0) && cove_stat(stage_name(stage), &info) == 0;
    place_path(backend, cove_directory(), path, sizeof path);
    return access(path, F_OK) == 0;
}

void sysv_sweep(uint32_t run)
{
    for (unsigned which = 0; which < KEYS_A_RUN; which++) {
        int id = shmget((key_t)key_of(run != 0 ? run : run_number, which), 0, 0);
        if (id >= 0)
            shmctl(id, IPC_RMID, NULL);
    }
}

/* The segment's file, its copy beside it, the side file of memory that is there: no debris. */
static int belongs(const struct stage *stage, const char *directory, const char *name)
{
    char path[300], own[300], beside[320];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    place_path(stage->scenario->backend, directory, own, sizeof own);
    snprintf(beside, sizeof beside, "%s.synced", own);
    int there = stage->scenario->backend == ON_SYSV ? has_memory(0) : access(own, F_OK) == 0;
    return there && (strcmp(path, own) == 0 || strcmp(path, beside) == 0);
}

const char *debris_left(const struct stage *stage)
{
    static char found[300];
    const char *path = cove_directory();
    DIR *directory = opendir(path);
    found[0] = 0;
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !belongs(stage, path, entry->d_name))
            snprintf(found, sizeof found, "%s", entry->d_name);
    if (directory != NULL)
        closedir(directory);
    unsigned first = stage->scenario->backend == ON_SYSV && name_is_there(stage) ? 1 : 0;
    for (unsigned which = first; found[0] == 0 && which < KEYS_A_RUN; which++)
        if (has_memory(which))
            snprintf(found, sizeof found, "System V memory of key 0x%x", place_key(which));
    return found[0] != 0 ? found : NULL;
}
