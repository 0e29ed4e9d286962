/* rm.c - `cove rm NAME...`: remove segments, objects from them, and any other shared memory of the machine.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What somebody uses is removed only by force. He keeps the memory that he has mapped; System V queues and sets of
 * semaphores are gone for him too. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int force;

static const struct poptOption options[] = {
    {"force", 'f', POPT_ARG_NONE, &force, 0, "also what living processes use, or what is another user's", NULL},
    POPT_TABLEEND,
};

static int remove_object(const char *name, const struct cli_name *parts)
{
    cove_segment *segment;
    struct cove_options existing = {.flags = COVE_EXISTING};
    int result = cove_open(&segment, parts->segment, &existing);
    if (result == COVE_EOWNER)
        return cli_failed_owner(name, "its owner can remove it");
    if (result < 0)
        return cli_failed_name(name, result);
    result = cove_object_remove(segment, parts->object);
    int status = result < 0 ? cli_failed_name(name, result) : CLI_DONE;
    (void)cove_close(segment);
    return status;
}

/* ---- things of the machine ---- */

static bool has_name(const struct machine_object *object)
{
    return !object->is_removed && object->backend != MACHINE_MEMFD;
}

/* Is anybody's use of it in the way? System V queues and sets are unknown by nature: there it is not. */
static bool is_in_use(const struct machine_object *object)
{
    char users[200];
    bool never_known = object->backend == MACHINE_SYSV_MSG || object->backend == MACHINE_SYSV_SEM;
    if (force || object->use == MACHINE_UNUSED || (object->use == MACHINE_UNKNOWN && never_known))
        return false;
    machine_users_text(users, object);
    if (object->use == MACHINE_USED)
        cli_say(object->name, "it is in use %s; end that, or say --force", users);
    else
        cli_say(object->name, "whether it is in use is not known: %s; --force removes it all the same", users);
    return true;
}

static bool is_anothers(const struct machine_object *object)
{
    char owner[40];
    if (force || object->owner_uid == geteuid())
        return false;
    if (object->system_id >= 0 && object->figures.creator_uid == geteuid())
        return false;
    cli_say(object->name, "it belongs to %s; --force removes it, where you may",
            cli_show_owner(owner, object->owner_uid));
    return true;
}

/* System V memory with a key may have a side file of Cove's, which the library sees to. Returns 0 or a negated errno. */
static int take_name(const struct machine_list *list, const struct machine_object *object)
{
    bool has_key = object->backend == MACHINE_SYSV_SHM && object->key != 0;
    int result = has_key ? cove_region_unlink(object->name, force) : -EOPNOTSUPP;
    if (result != -EOPNOTSUPP)
        return result;
    if (object->system_id >= 0)
        return machine_remove_sysv(object);
    int directory = object->backend == MACHINE_MQUEUE ? list->queues : AT_FDCWD;
    return unlinkat(directory, object->path, 0) == 0 ? 0 : -errno;
}

static int remove_object_of_machine(const struct machine_list *list, const struct machine_object *object)
{
    if (!has_name(object)) {
        cli_say(object->name, "it has no name that could be removed; it goes with its last user");
        return CLI_FAILED;
    }
    if (is_anothers(object) || is_in_use(object))
        return CLI_FAILED;
    int result = take_name(list, object);
    if (result == 0)
        return CLI_DONE;
    if (result == -ENOENT) {
        cli_say(object->name, "it went meanwhile");
        return CLI_NONAME;
    }
    cli_say(object->name, "it cannot be removed: %s", cove_strerror(result));
    return CLI_FAILED;
}

/* The library's matter: it knows members, and refuses for them. `list` is what the machine has under that name. */
static int remove_segment(const char *name, const struct machine_list *list)
{
    int result = cove_unlink(name, force);
    if (result == COVE_EOWNER)
        return cli_failed_owner(name, "its owner can remove it");
    if (result == -ENOENT && strchr(name, ':'))
        return machine_failed(name, list, result);
    return result < 0 ? cli_failed_name(name, result) : CLI_DONE;
}

static int remove_whole(const char *name)
{
    struct machine_list list;
    int status, result = machine_look(&list, name, MACHINE_ASK);
    const struct machine_object *object = result == 0 ? &list.objects[0] : NULL; /* several are nameless ones only */
    bool is_segment = object && object->kind == MACHINE_SEGMENT && has_name(object);
    if (is_segment || (result == -ENOENT && !machine_is_foreign(name)))
        status = remove_segment(name, &list);
    else if (object)
        status = remove_object_of_machine(&list, object);
    else
        status = machine_failed(name, &list, result);
    machine_free(&list);
    return status;
}

static int remove_one(const char *name)
{
    struct cli_name parts;
    if (machine_is_foreign(name))
        return remove_whole(name);
    if (!cli_name_split(name, &parts))
        return CLI_USE;
    return *parts.object ? remove_object(name, &parts) : remove_whole(name);
}

static int run(const struct cli_call *call)
{
    int worst = CLI_DONE;
    for (int i = 0; i < call->name_count; i++) {
        int status = remove_one(call->names[i]);
        worst = status > worst ? status : worst;
    }
    return worst;
}

const struct cli_verb cli_rm = {
    .name = "rm",
    .arguments = "NAME...",
    .summary = "remove segments, objects from them, other shared memory",
    .text = "Takes every name that cove ls prints. What is in use wants --force. Those who have removed memory mapped "
            "go on\n"
            "with it, and it goes with the last of them.",
    .options = options,
    .least = 1,
    .most = -1,
    .run = run,
};
