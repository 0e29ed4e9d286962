/* signal.c - `cove signal SEGMENT/EVENT`: set an event, or reset it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "sync.h"

static struct sync_given given;
static int reset;

static const struct poptOption options[] = {
    {"reset", 'r', POPT_ARG_NONE, &reset, 0, "unset it; its version stays", NULL},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "accept a segment that belongs to another user", NULL},
    {"json", 'j', POPT_ARG_NONE, &given.json, 0, "print what it is afterwards, as a JSON object", NULL},
    POPT_TABLEEND,
};

static enum sync_type choose(const char *name, const char *found)
{
    if (!found || sync_type_of(found) == SYNC_EVENT)
        return SYNC_EVENT;
    cli_say(name, "its type is %s; cove signal sets events%s", found,
            sync_type_of(found) == SYNC_COUNTER ? ", and cove count changes counters" : "");
    return SYNC_OTHER;
}

static int run(const struct cli_call *call)
{
    struct sync_thing event;
    uint64_t version = 0;
    int is_set = 0;
    int status = sync_open(&event, call->names[0], "event", &given, 0, choose, &(struct cove_sync_options){0});
    if (status >= 0)
        return status;
    int result = reset ? cove_event_reset(event.segment, event.address) : cove_event_set(event.segment, event.address);
    if (result >= 0 && given.json)
        result = cove_event_look(event.segment, event.address, &version, &is_set);
    if (result < 0)
        return sync_close(&event, sync_failed(&event, result));
    if (given.json)
        sync_print_event(&event, version, is_set != 0, true);
    return sync_close(&event, CLI_DONE);
}

const struct cli_verb cli_signal = {
    .name = "signal",
    .arguments = "SEGMENT/EVENT",
    .summary = "set an event, so that all who wait for it go on",
    .text =
        "Creates what is missing. An event that is set stays set until it is reset; its version is one more each time\n"
        "it is set, so that 'cove wait --beyond' can wait for the next time.\n\n"
        "  cove signal robot/ready\n"
        "  cove signal robot/ready --reset",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
