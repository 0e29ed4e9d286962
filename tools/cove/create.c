/* create.c - `cove create NAME`: a segment, or an object in one, before anybody uses it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct {
    char *type, *size, *max_size, *mode, *group, *lifetime, *capacity;
} given;

static const struct poptOption options[] = {
    {"type", 0, POPT_ARG_STRING, &given.type, 0, "segment, or stream (SEGMENT/STREAM; makes the segment too)", "TYPE"},
    {"size", 0, POPT_ARG_STRING, &given.size, 0, "memory for objects to begin with (default 256K)", "SIZE"},
    {"max-size", 0, POPT_ARG_STRING, &given.max_size, 0, "how far the segment may grow (default 64G)", "SIZE"},
    {"mode", 0, POPT_ARG_STRING, &given.mode, 0, "rights of the segment, in octal (default 600)", "MODE"},
    {"group", 0, POPT_ARG_STRING, &given.group, 0, "group of the segment (default: yours)", "GROUP"},
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

/* Which type is meant: an object's must be told. Returns a status to end with, or -1. */
static int read_type(const char *name, bool *is_stream)
{
    bool has_object = strchr(name, '/') != NULL;
    if (!given.type && has_object) {
        cli_say(name, "of which type? say --type stream");
        return CLI_USE;
    }
    *is_stream = given.type && strcmp(given.type, "stream") == 0;
    if (given.type && !*is_stream && strcmp(given.type, "segment") != 0) {
        cli_say("--type", "there is no type '%s'; say segment or stream", given.type);
        return CLI_USE;
    }
    if (*is_stream != has_object) {
        cli_say(name, *is_stream ? "a stream's name is SEGMENT/STREAM" : "a segment's name holds no '/'");
        return CLI_USE;
    }
    if (!*is_stream && given.capacity) {
        cli_say("--capacity", "a segment has none; it belongs to --type stream");
        return CLI_USE;
    }
    return -1;
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

/* A segment that goes with its last member is held by us until we are told to go. */
static int hold(const char *name)
{
    cli_say(name, "there as long as this command runs, or others are attached; Ctrl-C ends it");
    cli_stop_install();
    while (!cli_stopped())
        (void)usleep((useconds_t)(CLI_SLICE_NS / 1000));
    return CLI_DONE;
}

static int run(const struct cli_call *call)
{
    const char *name = call->names[0];
    struct cove_options segment_options = {0};
    struct cove_stream_options stream_options = {0};
    struct cli_name parts;
    cove_segment *segment;
    bool is_stream;
    int status = read_type(name, &is_stream);
    if (status >= 0 || !read_options(&segment_options, &stream_options))
        return CLI_USE;
    if (!cli_name_split(name, &parts))
        return CLI_USE;
    segment_options.flags = is_stream ? 0 : COVE_EXCLUSIVE;
    int opened = cove_open(&segment, parts.segment, &segment_options);
    if (opened < 0)
        return cli_failed(parts.segment, opened);
    status = is_stream && segment_options_wasted(parts.segment, opened) ? CLI_USE : CLI_DONE;
    if (status == CLI_DONE && is_stream)
        status = make_stream(segment, name, parts.object, &stream_options);
    if (status == CLI_DONE && segment_options.lifetime == COVE_LAST_OUT)
        status = hold(parts.segment);
    int result = cove_close(segment);
    if (status != CLI_DONE && opened == COVE_CREATED) /* half of what was asked for is not left behind */
        (void)cove_unlink(parts.segment, 0);
    return status == CLI_DONE && result < 0 ? cli_failed(name, result) : status;
}

const struct cli_verb cli_create = {
    .name = "create",
    .arguments = "NAME",
    .summary = "create a segment, or an object in one",
    .text = "Fails when NAME is there already. Nothing needs to be created beforehand: the other verbs and cove_open\n"
            "create what is missing; this one is for sizes and rights.\n"
            "With --lifetime last-out it runs until it is interrupted, since the segment goes with its last member.\n\n"
            "  cove create robot --mode 660 --group video\n"
            "  cove create robot/backup --type stream --capacity 16M",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
