/* os_linux_shm.c - System V shared memory on Linux.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "os/os_linux.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/shm.h>

static key_t key_of(uint32_t key)
{
    union {
        uint32_t bits;
        key_t key;
    } both = {.bits = key};
    return both.key;
}

int covei_linux_shm_find(uint32_t key, int *id)
{
    int found = shmget(key_of(key), 0, 0);
    if (found < 0)
        return -errno;
    *id = found;
    return 0;
}

int covei_linux_shm_make(uint32_t key, uint64_t size_bytes, uint32_t mode, int *id)
{
    if (size_bytes != (size_t)size_bytes)
        return -EINVAL;
    int made = shmget(key_of(key), (size_t)size_bytes, IPC_CREAT | IPC_EXCL | (int)(mode & 0777)); /* no umask here */
    if (made < 0)
        return -errno;
    *id = made;
    return 0;
}

int covei_linux_shm_stat(int id, struct covei_shm_stat *out)
{
    struct shmid_ds in;
    if (shmctl(id, IPC_STAT, &in) < 0)
        return -errno;
    *out = (struct covei_shm_stat){
        .id = id,
        .key = (uint32_t)in.shm_perm.__key,
        .size_bytes = (uint64_t)in.shm_segsz,
        .attached_count = (uint64_t)in.shm_nattch,
        .mode = (uint32_t)in.shm_perm.mode & 0777,
        .uid = (uint32_t)in.shm_perm.uid,
        .gid = (uint32_t)in.shm_perm.gid,
        .creator_uid = (uint32_t)in.shm_perm.cuid,
        .creator_gid = (uint32_t)in.shm_perm.cgid,
        .creator_pid = (int32_t)in.shm_cpid,
        .last_pid = (int32_t)in.shm_lpid,
        .attached_s = (uint64_t)in.shm_atime,
        .detached_s = (uint64_t)in.shm_dtime,
        .changed_s = (uint64_t)in.shm_ctime,
        .removed = (in.shm_perm.mode & SHM_DEST) != 0,
    };
    return 0;
}

/* "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap" */
static uint64_t find_resident(FILE *table, int id)
{
    char line[512];
    int found = -1;
    unsigned long long resident = 0;
    while (fgets(line, sizeof line, table))
        if (sscanf(line, "%*s %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &found, &resident) == 2 &&
            found == id)
            return resident;
    return 0;
}

uint64_t covei_linux_shm_resident(int id)
{
    int before = covei_linux_hold();
    FILE *table = fopen("/proc/sysvipc/shm", "re");
    uint64_t resident = table ? find_resident(table, id) : 0;
    if (table)
        (void)fclose(table);
    covei_linux_restore(before);
    return resident;
}

int covei_linux_shm_set_rights(int id, uint32_t mode, const uint32_t *gid)
{
    struct shmid_ds books;
    if (shmctl(id, IPC_STAT, &books) < 0)
        return -errno;
    books.shm_perm.mode = (unsigned short)(mode & 0777);
    if (gid)
        books.shm_perm.gid = *gid;
    return shmctl(id, IPC_SET, &books) < 0 ? -errno : 0;
}

int covei_linux_shm_map(void **address, int id, bool writable)
{
    void *mapped = shmat(id, NULL, writable ? 0 : SHM_RDONLY);
    if (mapped == (void *)-1)
        return -errno;
    *address = mapped;
    return 0;
}

int covei_linux_shm_unmap(void *address)
{
    return shmdt(address) < 0 ? -errno : 0;
}

int covei_linux_shm_remove(int id)
{
    return shmctl(id, IPC_RMID, NULL) < 0 ? -errno : 0;
}
