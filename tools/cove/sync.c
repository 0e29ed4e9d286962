/* sync.c - what the verbs of locks and meeting points share: their types, opening by name, waiting, printing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The object decides of which type it is. A verb tries the type that it would make; where another type is found it is
 * asked again. So nothing is looked up first that may be otherwise a moment later. */
#include "sync.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TRIES 10 /* of an object that others remove and make anew as another type all the time */

/* ---- types ---- */

#define OPENER(noun)                                                                  \
    static int open_##noun(void **address, cove_segment *segment, const char *object, \
                           const struct cove_sync_options *options)                   \
    {                                                                                 \
        cove_##noun *opened = NULL;                                                   \
        int result = cove_##noun##_open_in(&opened, segment, object, options);        \
        *address = opened;                                                            \
        return result;                                                                \
    }

OPENER(mutex)
OPENER(rwlock)
OPENER(semaphore)
OPENER(event)
OPENER(condition)
OPENER(barrier)
OPENER(once)
OPENER(counter)

static const struct {
    const char *name;
    int (*open_in)(void **address, cove_segment *segment, const char *object, const struct cove_sync_options *options);
} types[SYNC_TYPE_COUNT] = {
    [SYNC_MUTEX] = {"mutex", open_mutex},
    [SYNC_RWLOCK] = {"rwlock", open_rwlock},
    [SYNC_SEMAPHORE] = {"semaphore", open_semaphore},
    [SYNC_EVENT] = {"event", open_event},
    [SYNC_CONDITION] = {"condition", open_condition},
    [SYNC_BARRIER] = {"barrier", open_barrier},
    [SYNC_ONCE] = {"once", open_once},
    [SYNC_COUNTER] = {"counter", open_counter},
};

const char *sync_type_name(enum sync_type type)
{
    return types[type].name;
}

enum sync_type sync_type_of(const char *name)
{
    for (unsigned type = 0; type < SYNC_TYPE_COUNT; type++)
        if (strcmp(types[type].name, name) == 0)
            return (enum sync_type)type;
    return SYNC_OTHER;
}

int sync_open_in(enum sync_type type, void **address, cove_segment *segment, const char *object,
                 const struct cove_sync_options *options)
{
    return types[type].open_in(address, segment, object, options);
}

/* ---- opening ---- */

/* The name of the object's type; "" where it is not there. Returns 0 or an error. */
static int find_type(cove_segment *segment, const char *object, char type[32])
{
    struct cove_object_info *objects;
    int64_t count = cli_objects(segment, &objects);
    *type = '\0';
    for (int64_t i = 0; i < count; i++)
        if (strcmp(objects[i].name, object) == 0)
            (void)snprintf(type, 32, "%s", objects[i].type);
    free(objects);
    return count < 0 ? (int)count : 0;
}

static int open_failed(const struct sync_thing *thing, int result)
{
    return result == COVE_EOWNER ? cli_failed_owner(thing->name, "say --any-owner if you trust that user")
                                 : cli_failed_name(thing->name, result);
}

/* Returns as sync_open. The options are the new object's: one that is there is not asked for them. */
static int open_object(struct sync_thing *thing, sync_choose *choose, const struct cove_sync_options *options)
{
    char found[32] = "";
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        struct cove_sync_options plain = {.flags = options->flags};
        thing->type = choose(thing->name, *found ? found : NULL);
        if (thing->type == SYNC_OTHER)
            return CLI_FAILED;
        int result = sync_open_in(thing->type, &thing->address, thing->segment, thing->parts.object,
                                  *found ? &plain : options);
        thing->is_new = result == COVE_CREATED;
        if (result >= 0)
            return -1;
        if (result != COVE_ETYPE)
            return open_failed(thing, result);
        result = find_type(thing->segment, thing->parts.object, found);
        if (result < 0)
            return cli_failed(thing->name, result);
    }
    cli_say(thing->name, "it is removed and made again as something else all the time; somebody fights for the name");
    return CLI_FAILED;
}

int sync_open(struct sync_thing *thing, const char *name, const char *kind, const struct sync_given *given,
              uint32_t segment_flags, sync_choose *choose, const struct cove_sync_options *options)
{
    uint32_t existing = given->existing ? COVE_EXISTING : 0;
    struct cove_options of_segment = {.flags = segment_flags | existing | (given->any_owner ? COVE_ANY_OWNER : 0)};
    struct cove_sync_options of_object = *options;
    *thing = (struct sync_thing){.name = name};
    of_object.flags |= existing;
    if (!cli_is_object_name(name, kind, &thing->parts))
        return CLI_USE;
    if (cove_supports(thing->parts.segment, COVE_CAN_NAME) == 0) {
        cli_say(name, "it would have no name by which others could find it, and be gone when this command ends");
        return CLI_USE;
    }
    int result = cove_open(&thing->segment, thing->parts.segment, &of_segment);
    if (result < 0)
        return open_failed(thing, result);
    int status = open_object(thing, choose, &of_object);
    if (status >= 0)
        return sync_close(thing, status);
    if (thing->is_new)
        cli_say_created(name, sync_type_name(thing->type));
    return -1;
}

int sync_close(struct sync_thing *thing, int status)
{
    int result = cove_close(thing->segment);
    if (result >= 0 || status != CLI_DONE)
        return status;
    (void)cli_failed(thing->name, result);
    return CLI_FAILED;
}

/* ---- waiting ---- */

void sync_heed_signal(struct sync_thing *thing)
{
    if (!cli_stopped())
        return;
    (void)cove_close(thing->segment);
    cli_stop_die(cli_stopped());
}

int sync_failed(struct sync_thing *thing, int result)
{
    if (result == -EINTR)
        sync_heed_signal(thing);
    int status = cli_failed(thing->name, result);
    return result == -EBUSY ? CLI_TIMEOUT : status; /* it would have to wait */
}

/* ---- printing ---- */

static struct json_object *json_of(const struct sync_thing *thing)
{
    char full[CLI_NAME_BYTES];
    struct json_object *line = cli_json(sync_type_name(thing->type));
    cli_json_text(line, "name", cli_name_join(full, thing->parts.segment, thing->parts.object));
    json_object_object_add(line, "created", json_object_new_boolean(thing->is_new));
    return line;
}

void sync_print_event(const struct sync_thing *thing, uint64_t version, bool is_set, bool json)
{
    if (!json) {
        printf("%" PRIu64 "\n", version);
        return;
    }
    struct json_object *line = json_of(thing);
    cli_json_number(line, "event_version", version);
    json_object_object_add(line, "set", json_object_new_boolean(is_set));
    cli_json_print(line);
}

void sync_print_counter(const struct sync_thing *thing, int64_t value, bool json)
{
    if (!json) {
        printf("%" PRId64 "\n", value);
        return;
    }
    struct json_object *line = json_of(thing);
    cli_json_signed(line, "value", value);
    cli_json_print(line);
}
