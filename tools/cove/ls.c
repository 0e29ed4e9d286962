/* ls.c - `cove ls [SEGMENT...]`: all shared memory of this machine, or the objects of some segments.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Nothing that takes memory is passed over: a file that bears a segment's name and is none is listed with what is
 * wrong in the place of what it holds. */
#include "machine.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static int json, exact, stale, all_files;

static const struct poptOption options[] = {
    {"stale", 's', POPT_ARG_NONE, &stale, 0, "only what no living process uses", NULL},
    {"all", 'a', POPT_ARG_NONE, &all_files, 0, "also files and nameless memory, not Cove's, that processes share",
     NULL},
    {"json", 'j', POPT_ARG_NONE, &json, 0, "print one JSON object a line", NULL},
    {"bytes", 'b', POPT_ARG_NONE, &exact, 0, "print sizes in bytes", NULL},
    POPT_TABLEEND,
};

/* ---- the machine ---- */

/* Returns how many rows there are, and of how many it is not known whether they are used. */
static size_t add_rows(struct cli_table *table, const struct machine_list *list, size_t *unknown)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct machine_object *object = &list->objects[i];
        *unknown += object->use == MACHINE_UNKNOWN;
        if (stale && object->use != MACHINE_UNUSED)
            continue;
        count++;
        if (json)
            machine_print_json(object);
        else
            machine_row(table, object, exact);
    }
    return count;
}

/* What could not be seen is said: a list that only looks whole would be believed. */
static void say_limits(const struct machine_list *list, size_t unknown)
{
    if (*list->queues_unseen)
        cli_say("ls", "%s", list->queues_unseen);
    if (stale && unknown > 0)
        cli_say("ls", "of %zu more nobody can tell whether they are used; 'cove ls' says why", unknown);
    else if (unknown > 0 && *list->sight.sentence)
        cli_say("ls", "who uses it is not all known: %s", list->sight.sentence);
}

static int list_machine(void)
{
    static const char *const columns[] = {"NAME", "TYPE", ">SIZE", "HOLDS", "MODE", "OWNER", "USED BY"};
    struct cli_table table = {.heads = columns, .column_count = sizeof columns / sizeof *columns};
    struct machine_list list;
    size_t unknown = 0;
    int result = machine_list(&list, (stale ? MACHINE_ASK : 0) | (all_files ? MACHINE_FILES : 0));
    size_t count = add_rows(&table, &list, &unknown);
    if (!json && count > 0)
        cli_table_print(&table, "");
    if (!json) {
        (void)fflush(stdout);
        if (count == 0 && result >= 0)
            cli_say("ls",
                    stale && list.count > 0 ? "nothing is known to be stale" : "nothing is shared on this machine");
        say_limits(&list, unknown);
    }
    machine_free(&list);
    return result < 0 ? CLI_FAILED : CLI_DONE;
}

static void size_cell(struct cli_table *table, size_t column, uint64_t size_bytes)
{
    char text[16];
    if (exact)
        cli_table_cell(table, column, "%llu", (unsigned long long)size_bytes);
    else
        cli_table_cell(table, column, "%s", cli_show_size(text, size_bytes));
}

/* ---- objects ---- */

static void add_object(struct cli_table *table, const char *segment, const struct cove_object_info *info)
{
    char name[CLI_NAME_BYTES];
    if (json) {
        cli_json_print(cli_object_json(segment, info));
        return;
    }
    cli_table_row(table);
    cli_table_cell(table, 0, "%s", cli_name_join(name, segment, info->name));
    cli_table_cell(table, 1, "%s", info->type);
    size_cell(table, 2, info->size_bytes);
    cli_table_cell(table, 3, "%s", info->figures);
}

static int add_objects(struct cli_table *table, const char *name)
{
    cove_segment *segment;
    struct cove_object_info *objects;
    int result = cli_open_readonly(&segment, name);
    if (result < 0)
        return cli_failed_name(name, result);
    int64_t count = cli_objects(segment, &objects);
    int status = count < 0 ? cli_failed(name, count) : CLI_DONE;
    for (int64_t i = 0; i < count; i++)
        add_object(table, name, &objects[i]);
    free(objects);
    (void)cove_close(segment);
    return status;
}

static int list_objects(const struct cli_call *call)
{
    static const char *const columns[] = {"NAME", "TYPE", ">SIZE", "FIGURES"};
    struct cli_table table = {.heads = columns, .column_count = sizeof columns / sizeof *columns};
    int worst = CLI_DONE;
    for (int i = 0; i < call->name_count; i++) {
        int status = add_objects(&table, call->names[i]);
        worst = status > worst ? status : worst;
    }
    if (!json && table.row_count > 0)
        cli_table_print(&table, "");
    return worst;
}

static int run(const struct cli_call *call)
{
    return call->name_count == 0 ? list_machine() : list_objects(call);
}

const struct cli_verb cli_ls = {
    .name = "ls",
    .arguments = "[SEGMENT...]",
    .summary = "list what is shared on this machine, or the objects of segments",
    .text =
        "Lists Cove's segments, other POSIX and System V shared memory, semaphores and message queues: what is in "
        "them\n"
        "(dead: members that died and were not yet recovered), and which living processes use them. 'unknown' is what\n"
        "nobody can prove, or only root may see. Names are as cove rm and cove stat take them; bytes that a terminal "
        "must\n"
        "not get stand as \\xHH.",
    .options = options,
    .most = -1,
    .run = run,
};
