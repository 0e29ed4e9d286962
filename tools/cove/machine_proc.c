/* machine_proc.c - who has it mapped or open, as /proc says.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each process's maps and descriptors are read once, and compared with the files of the list by device and inode
 * (by path too for mapped files, since some file systems give maps another device than stat). A shared, writable
 * mapping of anything else is added as a candidate.
 *
 * What we are not shown is counted, since it decides what may be called unused: processes of other users, unless we
 * are root; and whatever runs outside of the PID namespace that this /proc belongs to. A /proc that shows kthreadd,
 * the kernel's own process 2, belongs to the outermost namespace, and hides nobody from us. */
#include "machine.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define KERNEL_THREAD 0x00200000u /* PF_KTHREAD, in the flags of /proc/PID/stat */
#define REMOVED " (deleted)" /* behind the path of what has lost its name */

/* ---- one process ---- */

struct process_status {
    char command[32], state;
    unsigned flags;
    unsigned long long start_ticks;
};

static bool read_status(const char *directory, struct process_status *status)
{
    char path[64], text[1024];
    (void)snprintf(path, sizeof path, "%s/stat", directory);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        (void)close(file);
    text[length > 0 ? length : 0] = '\0';
    /* The name stands in brackets and may hold any bytes, brackets too: the last one ends it. */
    char *open_bracket = strchr(text, '('), *close_bracket = strrchr(text, ')');
    if (!open_bracket || !close_bracket || close_bracket < open_bracket)
        return false;
    (void)snprintf(status->command, sizeof status->command, "%.*s", (int)(close_bracket - open_bracket - 1),
                   open_bracket + 1);
    return sscanf(close_bracket + 1, " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                  &status->state, &status->flags, &status->start_ticks) == 3;
}

static bool read_user(const char *directory, int32_t pid, struct machine_user *user)
{
    char path[64], line[128];
    struct process_status status;
    if (!read_status(directory, &status))
        return false;
    *user = (struct machine_user){.pid = pid, .uid = UINT32_MAX, .state = status.state};
    (void)snprintf(user->command, sizeof user->command, "%s", status.command);
    (void)snprintf(path, sizeof path, "%s/status", directory);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "Uid: %*u %u", &user->uid) != 1)
        ;
    if (file)
        (void)fclose(file);
    return true;
}

/* Wall clock in seconds when the machine started; 0 where nobody says. */
static uint64_t boot_s(void)
{
    char line[256];
    unsigned long long seconds = 0;
    FILE *file = fopen("/proc/stat", "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "btime %llu", &seconds) != 1)
        ;
    if (file)
        (void)fclose(file);
    return seconds;
}

bool machine_process_lives(int32_t pid, uint64_t before_s, struct machine_user *user)
{
    char directory[32];
    struct process_status status;
    (void)snprintf(directory, sizeof directory, "/proc/%d", (int)pid);
    if (!read_status(directory, &status) || !read_user(directory, pid, user)) {
        /* Not shown to us: the kernel still says whether the number is taken. */
        *user = (struct machine_user){.pid = pid, .uid = UINT32_MAX, .state = '?', .command = "?"};
        return kill(pid, 0) == 0 || errno == EPERM;
    }
    uint64_t started_s = boot_s() + status.start_ticks / (uint64_t)sysconf(_SC_CLK_TCK);
    /* Who began later only has the number again. Two seconds, as both times are whole ones. */
    bool same = before_s == 0 || started_s <= before_s + 2;
    return same && status.state != 'Z' && status.state != 'X';
}

/* ---- the files of the list, in order ---- */

struct index_entry {
    uint64_t device, inode;
    size_t object;
};

struct scan {
    struct machine_list *list;
    struct index_entry *entries;
    size_t count, room;
    int error; /* the first one */
    char directory[64]; /* "/proc/812", or of one of its threads */
    int32_t pid;
    struct machine_user user; /* who that is; pid 0: not read yet */
};

static int by_inode(const void *left, const void *right)
{
    const struct index_entry *a = left, *b = right;
    if (a->inode != b->inode)
        return a->inode < b->inode ? -1 : 1;
    return a->device == b->device ? 0 : a->device < b->device ? -1 : 1;
}

/* Where the entry stands, or would have to. */
static size_t place_of(const struct scan *scan, uint64_t device, uint64_t inode)
{
    struct index_entry wanted = {.device = device, .inode = inode};
    size_t low = 0, high = scan->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_inode(&scan->entries[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int add_entry(struct scan *scan, uint64_t device, uint64_t inode, size_t object)
{
    if (scan->count == scan->room) {
        size_t room = scan->room ? 2 * scan->room : 64;
        struct index_entry *grown = realloc(scan->entries, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        scan->entries = grown;
        scan->room = room;
    }
    size_t at = place_of(scan, device, inode);
    memmove(&scan->entries[at + 1], &scan->entries[at], (scan->count - at) * sizeof *scan->entries);
    scan->entries[at] = (struct index_entry){.device = device, .inode = inode, .object = object};
    scan->count++;
    return 0;
}

static struct machine_object *find(const struct scan *scan, uint64_t device, uint64_t inode)
{
    size_t at = place_of(scan, device, inode);
    bool there = at < scan->count && scan->entries[at].device == device && scan->entries[at].inode == inode;
    return there ? &scan->list->objects[scan->entries[at].object] : NULL;
}

/* Same inode and path, another device: overlays and subvolumes do that. */
static struct machine_object *find_by_path(const struct scan *scan, uint64_t inode, const char *path)
{
    for (size_t at = place_of(scan, 0, inode); at < scan->count && scan->entries[at].inode == inode; at++) {
        struct machine_object *object = &scan->list->objects[scan->entries[at].object];
        if (object->backend == MACHINE_FILE && object->path && strcmp(object->path, path) == 0)
            return object;
    }
    return NULL;
}

static void note_user(struct scan *scan, struct machine_object *object)
{
    if (scan->user.pid == 0 && !read_user(scan->directory, scan->pid, &scan->user))
        return; /* it went */
    int result = machine_add_user(object, &scan->user);
    if (result < 0 && scan->error == 0)
        scan->error = result;
}

/* ---- mappings ---- */

struct mapping {
    unsigned long long from, to, inode;
    uint64_t device;
    bool shared, writable, removed;
    const char *path; /* without REMOVED */
};

/* Line breaks of a path stand as \012. */
static void unescape_breaks(char *path)
{
    for (char *at = path; (at = strstr(at, "\\012")); at++) {
        *at = '\n';
        memmove(at + 1, at + 4, strlen(at + 4) + 1);
    }
}

static bool read_mapping(char *line, struct mapping *mapping)
{
    char rights[8];
    unsigned major, minor;
    int at = 0;
    if (sscanf(line, "%llx-%llx %7s %*x %x:%x %llu %n", &mapping->from, &mapping->to, rights, &major, &minor,
               &mapping->inode, &at) != 6 ||
        at == 0)
        return false;
    char *path = line + at;
    path[strcspn(path, "\n")] = '\0';
    unescape_breaks(path);
    size_t length = strlen(path), suffix = strlen(REMOVED);
    mapping->removed = length > suffix && strcmp(path + length - suffix, REMOVED) == 0;
    if (mapping->removed)
        path[length - suffix] = '\0';
    mapping->path = path;
    mapping->device = makedev(major, minor);
    mapping->shared = rights[3] == 's';
    mapping->writable = rights[1] == 'w';
    return mapping->inode != 0 && *path == '/';
}

static bool is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

/* What it is called, and by which backend it was made, as far as a path tells. */
static enum machine_backend name_of_mapping(const struct mapping *mapping, char *name, size_t room)
{
    static const char memfd[] = "/memfd:";
    if (mapping->removed && strncmp(mapping->path, memfd, sizeof memfd - 1) == 0) {
        (void)snprintf(name, room, "%s", mapping->path + 1);
        return MACHINE_MEMFD;
    }
    if (mapping->removed && strcmp(mapping->path, "/dev/zero") == 0) {
        (void)snprintf(name, room, "anon:"); /* MAP_ANONYMOUS across a fork */
        return MACHINE_MEMFD;
    }
    const char *directory = cove_directory();
    bool is_ours = is_below(mapping->path, directory);
    if (is_ours && !strchr(mapping->path + strlen(directory) + 1, '/'))
        (void)snprintf(name, room, "posix:%s", mapping->path + strlen(directory));
    else
        (void)snprintf(name, room, "file:%s", mapping->path);
    return is_ours || is_below(mapping->path, MACHINE_SHM) ? MACHINE_POSIX : MACHINE_FILE;
}

static int add_candidate(struct scan *scan, const struct mapping *mapping)
{
    char name[4200], reach[120];
    enum machine_backend backend = name_of_mapping(mapping, name, sizeof name);
    if (!mapping->removed && (backend == MACHINE_POSIX || is_below(mapping->path, "/dev")))
        return 0; /* it was made after the directory was read, or is a device */
    struct machine_object *object = machine_add(scan->list, MACHINE_REGION, backend, name);
    (void)snprintf(reach, sizeof reach, "%s/map_files/%llx-%llx", scan->directory, mapping->from, mapping->to);
    if (!object || !(object->path = strdup(mapping->path)) || !(object->reach = strdup(reach)))
        return -ENOMEM;
    object->is_candidate = true;
    object->is_removed = mapping->removed && backend != MACHINE_MEMFD;
    object->device = mapping->device;
    object->inode = mapping->inode;
    object->size_bytes = mapping->to - mapping->from; /* until it can be asked */
    note_user(scan, object);
    return add_entry(scan, mapping->device, mapping->inode, scan->list->count - 1);
}

/* "/SYSV00005eed": a System V segment of some IPC namespace; of ours where key and id are those of a listed one. */
static struct machine_object *find_sysv(const struct scan *scan, const struct mapping *mapping)
{
    unsigned key;
    if (!mapping->removed || sscanf(mapping->path, "/SYSV%8x", &key) != 1)
        return NULL;
    struct machine_object *object = find(scan, MACHINE_SYSV_DEVICE, mapping->inode);
    /* A removed one has lost its key in the tables, and kept it in its file's name. */
    return object && (object->key == key || object->is_removed) ? object : NULL;
}

static void note_mapping(struct scan *scan, const struct mapping *mapping)
{
    struct machine_object *object = find(scan, mapping->device, mapping->inode);
    bool is_sysv = mapping->removed && strncmp(mapping->path, "/SYSV", 5) == 0;
    if (!object && is_sysv)
        object = find_sysv(scan, mapping);
    if (!object && !is_sysv)
        object = find_by_path(scan, mapping->inode, mapping->path);
    int result = 0;
    if (object)
        note_user(scan, object);
    else if (!is_sysv && mapping->shared && mapping->writable)
        result = add_candidate(scan, mapping);
    if (result < 0 && scan->error == 0)
        scan->error = result;
}

/* Returns how many mappings there were (none: a thread of the kernel, or one that has ended), or -EACCES, or another
 * error where it went. */
static int scan_maps(struct scan *scan)
{
    char path[80], *line = NULL;
    size_t room = 0;
    int count = 0;
    struct mapping mapping;
    (void)snprintf(path, sizeof path, "%s/maps", scan->directory);
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == EPERM ? -EACCES : -errno;
    errno = 0;
    for (; getline(&line, &room, file) > 0; count++)
        if (read_mapping(line, &mapping))
            note_mapping(scan, &mapping);
    int result = count == 0 && (errno == EACCES || errno == EPERM) ? -EACCES : count;
    free(line);
    (void)fclose(file);
    return result;
}

/* ---- descriptors ---- */

/* Is a file of that name in the list? Only such links are followed: one may lead to a server that does not answer. Whoever
 * made a file without a name, and named it after that, has it as "#INODE (deleted)" still. */
static bool may_be_listed(const struct scan *scan, const char *target)
{
    const char *file = strrchr(target, '/') + 1;
    size_t length = strlen(file), suffix = strlen(REMOVED);
    unsigned long long inode = *file == '#' ? strtoull(file + 1, NULL, 10) : 0;
    if (length > suffix && strcmp(file + length - suffix, REMOVED) == 0)
        length -= suffix;
    for (size_t i = 0; i < scan->list->count; i++) {
        if (inode != 0 && scan->list->objects[i].inode == inode)
            return true;
        const char *path = scan->list->objects[i].path;
        const char *slash = path ? strrchr(path, '/') : NULL;
        const char *name = slash ? slash + 1 : path;
        if (name && strlen(name) == length && strncmp(name, file, length) == 0)
            return true;
    }
    return false;
}

static void note_descriptor(struct scan *scan, int directory, const char *number)
{
    char target[4200], reach[120];
    struct stat status;
    ssize_t length = readlinkat(directory, number, target, sizeof target - 1);
    target[length > 0 ? length : 0] = '\0';
    if (target[0] != '/' || !may_be_listed(scan, target) || fstatat(directory, number, &status, 0) != 0)
        return;
    struct machine_object *object = find(scan, status.st_dev, status.st_ino);
    if (!object)
        return;
    note_user(scan, object);
    if (object->is_candidate && snprintf(reach, sizeof reach, "%s/fd/%s", scan->directory, number) > 0) {
        free(object->reach); /* a descriptor can be opened with fewer rights than a mapping */
        object->reach = strdup(reach);
    }
}

static int scan_descriptors(struct scan *scan)
{
    char path[80];
    (void)snprintf(path, sizeof path, "%s/fd", scan->directory);
    DIR *directory = opendir(path);
    if (!directory)
        return -errno;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (isdigit((unsigned char)entry->d_name[0]))
            note_descriptor(scan, dirfd(directory), entry->d_name);
    (void)closedir(directory);
    return 0;
}

/* ---- all processes ---- */

/* A process whose first thread has ended shows no memory, while its other threads go on. */
static int scan_threads(struct scan *scan)
{
    char path[64];
    int result = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)scan->pid);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && result == 0 && (entry = readdir(directory));) {
        if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == scan->pid)
            continue;
        (void)snprintf(scan->directory, sizeof scan->directory, "/proc/%d/task/%.10s", (int)scan->pid, entry->d_name);
        result = scan_maps(scan);
        if (result > 0)
            result = scan_descriptors(scan) == -EACCES ? -EACCES : result;
    }
    if (directory)
        (void)closedir(directory);
    return result;
}

/* Returns -EACCES where it may not be looked at; what has gone meanwhile is as good as looked at. */
static int scan_process(struct scan *scan, int32_t pid)
{
    scan->pid = pid;
    scan->user.pid = 0;
    (void)snprintf(scan->directory, sizeof scan->directory, "/proc/%d", (int)pid);
    int mapped = scan_maps(scan);
    if (mapped == 0)
        return scan_threads(scan);
    if (mapped < 0)
        return mapped;
    return scan_descriptors(scan);
}

/* Does this /proc show every process of the machine? */
static void judge_proc(struct machine_sight *sight, int32_t self)
{
    struct process_status status;
    bool shows_kernel = read_status("/proc/2", &status) && (status.flags & KERNEL_THREAD) != 0;
    sight->hidden = self <= 0 || !shows_kernel;
    const char *sentence = "";
    if (self <= 0)
        sentence = "/proc does not show this process: it is not mounted, or another PID namespace's";
    else if (sight->hidden && (access("/proc/1/stat", R_OK) != 0))
        sentence = "/proc hides the processes of other users (hidepid)";
    else if (sight->hidden)
        sentence = "processes outside of this PID namespace are not shown";
    (void)snprintf(sight->sentence, sizeof sight->sentence, "%s", sentence);
}

static int scan_all(struct scan *scan, int32_t self)
{
    DIR *processes = opendir("/proc");
    struct machine_sight *sight = &scan->list->sight;
    if (!processes)
        return 0; /* judged already */
    for (struct dirent *entry; scan->error == 0 && (entry = readdir(processes));) {
        int32_t pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;
        if (pid == 0 || pid == self)
            continue;
        int result = scan_process(scan, pid);
        sight->denied += result == -EACCES;
        if (result == -ENOMEM || result == -EMFILE || result == -ENFILE)
            scan->error = result;
    }
    (void)closedir(processes);
    if (sight->denied > 0 && !sight->hidden)
        (void)snprintf(sight->sentence, sizeof sight->sentence, "%u process%s may not be looked at", sight->denied,
                       sight->denied == 1 ? "" : "es");
    return scan->error;
}

int machine_find_users(struct machine_list *list)
{
    char self[16] = "";
    struct scan scan = {.list = list};
    int result = 0;
    for (size_t i = 0; i < list->count && result == 0; i++)
        if (list->objects[i].inode != 0 || list->objects[i].device == MACHINE_SYSV_DEVICE)
            result = add_entry(&scan, list->objects[i].device, list->objects[i].inode, i);
    ssize_t length = readlink("/proc/self", self, sizeof self - 1);
    int32_t own = length > 0 ? atoi(self) : 0; /* this process's number as that /proc counts */
    judge_proc(&list->sight, own);
    if (result == 0)
        result = scan_all(&scan, own);
    free(scan.entries);
    return result;
}
