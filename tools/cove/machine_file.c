/* machine_file.c - memory that has a file: POSIX shared memory, named semaphores, huge pages, mapped files.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What a file holds is never touched through a mapping of ours: a foreign file may be sparse, empty, or be cut
 * while it is looked at. The library looks at what claims to be a segment, and is safe on any bytes. */
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define SEMAPHORE_PREFIX "sem." /* of the files of sem_open, in glibc */
#define SUFFIX ".cove" /* of plain names' files */
#define HIDDEN_PREFIX ".cove-" /* of Cove's side files and of what killed creators left: `cove gc` sees to these */

/* ---- what is inside ---- */

void machine_inspect_segment(struct machine_object *object, const char *raw)
{
    struct cove_segment_info *info = malloc(sizeof *info);
    int result = info ? cove_stat(raw, info) : -ENOMEM;
    object->kind = MACHINE_SEGMENT;
    if (result < 0) {
        object->broken = result;
        free(info);
        return;
    }
    object->segment = info;
    object->size_bytes = info->size_bytes;
    object->resident_bytes = info->resident_bytes;
}

/* Is it one of Cove's, and what does that say? Of a plain name's file that we may not read we know no more. */
static void inspect_memory(struct machine_object *object, const char *raw)
{
    struct cove_region_info region;
    int result = cove_region_look(raw, &region);
    if (result >= 0 && region.is_segment)
        machine_inspect_segment(object, raw);
    else if (result == -EACCES && object->kind == MACHINE_SEGMENT)
        object->broken = result;
    else
        object->kind = MACHINE_REGION;
}

/* A semaphore's file is glibc's sem_t: with 64 bits (32 bytes) the value, then the number of processes that wait;
 * with 32 bits (16 bytes) the value above a flag, and the waiting ones in the fourth word. */
static void inspect_semaphore(struct machine_object *object)
{
    uint32_t words[8];
    int file = open(object->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : pread(file, words, sizeof words, 0);
    if (file >= 0)
        (void)close(file);
    object->figures.known = length == 32 || length == 16;
    object->broken = file < 0 ? -EACCES : object->figures.known ? 0 : COVE_ECORRUPT;
    object->figures.count = 1;
    object->figures.value = length == 32 ? words[0] : length == 16 ? words[0] >> 1 : 0;
    object->figures.waiting = length == 32 ? words[1] : length == 16 ? words[3] : 0;
}

static void take_status(struct machine_object *object, const struct stat *status)
{
    object->device = status->st_dev;
    object->inode = status->st_ino;
    object->size_bytes = (uint64_t)status->st_size;
    object->resident_bytes = (uint64_t)status->st_blocks * 512;
    object->mode = status->st_mode & 07777;
    object->owner_uid = status->st_uid;
    object->owner_gid = status->st_gid;
    object->figures.changed_s = (uint64_t)status->st_mtime;
}

int machine_add_file(struct machine_list *list, enum machine_kind kind, enum machine_backend backend, const char *name,
                     const char *path)
{
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno == ENOENT || errno == ENOTDIR ? -ENOENT : -errno;
    bool is_file = S_ISREG(status.st_mode);
    if (!is_file && kind != MACHINE_SEGMENT)
        return COVE_ENOTCOVE;
    struct machine_object *object = machine_add(list, kind, backend, name);
    if (!object || !(object->path = strdup(path)))
        return -ENOMEM;
    take_status(object, &status);
    if (!is_file)
        object->broken = COVE_ENOTCOVE;
    else if (kind == MACHINE_SEMAPHORE)
        inspect_semaphore(object);
    else
        inspect_memory(object, name);
    return 0;
}

/* ---- the directories ---- */

static bool is_directory_of_names(const char *path)
{
    struct stat ours, other;
    return stat(cove_directory(), &ours) == 0 && stat(path, &other) == 0 && ours.st_dev == other.st_dev &&
           ours.st_ino == other.st_ino;
}

/* "robot" for "robot.cove". */
static bool plain_name(char name[256], const char *file)
{
    size_t length = strlen(file), suffix = strlen(SUFFIX);
    if (length <= suffix || length >= 256 || strcmp(file + length - suffix, SUFFIX) != 0)
        return false;
    (void)snprintf(name, 256, "%.*s", (int)(length - suffix), file);
    return machine_is_plain(name);
}

/* A file of the directory of names, or of libc's own where that is another: there only the path names it, except for
 * semaphores, which libc knows in no other place. */
static int add_posix(struct machine_list *list, const char *directory, bool is_ours, const char *file)
{
    char name[4410], path[4400], plain[256];
    size_t prefix = strlen(SEMAPHORE_PREFIX);
    bool is_libcs = !is_ours || is_directory_of_names(MACHINE_SHM);
    bool is_semaphore = is_libcs && strncmp(file, SEMAPHORE_PREFIX, prefix) == 0 && file[prefix];
    if (is_ours && (plain_name(plain, file) || strncmp(file, HIDDEN_PREFIX, strlen(HIDDEN_PREFIX)) == 0))
        return 0;
    (void)snprintf(path, sizeof path, "%.4096s/%s", directory, file);
    if (is_semaphore)
        (void)snprintf(name, sizeof name, "sem:/%s", file + prefix);
    else if (is_ours)
        (void)snprintf(name, sizeof name, "posix:/%s", file);
    else
        (void)snprintf(name, sizeof name, "file:%s", path);
    int result = machine_add_file(list, is_semaphore ? MACHINE_SEMAPHORE : MACHINE_REGION, MACHINE_POSIX, name, path);
    return result == -ENOMEM ? result : 0; /* what went, or may not be looked at, is left out */
}

static int add_directory(struct machine_list *list, const char *path, bool is_ours)
{
    DIR *directory = opendir(path);
    int result = 0;
    if (!directory) {
        if (errno == ENOENT || is_ours) /* then there is nothing, or it has been said already */
            return 0;
        result = -errno;
        cli_say(path, "cannot be listed: %s", strerror(errno));
        return result;
    }
    for (struct dirent *entry; result == 0 && (entry = readdir(directory));)
        result = add_posix(list, path, is_ours, entry->d_name);
    (void)closedir(directory);
    return result;
}

int machine_add_posix(struct machine_list *list)
{
    int result = add_directory(list, cove_directory(), true);
    if (result == 0 && !is_directory_of_names(MACHINE_SHM))
        result = add_directory(list, MACHINE_SHM, false);
    return result;
}

static int add_plain(const char *name, void *context)
{
    char path[4096];
    if (!machine_is_plain(name))
        return 0; /* System V and huge ones are met where those are listed */
    (void)snprintf(path, sizeof path, "%s/%s" SUFFIX, cove_directory(), name);
    int result = machine_add_file(context, MACHINE_SEGMENT, MACHINE_POSIX, name, path);
    return result == -ENOMEM ? result : 0;
}

int machine_add_plain(struct machine_list *list)
{
    int result = cove_segments(add_plain, list);
    if (result < 0)
        (void)cli_failed(cove_directory(), result);
    return result;
}

/* ---- huge pages ---- */

static long default_huge_bytes(void)
{
    char line[160];
    long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "Hugepagesize: %ld kB", &kib) != 1)
        ;
    if (file)
        (void)fclose(file);
    return kib << 10;
}

static int add_huge(struct machine_list *list, const char *mount, bool is_ours, const char *file)
{
    char path[4600], name[4610], plain[256];
    (void)snprintf(path, sizeof path, "%.4096s/%s", mount, file);
    if (is_ours && plain_name(plain, file))
        (void)snprintf(name, sizeof name, "huge:%s", plain);
    else
        (void)snprintf(name, sizeof name, "file:%s", path);
    int result = machine_add_file(list, MACHINE_REGION, MACHINE_HUGE, name, path);
    return result == -ENOMEM ? result : 0;
}

static int add_huge_mount(struct machine_list *list, const char *mount, bool is_ours)
{
    int result = 0;
    DIR *directory = opendir(mount);
    for (struct dirent *entry; directory && result == 0 && (entry = readdir(directory));)
        result = add_huge(list, mount, is_ours, entry->d_name);
    if (directory)
        (void)closedir(directory);
    return result;
}

/* The mount that huge:NAME means: the first with pages of the default size, or the first at all. Returns its place
 * among the mounts of huge pages. */
static int find_our_mount(void)
{
    int place = 0, found = -1;
    long default_bytes = default_huge_bytes();
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *mount; mounts && (mount = getmntent(mounts));) {
        struct statfs system;
        if (strcmp(mount->mnt_type, "hugetlbfs") != 0)
            continue;
        if (found < 0 && statfs(mount->mnt_dir, &system) == 0 && (long)system.f_bsize == default_bytes)
            found = place;
        place++;
    }
    if (mounts)
        (void)endmntent(mounts);
    return found < 0 ? 0 : found;
}

int machine_add_huge(struct machine_list *list)
{
    int result = 0, place = 0, ours = find_our_mount();
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *mount; mounts && result == 0 && (mount = getmntent(mounts));)
        if (strcmp(mount->mnt_type, "hugetlbfs") == 0)
            result = add_huge_mount(list, mount->mnt_dir, place++ == ours);
    if (mounts)
        (void)endmntent(mounts);
    return result;
}

/* ---- what processes share and no directory lists ---- */

/* A file that was made nameless (O_TMPFILE) and named later keeps "#INODE (deleted)" as its path in its maker's maps.
 * Its name stands in the same directory. Returns it, to be freed, or NULL. */
static char *find_name(const struct machine_object *object)
{
    char path[4600], *found = NULL;
    struct stat status;
    const char *slash = object->path ? strrchr(object->path, '/') : NULL;
    if (!slash || slash[1] != '#')
        return NULL;
    int length = (int)(slash - object->path);
    (void)snprintf(path, sizeof path, "%.*s/", length, object->path);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && !found && (entry = readdir(directory));) {
        (void)snprintf(path, sizeof path, "%.*s/%s", length, object->path, entry->d_name);
        if (entry->d_ino == object->inode && lstat(path, &status) == 0 && status.st_ino == object->inode)
            found = strdup(path);
    }
    if (directory)
        (void)closedir(directory);
    return found;
}

/* It has a name after all. */
static void take_name(struct machine_object *object, char *path)
{
    char raw[4700];
    (void)snprintf(raw, sizeof raw, "file:%s", path);
    char *name = machine_escape(raw);
    object->is_removed = false;
    if (!name) {
        free(path);
        return;
    }
    free(object->name);
    free(object->path);
    object->name = name;
    object->path = path;
}

/* Cove's? Its descriptor is opened through the process that has it, and looked at as any other segment. */
static void inspect_reached(struct machine_object *object)
{
    char name[32];
    struct stat status;
    struct cove_region_info region;
    int file = object->reach ? open(object->reach, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    if (file < 0 || fstat(file, &status) != 0 || status.st_ino != object->inode || !S_ISREG(status.st_mode))
        goto done;
    char *path = status.st_nlink > 0 ? find_name(object) : NULL;
    if (path)
        take_name(object, path);
    uint64_t device = object->device; /* as maps say it: it may differ from stat's */
    take_status(object, &status);
    object->device = device;
    (void)snprintf(name, sizeof name, "fd:%d", file);
    if (cove_region_look(name, &region) >= 0 && region.is_segment)
        machine_inspect_segment(object, name);
done:
    if (file >= 0)
        (void)close(file);
}

/* A file is known by its path only where that leads to the same file for us. */
static bool path_leads_there(const struct machine_object *object, struct stat *status)
{
    return object->path && lstat(object->path, status) == 0 && status->st_ino == object->inode &&
           S_ISREG(status->st_mode);
}

static bool inspect_candidate(struct machine_object *object, unsigned flags)
{
    struct stat status;
    char raw[4200];
    if (object->backend == MACHINE_FILE && !object->is_removed) {
        if (!path_leads_there(object, &status))
            return false;
        take_status(object, &status);
        (void)snprintf(raw, sizeof raw, "file:%s", object->path);
        inspect_memory(object, raw);
    } else {
        inspect_reached(object);
    }
    return object->kind == MACHINE_SEGMENT || (object->is_removed && object->backend == MACHINE_POSIX) ||
           (flags & MACHINE_FILES);
}

void machine_inspect_candidates(struct machine_list *list, unsigned flags)
{
    for (size_t i = list->count; i-- > 0;)
        if (list->objects[i].is_candidate && !inspect_candidate(&list->objects[i], flags))
            machine_drop(list, &list->objects[i]);
}
