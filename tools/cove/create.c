/* create.c - `cove create NAME`: a segment, an object in one, or a region, before anybody uses it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A signal that asks us to stop is noticed when the thing is there, and takes it away again: half of what was asked
 * for is never left behind. */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct {
    char *type, *size, *max_size, *mode, *group, *lifetime, *capacity;
} given;

static const struct poptOption options[] = {
    {"type", 0, POPT_ARG_STRING, &given.type, 0,
     "segment (default), stream (SEGMENT/STREAM; makes the segment too), region", "TYPE"},
    {"size", 0, POPT_ARG_STRING, &given.size, 0, "bytes of a region; a segment's memory to begin with (default 256K)",
     "SIZE"},
    {"max-size", 0, POPT_ARG_STRING, &given.max_size, 0, "how far the segment may grow (default 64G)", "SIZE"},
    {"mode", 0, POPT_ARG_STRING, &given.mode, 0, "rights of the region or segment, in octal (default 600)", "MODE"},
    {"group", 0, POPT_ARG_STRING, &given.group, 0, "group of the region or segment (default: yours)", "GROUP"},
    {"lifetime", 0, POPT_ARG_STRING, &given.lifetime, 0,
     "keep: until it is removed (default); last-out: until its last member goes", "HOW"},
    {"capacity", 0, POPT_ARG_STRING, &given.capacity, 0, "size of a stream's ring, a power of two (default 1M)",
     "SIZE"},
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

static bool read_options(struct cove_options *segment, struct cove_stream_options *stream)
{
    segment->group = given.group;
    return read_lifetime(&segment->lifetime) && (!given.size || cli_size("--size", given.size, &segment->size_bytes)) &&
           (!given.max_size || cli_size("--max-size", given.max_size, &segment->max_size_bytes)) &&
           (!given.mode || cli_mode("--mode", given.mode, &segment->mode)) &&
           (!given.capacity || cli_size("--capacity", given.capacity, &stream->capacity_bytes));
}

/* ---- which type is meant ---- */

enum create_type { CREATE_SEGMENT, CREATE_STREAM, CREATE_REGION };

static const struct {
    const char *name;
    const char *bad_name; /* what is wrong with a name that has an object's part, or has none */
} types[] = {
    [CREATE_SEGMENT] = {"segment", "a segment's name holds no '/' and no object"},
    [CREATE_STREAM] = {"stream", "a stream's name is SEGMENT/STREAM"},
    [CREATE_REGION] = {"region", "a region holds no objects: its name ends before the object's"},
};
#define TYPE_COUNT (sizeof types / sizeof *types)

/* An object's type must be told. Says what is wrong. */
static bool read_type(const char *name, bool has_object, enum create_type *type)
{
    size_t found = CREATE_SEGMENT; /* without --type */
    if (!given.type && has_object) {
        cli_say(name, "of which type? say --type stream");
        return false;
    }
    for (; given.type && found < TYPE_COUNT && strcmp(given.type, types[found].name) != 0; found++)
        ;
    if (found == TYPE_COUNT) {
        cli_say("--type", "there is no type '%s'; say segment, stream or region", given.type);
        return false;
    }
    *type = (enum create_type)found;
    if (has_object != (*type == CREATE_STREAM))
        cli_say(name, "%s", types[found].bad_name);
    return has_object == (*type == CREATE_STREAM);
}

static bool refuse_option(const char *option, const char *word, const char *where)
{
    if (word)
        cli_say(option, "it belongs to --type %s", where);
    return word != NULL;
}

/* An option that another type takes is not silently dropped. */
static bool check_options(const char *name, enum create_type type)
{
    if (type != CREATE_STREAM && refuse_option("--capacity", given.capacity, "stream"))
        return false;
    if (type != CREATE_REGION)
        return true;
    if (refuse_option("--max-size", given.max_size, "segment") ||
        refuse_option("--lifetime", given.lifetime, "segment"))
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
static int make_stream(cove_segment *segment, const char *name, const char *object,
                       struct cove_stream_options *stream_options)
{
    cove_stream *stream;
    stream_options->flags = COVE_EXCLUSIVE;
    int result = cove_stream_open_in(&stream, segment, object, COVE_READER, stream_options);
    if (result < 0)
        return cli_failed(name, result);
    result = cove_stream_close(stream);
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
static void undo(cove_segment *segment, const struct cli_name *parts, bool is_new_segment, bool is_new_stream)
{
    if (is_new_stream && !is_new_segment)
        (void)cove_object_remove(segment, parts->object);
    (void)cove_close(segment);
    if (is_new_segment)
        (void)cove_unlink(parts->segment, 0);
}

/* A segment, and a stream in it where `object` names one. */
static int create_segment(const char *name, const struct cli_name *parts, struct cove_options *segment_options,
                          struct cove_stream_options *stream_options)
{
    cove_segment *segment;
    bool is_stream = *parts->object != '\0';
    segment_options->flags = is_stream ? 0 : COVE_EXCLUSIVE;
    int opened = cove_open(&segment, parts->segment, segment_options);
    if (opened < 0)
        return create_failed(parts->segment, opened);
    int status = is_stream && segment_options_wasted(parts->segment, opened) ? CLI_USE : CLI_DONE;
    if (status == CLI_DONE && is_stream)
        status = make_stream(segment, name, parts->object, stream_options);
    if (status != CLI_DONE || cli_stopped()) {
        undo(segment, parts, opened == COVE_CREATED, is_stream && status == CLI_DONE);
        return status;
    }
    if (segment_options->lifetime == COVE_LAST_OUT)
        return hold_and_close(name, segment);
    int result = cove_close(segment);
    return result < 0 ? cli_failed(name, result) : CLI_DONE;
}

static int run(const struct cli_call *call)
{
    const char *name = call->names[0];
    struct cove_options segment_options = {0};
    struct cove_stream_options stream_options = {0};
    struct cli_name parts;
    enum create_type type;
    if (!cli_name_split(name, &parts) || !read_type(name, *parts.object != '\0', &type) || !check_options(name, type) ||
        !read_options(&segment_options, &stream_options) || !can_be_named(parts.segment))
        return CLI_USE;
    cli_stop_install();
    int status = type == CREATE_REGION ? create_region(name, &segment_options)
                                       : create_segment(name, &parts, &segment_options, &stream_options);
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
            "  cove create posix:/frame --type region --size 640K",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
