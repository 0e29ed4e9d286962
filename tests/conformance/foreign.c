/* foreign.c - the same memory through plain system calls, as a program uses it that knows nothing of Cove.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t whole_pages(const struct subject *s, uint64_t size_bytes)
{
    return (size_bytes + s->page_bytes - 1) / s->page_bytes * s->page_bytes;
}

static void make_file(const struct subject *s, uint64_t size_bytes)
{
    int file = -1;
    if (strcmp(s->backend->label, "posix") == 0 && machine_is_ours()) /* else COVE_DIR is where shm_open is not */
        file = shm_open(strchr(s->name, '/'), O_CREAT | O_EXCL | O_RDWR, 0600);
    else
        file = open(s->path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    CHECK(ftruncate(file, (off_t)(s->backend->kind == KIND_HUGE ? whole_pages(s, size_bytes) : size_bytes)) == 0);
    (void)close(file);
}

void foreign_make(struct subject *s, uint64_t size_bytes)
{
    switch (s->backend->kind) {
    case KIND_FILE:
    case KIND_HUGE:
        make_file(s, size_bytes);
        break;
    case KIND_SYSV:
        CHECK(shmget(s->key, size_bytes, IPC_CREAT | IPC_EXCL | 0600) >= 0);
        break;
    case KIND_MEMFD:
        subject_has(s, memfd_create("foreign", MFD_CLOEXEC));
        CHECK(s->file >= 0 && ftruncate(s->file, (off_t)size_bytes) == 0);
        break;
    case KIND_FD:
        CHECK(ftruncate(s->file, (off_t)size_bytes) == 0);
        break;
    }
}

int foreign_open(const struct subject *s)
{
    if (s->backend->kind == KIND_SYSV)
        return -1;
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", s->file);
    return open(subject_named(s) ? s->path : path, O_RDWR | O_CLOEXEC | O_NOFOLLOW * (subject_named(s) ? 1 : 0));
}

static bool look_sysv(const struct subject *s, struct figures *figures)
{
    struct shmid_ds books;
    int id = shmget(s->key, 0, 0);
    if (id < 0 || shmctl(id, IPC_STAT, &books) < 0)
        return false;
    *figures = (struct figures){
        .size_bytes = books.shm_segsz,
        .mode = books.shm_perm.mode & 0777,
        .uid = books.shm_perm.uid,
        .gid = books.shm_perm.gid,
        .attached_count = books.shm_nattch,
        .creator_pid = books.shm_cpid,
        .last_pid = books.shm_lpid,
        .system_id = id,
    };
    return true;
}

bool foreign_look(const struct subject *s, struct figures *figures)
{
    if (s->backend->kind == KIND_SYSV)
        return look_sysv(s, figures);
    struct stat status;
    if (subject_named(s) ? lstat(s->path, &status) < 0 : s->file < 0 || fstat(s->file, &status) < 0)
        return false;
    *figures = (struct figures){
        .size_bytes = (uint64_t)status.st_size,
        .allocated_bytes = (uint64_t)status.st_blocks * 512,
        .mode = status.st_mode & 07777,
        .uid = status.st_uid,
        .gid = status.st_gid,
        .system_id = -1,
    };
    return true;
}

void *foreign_map(const struct subject *s, uint64_t size_bytes)
{
    void *data = MAP_FAILED;
    if (s->backend->kind == KIND_SYSV) {
        data = shmat(shmget(s->key, 0, 0), NULL, 0);
    } else {
        int file = foreign_open(s);
        CHECK(file >= 0);
        data = mmap(NULL, whole_pages(s, size_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        (void)close(file);
    }
    if (data == MAP_FAILED)
        FAIL("a program that knows nothing of Cove cannot map it: %s", strerror(errno));
    return data;
}

void foreign_unmap(const struct subject *s, void *data, uint64_t size_bytes)
{
    if (s->backend->kind == KIND_SYSV)
        CHECK(shmdt(data) == 0);
    else
        CHECK(munmap(data, whole_pages(s, size_bytes)) == 0);
}

bool foreign_read(const struct subject *s, void *data, size_t size_bytes)
{
    struct figures figures;
    if (!foreign_look(s, &figures) || figures.size_bytes < size_bytes)
        return false;
    if (s->backend->kind == KIND_SYSV) {
        void *bytes = shmat(figures.system_id, NULL, SHM_RDONLY);
        if (bytes == (void *)-1)
            return false;
        memcpy(data, bytes, size_bytes);
        return shmdt(bytes) == 0;
    }
    int file = foreign_open(s);
    ssize_t count = file < 0 ? -1 : pread(file, data, size_bytes, 0);
    if (file >= 0)
        (void)close(file);
    return count == (ssize_t)size_bytes;
}

void foreign_remove(struct subject *s)
{
    if (s->backend->kind == KIND_SYSV)
        CHECK(shmctl(shmget(s->key, 0, 0), IPC_RMID, NULL) == 0);
    else if (subject_named(s))
        CHECK(unlink(s->path) == 0);
    if (s->file >= 0)
        (void)close(s->file);
    s->file = -1;
}
