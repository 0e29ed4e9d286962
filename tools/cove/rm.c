/* rm.c - `cove rm NAME...`: remove segments, or objects from them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli.h"

#include <errno.h>
#include <string.h>

static int force;

static const struct poptOption options[] = {
    {"force", 'f', POPT_ARG_NONE, &force, 0, "a segment that living processes are using: they keep what they have", NULL},
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

static int remove_one(const char *name)
{
    struct cli_name parts;
    if (!cli_name_split(name, &parts))
        return CLI_USE;
    if (strchr(name, '/'))
        return remove_object(name, &parts);
    int result = cove_unlink(name, force);
    if (result == COVE_EOWNER)
        return cli_failed_owner(name, "its owner can remove it");
    return result < 0 ? cli_failed_name(name, result) : CLI_DONE;
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
    .summary = "remove segments, or objects from them",
    .text = "What is in use wants --force. Those who are attached to a removed segment go on with it; its memory goes\n"
            "with the last of them.",
    .options = options,
    .least = 1,
    .most = -1,
    .run = run,
};
