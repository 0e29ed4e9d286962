/* gc.c - `cove gc`: clear up what dead processes left.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli.h"

#include <json-c/json.h>

static int json, dry_run;

static const struct poptOption options[] = {
    {"dry-run", 'n', POPT_ARG_NONE, &dry_run, 0, "only say what would be done", NULL},
    {"json", 'j', POPT_ARG_NONE, &json, 0, "print one JSON object a line", NULL},
    POPT_TABLEEND,
};

static void report(const char *name, const char *sentence, void *context)
{
    char clean_name[CLI_NAME_BYTES], clean[512];
    (void)context;
    if (!json) {
        printf("%s: %s\n", cli_clean(clean_name, sizeof clean_name, name), cli_clean(clean, sizeof clean, sentence));
        return;
    }
    struct json_object *line = cli_json("gc");
    cli_json_text(line, "name", name);
    cli_json_text(line, "text", sentence);
    json_object_object_add(line, "done", json_object_new_boolean(!dry_run));
    cli_json_print(line);
}

static int run(const struct cli_call *call)
{
    (void)call;
    int64_t count = cove_gc(dry_run, report, NULL);
    if (count < 0)
        return cli_failed(cove_directory(), count);
    if (count == 0 && !json)
        printf("nothing to clear up in %s\n", cove_directory());
    return CLI_DONE;
}

const struct cli_verb cli_gc = {
    .name = "gc",
    .arguments = "",
    .summary = "clear up what dead processes left",
    .text = "Recovers what dead members held, removes last-out segments that nobody alive is attached to, and the "
            "debris of\n"
            "creators that were killed. A whole segment of lifetime keep is never removed. Only your own segments are "
            "touched.\n"
            "Nobody needs to run it: whoever opens a segment, or waits for a dead process, does the same.",
    .options = options,
    .run = run,
};
