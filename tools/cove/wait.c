/* wait.c - `cove wait SEGMENT/OBJECT`: wait for an event, or for what a counter becomes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "sync.h"

static struct sync_given given;
static char *beyond, *at_least, *change_from;

static const struct poptOption options[] = {
    {"beyond", 'b', POPT_ARG_STRING, &beyond, 0, "event: until its version is greater (default: until it is set)",
     "VERSION"},
    {"at-least", 'a', POPT_ARG_STRING, &at_least, 0, "counter: until its value is this or more", "N"},
    {"change-from", 'c', POPT_ARG_STRING, &change_from, 0, "counter: until its value is another one", "N"},
    {"timeout", 't', POPT_ARG_STRING, &given.timeout, 0, "give up after so long (default: never)", "TIME"},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "accept a segment that belongs to another user", NULL},
    {"json", 'j', POPT_ARG_NONE, &given.json, 0, "print what it is then as a JSON object", NULL},
    POPT_TABLEEND,
};

static enum sync_type choose(const char *name, const char *found)
{
    bool counts = at_least || change_from;
    enum sync_type type = found ? sync_type_of(found) : counts ? SYNC_COUNTER : SYNC_EVENT;
    if (type != SYNC_EVENT && type != SYNC_COUNTER)
        cli_say(name, "its type is %s; cove wait waits for events and counters", found);
    else if (type == SYNC_EVENT && counts)
        cli_say(name, "it is an event, and --%s is for counters", at_least ? "at-least" : "change-from");
    else if (type == SYNC_COUNTER && beyond)
        cli_say(name, "it is a counter, and --beyond is for events; say --at-least N or --change-from N");
    else if (type == SYNC_COUNTER && !counts)
        cli_say(name, "it is a counter; say --at-least N or --change-from N");
    else
        return type;
    return SYNC_OTHER;
}

static int wait_event(const struct sync_thing *event, uint64_t version, int64_t timeout_ns)
{
    uint64_t now = 0;
    int is_set = 1;
    int result = beyond ? cove_event_wait_beyond(event->segment, event->address, version, &now, timeout_ns)
                        : cove_event_wait(event->segment, event->address, timeout_ns);
    if (result >= 0 && !beyond)
        result = cove_event_look(event->segment, event->address, &now, NULL);
    if (result >= 0 && given.json)
        result = cove_event_look(event->segment, event->address, NULL, &is_set);
    if (result >= 0)
        sync_print_event(event, now, is_set != 0, given.json);
    return result;
}

static int wait_counter(const struct sync_thing *counter, int64_t value, int64_t timeout_ns)
{
    int64_t now = 0;
    int result = at_least ? cove_counter_wait(counter->segment, counter->address, value, &now, timeout_ns)
                          : cove_counter_wait_change(counter->segment, counter->address, value, &now, timeout_ns);
    if (result >= 0)
        sync_print_counter(counter, now, given.json);
    return result;
}

static bool read_words(int64_t *number, int64_t *timeout_ns)
{
    if (!!beyond + !!at_least + !!change_from > 1) {
        cli_say("wait", "say only one of --beyond, --at-least and --change-from");
        return false;
    }
    if (beyond && *beyond == '-') {
        cli_say("--beyond", "'%s' is not a version; say 0 or more", beyond);
        return false;
    }
    return (!beyond || cli_number("--beyond", beyond, number)) &&
           (!at_least || cli_number("--at-least", at_least, number)) &&
           (!change_from || cli_number("--change-from", change_from, number)) &&
           (!given.timeout || cli_timeout("--timeout", given.timeout, timeout_ns));
}

static int run(const struct cli_call *call)
{
    struct sync_thing thing;
    int64_t number = 0, timeout_ns = COVE_FOREVER;
    const char *kind = at_least || change_from ? "counter" : "event";
    if (!read_words(&number, &timeout_ns))
        return CLI_USE;
    cli_stop_install();
    int status = sync_open(&thing, call->names[0], kind, &given, 0, choose, &(struct cove_sync_options){0});
    if (status >= 0)
        return status;
    sync_heed_signal(&thing);
    int result = thing.type == SYNC_EVENT ? wait_event(&thing, (uint64_t)number, timeout_ns)
                                          : wait_counter(&thing, number, timeout_ns);
    status = result < 0 ? sync_failed(&thing, result) : CLI_DONE;
    return sync_close(&thing, status);
}

const struct cli_verb cli_wait_verb = {
    .name = "wait",
    .arguments = "SEGMENT/OBJECT",
    .summary = "wait for an event, or for what a counter becomes",
    .text =
        "Prints the event's version, or the counter's value, and ends. Creates what is missing: a counter where one "
        "of\n"
        "its options is given, else an event. An event that is set is waited for no more; to wait for the next time\n"
        "that it is set, say what was printed the last time.\n\n"
        "  cove wait robot/ready --timeout 10s && ./drive\n"
        "  version=$(cove wait robot/frame --beyond \"$version\")\n"
        "  cove wait robot/arrived --at-least 4",
    .options = options,
    .least = 1,
    .most = 1,
    .run = run,
};
