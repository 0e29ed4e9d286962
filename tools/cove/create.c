/* create.c - `cove create NAME`: a segment, an object in one, or a region, before anybody uses it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A signal that asks us to stop is noticed when the thing is there, and takes it away again: half of what was asked
 * for is never left behind. */
#include "sync.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct {
    char *type, *size, *max_size, *mode, *group, *lifetime, *capacity, *permits, *value, *lines;
    int fair;
} given;

static const struct poptOption options[] = {
    {"type", 0, POPT_ARG_STRING, &given.type, 0,
     "segment (default), region; of SEGMENT/OBJECT: stream, mutex, rwlock, semaphore, event, condition, barrier, once, "
     "counter",
     "TYPE"},
    {"size", 0, POPT_ARG_STRING, &given.size, 0, "bytes of a region; a segment's memory to begin with (default 256K)",
     "SIZE"},
    {"max-size", 0, POPT_ARG_STRING, &given.max_size, 0, "how far the segment may grow (default 64G)", "SIZE"},
    {"mode", 0, POPT_ARG_STRING, &given.mode, 0, "rights of the region or segment, in octal (default 600)", "MODE"},
    {"group", 0, POPT_ARG_STRING, &given.group, 0, "group of the region or segment (default: yours)", "GROUP"},
    {"lifetime", 0, POPT_ARG_STRING, &given.lifetime, 0,
     "keep: until it is removed (default); last-out: until its last member goes", "HOW"},
    {"capacity", 0, POPT_ARG_STRING, &given.capacity, 0, "size of a stream's ring, a power of two (default 1M)",
     "SIZE"},
    {"fair", 0, POPT_ARG_NONE, &given.fair, 0, "mutex: who waits longest is next", NULL},
    {"permits", 0, POPT_ARG_STRING, &given.permits, 0, "semaphore: permits at first (default 0)", "N"},
    {"value", 0, POPT_ARG_STRING, &given.value, 0, "counter: its value at first (default 0)", "N"},
    {"lines", 0, POPT_ARG_STRING, &given.lines, 0, "counter: cache lines that it is spread over (default none)", "N"},
    POPT_TABLEEND,
};

static bool read_lifetime(uint32_t *lifetime)
{
    if (!given.lifetime || strcmp(given.lifetime, "keep") == 0)
        *lifetime = COVE_KEEP;
    else if (strcmp(given.lifetime, "last-out") == 0)
        *lifetime = COVE_LAST_OUT;
    else {
        cli_say("--lifetime", "'%s' is no lifetime; say keep or last-out", given.lifetime);
        return false;
    }
    return true;
}

/* What is asked of the new thing; a part of it only concerns each type. */
struct wishes {
    struct cove_options segment;
    struct cove_stream_options stream;
    struct cove_sync_options sync;
};

static bool read_options(struct wishes *wishes)
{
    struct cove_options *segment = &wishes->segment;
    struct cove_sync_options *sync = &wishes->sync;
    segment->group = given.group;
    sync->fair = given.fair != 0;
    return read_lifetime(&segment->lifetime) && (!given.size || cli_size("--size", given.size, &segment->size_bytes)) &&
           (!given.max_size || cli_size("--max-size", given.max_size, &segment->max_size_bytes)) &&
           (!given.mode || cli_mode("--mode", given.mode, &segment->mode)) &&
           (!given.capacity || cli_size("--capacity", given.capacity, &wishes->stream.capacity_bytes)) &&
           (!given.permits || cli_count_of("--permits", given.permits, 0, COVE_SEMAPHORE_MAX, &sync->permits)) &&
           (!given.value || cli_number("--value", given.value, &sync->value)) &&
           (!given.lines || cli_count_of("--lines", given.lines, 1, SYNC_MOST_LINES, &sync->lines));
}

/* ---- which type is meant ---- */

enum create_kind { CREATE_SEGMENT, CREATE_REGION, CREATE_STREAM, CREATE_SYNC };

struct create_type {
    enum create_kind kind;
    enum sync_type sync;
};

static const char *const kinds[] = {
    [CREATE_SEGMENT] = "segment", [CREATE_REGION] = "region", [CREATE_STREAM] = "stream"};
#define KIND_COUNT (sizeof kinds / sizeof *kinds)

static const char *type_word(size_t index)
{
    return index < KIND_COUNT ? kinds[index] : sync_type_name((enum sync_type)(index - KIND_COUNT));
}
#define TYPE_COUNT (KIND_COUNT + SYNC_TYPE_COUNT)

static void no_such_type(const char *word)
{
    char all[160];
    size_t used = 0;
    unsigned best = 3;
    const char *nearest = NULL;
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        unsigned distance = cli_distance(word, type_word(i));
        if (distance < best && distance < strlen(type_word(i))) {
            best = distance;
            nearest = type_word(i);
        }
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s",
                                 i == 0                ? ""
                                 : i + 1 == TYPE_COUNT ? " or "
                                                       : ", ",
                                 type_word(i));
    }
    if (nearest)
        cli_say("--type", "there is no type '%s'; did you mean %s?", word, nearest);
    else
        cli_say("--type", "there is no type '%s'; say %s", word, all);
}

/* Has the name an object's part, as that type wants, or none? Says what is wrong. */
static bool fits_name(const char *name, const struct create_type *type)
{
    struct cli_name parts;
    bool of_object = type->kind == CREATE_STREAM || type->kind == CREATE_SYNC;
    if (of_object)
        return cli_is_object_name(name, type->kind == CREATE_STREAM ? "stream" : sync_type_name(type->sync), &parts);
    if (!cli_name_split(name, &parts))
        return false;
    if (*parts.object)
        cli_say(name, "%s",
                type->kind == CREATE_SEGMENT ? "a segment's name holds no '/' and no object"
                                             : "a region holds no objects: its name ends before the object's");
    return !*parts.object;
}

/* An object's type must be told. Says what is wrong. */
static bool read_type(const char *name, bool has_object, struct create_type *type)
{
    size_t found = CREATE_SEGMENT; /* without --type */
    if (!given.type && has_object) {
        cli_say(name, "of which type? say --type stream, or one of those that 'cove help create' lists");
        return false;
    }
    for (; given.type && found < TYPE_COUNT && strcmp(given.type, type_word(found)) != 0; found++)
        ;
    if (found == TYPE_COUNT) {
        no_such_type(given.type);
        return false;
    }
    type->kind = found < KIND_COUNT ? (enum create_kind)found : CREATE_SYNC;
    type->sync = found < KIND_COUNT ? SYNC_OTHER : (enum sync_type)(found - KIND_COUNT);
    return fits_name(name, type);
}

static bool refuse_option(const char *option, bool is_given, const char *where)
{
    if (is_given)
        cli_say(option, "it belongs to --type %s", where);
    return is_given;
}

/* An option that another type takes is not silently dropped. */
static bool check_options(const char *name, const struct create_type *type)
{
    if ((type->kind != CREATE_STREAM && refuse_option("--capacity", given.capacity != NULL, "stream")) ||
        (type->sync != SYNC_MUTEX && refuse_option("--fair", given.fair != 0, "mutex")) ||
        (type->sync != SYNC_SEMAPHORE && refuse_option("--permits", given.permits != NULL, "semaphore")) ||
        (type->sync != SYNC_COUNTER && (refuse_option("--value", given.value != NULL, "counter") ||
                                        refuse_option("--lines", given.lines != NULL, "counter"))))
        return false;
    if (type->kind != CREATE_REGION)
        return true;
    if (refuse_option("--max-size", given.max_size != NULL, "segment") ||
        refuse_option("--lifetime", given.lifetime != NULL, "segment"))
        return false;
    if (!given.size)
        cli_say(name, "how large? say --size");
    return given.size != NULL;
}

/* Nameless memory goes when this command does. */
static bool can_be_named(const char *name)
{
    if (cove_supports(name, COVE_CAN_NAME) != 0)
        return true; /* an impossible name gets its sentence from opening it */
    cli_say(name, "it would have no name by which others could find it, and be gone when this command ends");
    return false;
}

/* Options that only a new segment can take are not silently dropped for an old one. */
static bool segment_options_wasted(const char *name, int opened)
{
    bool wanted = given.size || given.max_size || given.mode || given.group || given.lifetime;
    if (opened == COVE_CREATED || !wanted)
        return false;
    cli_say(name, "the segment is there already and keeps its size, rights and lifetime; leave these options out, or "
                  "remove it first");
    return true;
}

/* The reading end is opened for a moment: an opened and closed writing end would be a stream that has ended. */
static int make_stream(cove_segment *segment, const char *object, struct cove_stream_options *wished)
{
    cove_stream *stream;
    wished->flags = COVE_EXCLUSIVE;
    int result = cove_stream_open_in(&stream, segment, object, COVE_READER, wished);
    return result < 0 ? result : cove_stream_close(stream);
}

static int make_object(cove_segment *segment, const char *name, const char *object, const struct create_type *type,
                       struct wishes *wishes)
{
    void *address;
    wishes->sync.flags = COVE_EXCLUSIVE;
    int result = type->kind == CREATE_STREAM ? make_stream(segment, object, &wishes->stream)
                                             : sync_open_in(type->sync, &address, segment, object, &wishes->sync);
    return result < 0 ? cli_failed(name, result) : CLI_DONE;
}

/* A segment that goes with its last member is held by us until we are told to go, which is then no failure. */
static bool held;
static int hold_and_close(const char *name, cove_segment *segment)
{
    held = true;
    cli_say(name, "there as long as this command runs, or others are attached; Ctrl-C ends it");
    while (!cli_stopped())
        (void)usleep((useconds_t)(CLI_SLICE_NS / 1000));
    int result = cove_close(segment);
    return result < 0 ? cli_failed(name, result) : CLI_DONE;
}

/* Who was asked to stop says nothing of what failed for that reason. */
static int create_failed(const char *name, int result)
{
    return cli_stopped() ? CLI_FAILED : cli_failed(name, result);
}

static int create_region(const char *name, const struct cove_options *as_segment)
{
    cove_region *region;
    struct cove_region_options region_options = {
        .flags = COVE_EXCLUSIVE,
        .access = COVE_ACCESS_NONE,
        .size_bytes = as_segment->size_bytes,
        .mode = as_segment->mode,
        .group = as_segment->group,
    };
    int result = cove_region_open(&region, name, &region_options);
    if (result < 0)
        return create_failed(name, result);
    (void)cove_region_close(region);
    if (cli_stopped())
        (void)cove_region_unlink(name, 0);
    return CLI_DONE;
}

/* Take away what was made of it. What others use by now stays: then it is whole. */
static void undo(cove_segment *segment, const struct cli_name *parts, bool is_new_segment, bool is_new_object)
{
    if (is_new_object && !is_new_segment)
        (void)cove_object_remove(segment, parts->object);
    (void)cove_close(segment);
    if (is_new_segment)
        (void)cove_unlink(parts->segment, 0);
}

/* A segment, and an object in it where one is named. */
static int create_segment(const char *name, const struct cli_name *parts, const struct create_type *type,
                          struct wishes *wishes)
{
    cove_segment *segment;
    bool of_object = *parts->object != '\0';
    wishes->segment.flags = of_object ? 0 : COVE_EXCLUSIVE;
    int opened = cove_open(&segment, parts->segment, &wishes->segment);
    if (opened < 0)
        return create_failed(parts->segment, opened);
    int status = of_object && segment_options_wasted(parts->segment, opened) ? CLI_USE : CLI_DONE;
    if (status == CLI_DONE && of_object)
        status = make_object(segment, name, parts->object, type, wishes);
    if (status != CLI_DONE || cli_stopped()) {
        undo(segment, parts, opened == COVE_CREATED, of_object && status == CLI_DONE);
        return status;
    }
    if (wishes->segment.lifetime == COVE_LAST_OUT)
        return hold_and_close(name, segment);
    int result = cove_close(segment);
    return result < 0 ? cli_failed(name, result) : CLI_DONE;
}

static int run(const struct cli_call *call)
{
    const char *name = call->names[0];
    struct wishes wishes = {0};
    struct cli_name parts;
    struct create_type type;
    if (!cli_name_split(name, &parts) || !read_type(name, *parts.object != '\0', &type) ||
        !check_options(name, &type) || !read_options(&wishes) || !can_be_named(parts.segment))
        return CLI_USE;
    cli_stop_install();
    int status = type.kind == CREATE_REGION ? create_region(name, &wishes.segment)
                                            : create_segment(name, &parts, &type, &wishes);
    if (cli_stopped() && !held)
        cli_stop_die(cli_stopped());
    return status;
}

const struct cli_verb cli_create = {
    .name = "create",
    .arguments = "NAME",
    .summary = "create a segment, an object in one, or a region",
    .text = "Fails when NAME is there already. Nothing needs to be created beforehand: the other verbs and cove_open\n"
            "create what is missing; this one is for sizes and rights.\n"
            "With --lifetime last-out it runs until it is interrupted, since the segment goes with its last member.\n"
            "A region is raw bytes, all zero, without any structure. 'cove help names' says what NAME may be.\n\n"
            "  cove create robot --mode 660 --group video\n"
            "  cove create robot/backup --type stream --capacity 16M\n"
            "  cove create robot/gpu --type semaphore --permits 2\n"
            "  cove create posix:/frame --type region --size 640K",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
