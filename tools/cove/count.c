/* count.c - `cove count SEGMENT/COUNTER [+N | -N | =N]`: change a counter, and print what it is then.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "sync.h"

static struct sync_given given;
static char *lines;

static const struct poptOption options[] = {
    {"lines", 'l', POPT_ARG_STRING, &lines, 0, "of a new counter: cache lines that it is spread over (default none)",
     "N"},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "accept a segment that belongs to another user", NULL},
    {"json", 'j', POPT_ARG_NONE, &given.json, 0, "print a JSON object", NULL},
    POPT_TABLEEND,
};

static enum sync_type choose(const char *name, const char *found)
{
    if (!found || sync_type_of(found) == SYNC_COUNTER)
        return SYNC_COUNTER;
    cli_say(name, "its type is %s; cove count takes counters%s", found,
            sync_type_of(found) == SYNC_EVENT ? ", and cove signal sets events" : "");
    return SYNC_OTHER;
}

/* "+3", "-3", "=3": what is done, and with which number. */
static bool read_change(const char *word, char *sign, int64_t *number)
{
    *sign = *word;
    if ((*sign == '+' || *sign == '-' || *sign == '=') && word[1] != '\0' && (*sign == '=' || word[1] != '-'))
        return cli_number("count", *sign == '=' ? word + 1 : word, number);
    cli_say(word, "how is it to change? say +N, -N or =N");
    return false;
}

static int change(const struct sync_thing *counter, char sign, int64_t number, int64_t *now)
{
    if (sign == '\0')
        return cove_counter_get(counter->segment, counter->address, now);
    if (sign != '=')
        return cove_counter_add(counter->segment, counter->address, number, now);
    *now = number;
    return counter->is_new ? 0 : cove_counter_set(counter->segment, counter->address, number, NULL);
}

static int run(const struct cli_call *call)
{
    struct sync_thing counter;
    struct cove_sync_options of_new = {0};
    char sign = '\0';
    int64_t number = 0, now = 0;
    if ((call->name_count > 1 && !read_change(call->names[1], &sign, &number)) ||
        (lines && !cli_count_of("--lines", lines, 1, SYNC_MOST_LINES, &of_new.lines)))
        return CLI_USE;
    if (sign == '=')
        of_new.value = number; /* a new one has it from its first moment */
    int status = sync_open(&counter, call->names[0], "counter", &given, 0, choose, &of_new);
    if (status >= 0)
        return status;
    int result = change(&counter, sign, number, &now);
    if (result < 0)
        return sync_close(&counter, sync_failed(&counter, result));
    sync_print_counter(&counter, now, given.json);
    return sync_close(&counter, CLI_DONE);
}

const struct cli_verb cli_count = {
    .name = "count",
    .arguments = "SEGMENT/COUNTER [+N|-N|=N]",
    .summary = "add to a counter, or set it, and print its value",
    .text =
        "Creates what is missing; a new counter begins at 0. Adding is one step, whoever else adds at the same time.\n"
        "Spread over lines, many can add at once without waiting for each other; it cannot be set then.\n\n"
        "  cove count robot/laps +1\n"
        "  cove count robot/laps =0\n"
        "  cove count robot/laps",
    .options = options,
    .least = 1,
    .most = 2,
    .takes_numbers = true,
    .run = run,
};
