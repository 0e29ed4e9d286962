/* ls.c - `cove ls [SEGMENT...]`: what is shared on this machine, or the objects of some segments.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A file that bears a segment's name and is none is listed with what is wrong in the place of its state: nothing that
 * takes memory is passed over. */
#include "cli.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int json, exact;

static const struct poptOption options[] = {
    {"json", 'j', POPT_ARG_NONE, &json, 0, "print one JSON object a line", NULL},
    {"bytes", 'b', POPT_ARG_NONE, &exact, 0, "print sizes in bytes", NULL},
    POPT_TABLEEND,
};

static void size_cell(struct cli_table *table, size_t column, uint64_t size_bytes)
{
    char text[16];
    if (exact)
        cli_table_cell(table, column, "%llu", (unsigned long long)size_bytes);
    else
        cli_table_cell(table, column, "%s", cli_show_size(text, size_bytes));
}

/* ---- segments ---- */

static const char *state_of_broken(int result)
{
    switch (result) {
    case COVE_ENOTCOVE:
        return "not Cove's";
    case COVE_ELAYOUT:
        return "other layout";
    case COVE_ECORRUPT:
        return "corrupt";
    case -EACCES:
        return "no access";
    default:
        return cove_errname(result);
    }
}

/* One line for a segment that cannot be looked at: what the file system says of it, and the state. */
static void add_broken(struct cli_table *table, const char *name, int result)
{
    char path[4096], owner[40];
    struct stat file;
    (void)snprintf(path, sizeof path, "%s/%s.cove", cove_directory(), name);
    if (lstat(path, &file) != 0)
        return; /* it went while we looked */
    uint64_t occupied = (uint64_t)file.st_blocks * 512;
    if (json) {
        struct json_object *line = cli_json("segment");
        cli_json_text(line, "name", name);
        cli_json_text(line, "state", state_of_broken(result));
        cli_json_text(line, "error", cove_errname(result));
        cli_json_number(line, "size_bytes", (uint64_t)file.st_size);
        cli_json_number(line, "resident_bytes", occupied);
        cli_json_number(line, "mode", file.st_mode & 07777);
        cli_json_number(line, "owner_uid", file.st_uid);
        cli_json_print(line);
        return;
    }
    cli_table_row(table);
    cli_table_cell(table, 0, "%s", name);
    cli_table_cell(table, 1, "-");
    size_cell(table, 2, (uint64_t)file.st_size);
    cli_table_cell(table, 3, "-");
    cli_table_cell(table, 4, "%04o", file.st_mode & 07777);
    cli_table_cell(table, 5, "%s", cli_show_owner(owner, file.st_uid));
    cli_table_cell(table, 6, "-");
    cli_table_cell(table, 7, "-");
    cli_table_cell(table, 8, "-");
    cli_table_cell(table, 9, "%s", state_of_broken(result));
}

static void print_segment_json(const struct cove_segment_info *info, uint64_t used)
{
    struct json_object *line = cli_json("segment");
    cli_json_text(line, "name", info->name);
    cli_json_text(line, "backend", info->backend);
    cli_json_text(line, "state", info->state);
    cli_json_number(line, "size_bytes", info->size_bytes);
    cli_json_number(line, "used_bytes", used);
    cli_json_number(line, "max_size_bytes", info->max_size_bytes);
    cli_json_number(line, "resident_bytes", info->resident_bytes);
    cli_json_number(line, "mode", info->mode);
    cli_json_number(line, "owner_uid", info->owner_uid);
    cli_json_number(line, "owner_gid", info->owner_gid);
    cli_json_number(line, "members_alive", info->members_alive);
    cli_json_number(line, "members_dead", info->members_dead);
    cli_json_number(line, "objects", info->object_count);
    cli_json_text(line, "lifetime", info->lifetime == COVE_LAST_OUT ? "last-out" : "keep");
    cli_json_print(line);
}

static void add_segment(struct cli_table *table, const char *name)
{
    struct cove_segment_info info;
    char owner[40];
    int result = cove_stat(name, &info);
    if (result < 0) {
        add_broken(table, name, result);
        return;
    }
    uint64_t used = info.heap_bytes - info.heap_free_bytes;
    if (json) {
        print_segment_json(&info, used);
        return;
    }
    cli_table_row(table);
    cli_table_cell(table, 0, "%s", name);
    cli_table_cell(table, 1, "%s", info.backend);
    size_cell(table, 2, info.size_bytes);
    size_cell(table, 3, used);
    cli_table_cell(table, 4, "%04o", info.mode & 07777);
    cli_table_cell(table, 5, "%s", cli_show_owner(owner, info.owner_uid));
    cli_table_cell(table, 6, "%u", info.members_alive);
    cli_table_cell(table, 7, "%u", info.members_dead);
    cli_table_cell(table, 8, "%u", info.object_count);
    cli_table_cell(table, 9, "%s", info.state);
}

static int list_segments(void)
{
    static const char *const columns[] = {"NAME",  "BACKEND", ">SIZE", ">USED",    "MODE",
                                          "OWNER", ">ALIVE",  ">DEAD", ">OBJECTS", "STATE"};
    struct cli_table table = {.heads = columns, .column_count = sizeof columns / sizeof *columns};
    char **names;
    int64_t count = cli_segments(&names);
    if (count < 0)
        return cli_failed(cove_directory(), count);
    for (int64_t i = 0; i < count; i++)
        add_segment(&table, names[i]);
    cli_segments_free(names, count);
    if (!json && count > 0)
        cli_table_print(&table, "");
    else if (!json)
        cli_say(cove_directory(), "nothing is shared here");
    return CLI_DONE;
}

/* ---- objects ---- */

static void add_object(struct cli_table *table, const char *segment, const struct cove_object_info *info)
{
    if (json) {
        cli_json_print(cli_object_json(segment, info));
        return;
    }
    cli_table_row(table);
    cli_table_cell(table, 0, "%s/%s", segment, info->name);
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
    return call->name_count == 0 ? list_segments() : list_objects(call);
}

const struct cli_verb cli_ls = {
    .name = "ls",
    .arguments = "[SEGMENT...]",
    .summary = "list what is shared here, or the objects of segments",
    .text = "ALIVE and DEAD count the processes that are attached, and those that died and were not yet recovered.\n"
            "A file that is no sound segment is listed with what is wrong as its state.",
    .options = options,
    .most = -1,
    .run = run,
};
