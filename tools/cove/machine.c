/* machine.c - the list of all shared memory: gathering it, and finding one thing in it by its name.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A list is made in four steps: what is there, who uses it, which of the things that only show as a mapping of some
 * process are Cove's, and what follows for each object's use. Nothing is taken from one step to the next on trust: an
 * object that went meanwhile is an object without users, and whoever removes it is told that it is missing. */
#include "machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *machine_kind_name(enum machine_kind kind)
{
    static const char *const names[] = {[MACHINE_SEGMENT] = "segment",
                                        [MACHINE_REGION] = "region",
                                        [MACHINE_SEMAPHORE] = "semaphore",
                                        [MACHINE_SEMAPHORES] = "semaphores",
                                        [MACHINE_QUEUE] = "queue"};
    return names[kind];
}

const char *machine_backend_name(enum machine_backend backend)
{
    static const char *const names[] = {
        [MACHINE_POSIX] = "posix",   [MACHINE_FILE] = "file",     [MACHINE_MEMFD] = "memfd",
        [MACHINE_HUGE] = "huge",     [MACHINE_SYSV_SHM] = "sysv", [MACHINE_SYSV_SEM] = "sysv",
        [MACHINE_SYSV_MSG] = "sysv", [MACHINE_MQUEUE] = "posix"};
    return names[backend];
}

struct machine_object *machine_add(struct machine_list *list, enum machine_kind kind, enum machine_backend backend,
                                   const char *name)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 32;
        struct machine_object *grown = realloc(list->objects, room * sizeof *grown);
        if (!grown)
            return NULL;
        list->objects = grown;
        list->room = room;
    }
    char *escaped = machine_escape(name);
    if (!escaped)
        return NULL;
    struct machine_object *object = &list->objects[list->count++];
    *object = (struct machine_object){.kind = kind, .backend = backend, .name = escaped, .system_id = -1};
    return object;
}

static void forget(struct machine_object *object)
{
    free(object->name);
    free(object->path);
    free(object->reach);
    free(object->segment);
    free(object->users);
}

void machine_drop(struct machine_list *list, struct machine_object *object)
{
    forget(object);
    size_t behind = list->count - (size_t)(object - list->objects) - 1;
    memmove(object, object + 1, behind * sizeof *object);
    list->count--;
}

void machine_free(struct machine_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        forget(&list->objects[i]);
    free(list->objects);
    if (list->queues >= 0)
        (void)close(list->queues);
    *list = (struct machine_list){.queues = -1};
}

int machine_add_user(struct machine_object *object, const struct machine_user *user)
{
    for (size_t i = 0; i < object->user_count; i++)
        if (object->users[i].pid == user->pid)
            return 0;
    struct machine_user *grown = realloc(object->users, (object->user_count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    object->users = grown;
    grown[object->user_count++] = *user;
    return 0;
}

/* ---- all of it ---- */

static int by_kind_and_name(const void *left, const void *right)
{
    const struct machine_object *a = left, *b = right;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* The later steps, and the list's order. */
static int complete(struct machine_list *list, unsigned flags)
{
    int result = machine_find_users(list);
    if (result < 0)
        return result;
    machine_inspect_candidates(list, flags);
    machine_decide_use(list, flags);
    if (list->count > 1)
        qsort(list->objects, list->count, sizeof *list->objects, by_kind_and_name);
    return 0;
}

int machine_list(struct machine_list *list, unsigned flags)
{
    static int (*const adders[])(struct machine_list *) = {machine_add_plain, machine_add_posix, machine_add_huge,
                                                           machine_add_sysv, machine_add_mqueue};
    int first_error = 0;
    *list = (struct machine_list){.queues = -1};
    for (size_t i = 0; i < sizeof adders / sizeof *adders; i++) {
        int result = adders[i](list);
        if (result < 0 && first_error == 0)
            first_error = result;
    }
    int result = complete(list, flags);
    return result < 0 ? result : first_error;
}

/* ---- one of it ---- */

static bool starts(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* "sem:/door" and "sem:door" are the same, as they are for sem_open. */
static const char *without_slash(const char *name)
{
    return name + (*name == '/');
}

static int look_file(struct machine_list *list, enum machine_kind kind, enum machine_backend backend, const char *name,
                     const char *directory, const char *file)
{
    char path[4096];
    if (!*file || (*directory && strchr(file, '/')))
        return -ENOENT;
    int length = snprintf(path, sizeof path, "%s%s%s", directory, *directory ? "/" : "", file);
    return length < 0 || (size_t)length >= sizeof path ? -ENAMETOOLONG
                                                       : machine_add_file(list, kind, backend, name, path);
}

/* What has a file of its own is looked up; the rest is listed, and picked from by `pick`. */
static int add_named(struct machine_list *list, const char *raw)
{
    char file[300];
    if (starts(raw, "sem:")) {
        (void)snprintf(file, sizeof file, "sem.%s", without_slash(raw + 4));
        return look_file(list, MACHINE_SEMAPHORE, MACHINE_POSIX, raw, MACHINE_SHM, raw[4] ? file : "");
    }
    if (starts(raw, "posix:"))
        return look_file(list, MACHINE_REGION, MACHINE_POSIX, raw, cove_directory(), without_slash(raw + 6));
    if (starts(raw, "file:"))
        return look_file(list, MACHINE_REGION, MACHINE_FILE, raw, "", raw + 5);
    if (starts(raw, "mq:"))
        return machine_add_mqueue(list);
    if (starts(raw, "huge:") || starts(raw, "hugetry:"))
        return machine_add_huge(list);
    if (starts(raw, "memfd:") || starts(raw, "anon:"))
        return 0; /* found by looking through the processes */
    if (starts(raw, "sysv:") || starts(raw, "sysvsem:") || starts(raw, "sysvmsg:"))
        return machine_add_sysv(list);
    (void)snprintf(file, sizeof file, "%s.cove", raw);
    return look_file(list, MACHINE_SEGMENT, MACHINE_POSIX, raw, cove_directory(), machine_is_plain(raw) ? file : "");
}

/* Is it the one that was asked for? */
enum wanted_by { BY_FILE, BY_NUMBER, BY_NAME };
struct wanted {
    const char *raw;
    char *escaped;
    enum wanted_by by;
    bool by_id; /* BY_NUMBER */
    enum machine_backend backend;
    uint32_t number;
};

static bool is_wanted(const struct machine_object *object, const struct wanted *wanted)
{
    switch (wanted->by) {
    case BY_FILE: /* it was added alone */
        return !object->is_candidate;
    case BY_NUMBER:
        return object->backend == wanted->backend &&
               (wanted->by_id ? object->system_id == (int32_t)wanted->number
                              : object->key == wanted->number && object->key != 0);
    case BY_NAME:
        break;
    }
    bool same_queue = object->backend == MACHINE_MQUEUE && starts(wanted->escaped, "mq:") &&
                      strcmp(without_slash(object->name + 3), without_slash(wanted->escaped + 3)) == 0;
    return same_queue || strcmp(object->name, wanted->escaped) == 0;
}

static void pick(struct machine_list *list, const struct wanted *wanted)
{
    for (size_t i = list->count; i-- > 0;)
        if (!is_wanted(&list->objects[i], wanted))
            machine_drop(list, &list->objects[i]);
}

/* Returns false for a name of System V's that holds no key, path or id. */
static bool understand(struct wanted *wanted)
{
    static const char *const listed[] = {"mq:", "huge:", "hugetry:", "memfd:", "anon:"};
    wanted->by = BY_FILE;
    for (size_t i = 0; i < sizeof listed / sizeof *listed; i++)
        if (starts(wanted->raw, listed[i]))
            wanted->by = BY_NAME;
    bool is_sysv = starts(wanted->raw, "sysv:") || starts(wanted->raw, "sysvsem:") || starts(wanted->raw, "sysvmsg:");
    if (is_sysv)
        wanted->by = BY_NUMBER;
    return !is_sysv || machine_name_sysv(wanted->raw, &wanted->backend, &wanted->by_id, &wanted->number);
}

static int look(struct machine_list *list, struct wanted *wanted, unsigned flags)
{
    if (!understand(wanted))
        return COVE_ENAME;
    int result = add_named(list, wanted->raw);
    if (result < 0)
        return result;
    bool is_nameless = starts(wanted->raw, "memfd:") || starts(wanted->raw, "anon:");
    pick(list, wanted);
    if (list->count > 0 || is_nameless)
        result = complete(list, flags | MACHINE_FILES);
    pick(list, wanted);
    return result < 0 ? result : list->count == 0 ? -ENOENT : 0;
}

int machine_look(struct machine_list *list, const char *name, unsigned flags)
{
    *list = (struct machine_list){.queues = -1};
    char *raw = strdup(name);
    if (!raw)
        return -ENOMEM;
    machine_unescape(raw);
    struct wanted wanted = {.raw = raw, .escaped = machine_escape(raw)};
    int result = wanted.escaped ? look(list, &wanted, flags) : -ENOMEM;
    free(wanted.escaped);
    free(raw);
    return result;
}

/* ---- nothing of that name ---- */

/* The nearest name of the same kind of object, at most two typing errors away. */
static bool nearest(const char *name, char found[CLI_NAME_BYTES])
{
    struct machine_list list;
    unsigned best = 3;
    size_t prefix = strcspn(name, ":") + 1;
    (void)machine_list(&list, 0);
    for (size_t i = 0; i < list.count; i++) {
        const char *other = list.objects[i].name;
        unsigned distance = strncmp(other, name, prefix) == 0 ? cli_distance(name, other) : best;
        if (distance > 0 && distance < best && strlen(name) > prefix + distance) {
            best = distance;
            (void)snprintf(found, CLI_NAME_BYTES, "%s", other);
        }
    }
    machine_free(&list);
    return best < 3;
}

int machine_failed(const char *name, const struct machine_list *list, int result)
{
    char found[CLI_NAME_BYTES];
    if (result == COVE_ENAME) {
        cli_say(name,
                "behind the ':' belongs a key (0x5eed), an existing path and a number of 1 to 255 (PATH:7), or an "
                "id (id=12)");
        return CLI_USE;
    }
    if (result == COVE_ENOTCOVE) {
        cli_say(name, "it is no memory, but a directory, a link or the like; rm(1) removes it");
        return CLI_FAILED;
    }
    if (result != -ENOENT) {
        cli_say(name, "it cannot be looked up: %s", cove_strerror(result));
        return CLI_FAILED;
    }
    if (*list->queues_unseen)
        cli_say(name, "%s", list->queues_unseen);
    else if (nearest(name, found))
        cli_say(name, "there is nothing of that name; did you mean %s?", found);
    else
        cli_say(name, "there is nothing of that name; 'cove ls' lists what there is");
    return CLI_NONAME;
}
