/* stat.c - `cove stat NAME...`: all that is known of a segment, an object, or other shared memory, without disturbing
 * anybody.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static int json;

static const struct poptOption options[] = {
    {"json", 'j', POPT_ARG_NONE, &json, 0, "print one JSON object a line", NULL},
    POPT_TABLEEND,
};

/* ---- one figure after the other ---- */

static void print_segment(const struct cove_segment_info *info)
{
    char owner[40], when[40];
    printf("%s\n", info->name);
    cli_line_text("state", info->state);
    cli_line_text("backend", info->backend);
    cli_line_size("size", info->size_bytes);
    cli_line_size("may grow to", info->max_size_bytes);
    cli_line_size("resident", info->resident_bytes);
    cli_line_size("heap", info->heap_bytes);
    cli_line_size("heap free", info->heap_free_bytes);
    printf("  %-12s %" PRIu64 "\n", "blocks", info->heap_block_count);
    printf("  %-12s %04o\n", "mode", info->mode & 07777);
    cli_line_text("owner", cli_show_owner(owner, info->owner_uid));
    cli_line_text("created", cli_show_when(when, info->created_ns));
    cli_line_text("lifetime", info->lifetime == COVE_LAST_OUT ? "last-out (goes with its last member)"
                                                              : "keep (until it is removed)");
    printf("  %-12s %u\n", "layout", info->layout);
    printf("  %-12s %u alive, %u dead, room for %u\n", "members", info->members_alive, info->members_dead,
           info->max_members);
    printf("  %-12s %u\n", "objects", info->object_count);
}

static void print_members(const struct cove_member_info *members, int64_t count)
{
    static const char *const columns[] = {">ROW", ">PID", "COMMAND", "OWNER", ">THREADS", "SINCE", "STATE"};
    struct cli_table table = {.heads = columns, .column_count = sizeof columns / sizeof *columns};
    char owner[40], when[40];
    for (int64_t i = 0; i < count; i++) {
        cli_table_row(&table);
        cli_table_cell(&table, 0, "%u", members[i].row);
        cli_table_cell(&table, 1, "%d", members[i].pid);
        cli_table_cell(&table, 2, "%s", members[i].command);
        cli_table_cell(&table, 3, "%s", cli_show_owner(owner, members[i].uid));
        cli_table_cell(&table, 4, "%u", members[i].lanes);
        cli_table_cell(&table, 5, "%s", cli_show_when(when, members[i].attached_ns));
        cli_table_cell(&table, 6, "%s", members[i].alive ? "alive" : "dead");
    }
    printf("\n");
    cli_table_print(&table, "  ");
}

static void print_objects(const struct cove_object_info *objects, int64_t count)
{
    static const char *const columns[] = {"OBJECT", "TYPE", ">SIZE", "FIGURES"};
    struct cli_table table = {.heads = columns, .column_count = sizeof columns / sizeof *columns};
    char size[16];
    for (int64_t i = 0; i < count; i++) {
        cli_table_row(&table);
        cli_table_cell(&table, 0, "%s", objects[i].name);
        cli_table_cell(&table, 1, "%s", objects[i].type);
        cli_table_cell(&table, 2, "%s", cli_show_size(size, objects[i].size_bytes));
        cli_table_cell(&table, 3, "%s", objects[i].figures);
    }
    printf("\n");
    cli_table_print(&table, "  ");
}

/* ---- an object ---- */

static void print_object(const char *name, const struct cove_object_info *info)
{
    char key[64], value[136], clean_key[64], clean[136], size[16];
    const char *figures = info->figures;
    int width = 12;
    while (cli_figure(&figures, key, value))
        width = (int)strlen(key) > width ? (int)strlen(key) : width;
    printf("%s\n", name);
    printf("  %-*s %s\n", width, "type", cli_clean(clean, sizeof clean, info->type));
    printf("  %-*s %u\n", width, "version", info->version);
    printf("  %-*s %s (%" PRIu64 " bytes)\n", width, "size", cli_show_size(size, info->size_bytes), info->size_bytes);
    for (figures = info->figures; cli_figure(&figures, key, value);)
        printf("  %-*s %s\n", width, cli_clean(clean_key, sizeof clean_key, key),
               cli_clean(clean, sizeof clean, value));
}

/* ---- the same as JSON ---- */

static void print_segment_json(const struct cove_segment_info *info)
{
    struct json_object *line = cli_json("segment");
    cli_json_text(line, "name", info->name);
    cli_json_text(line, "backend", info->backend);
    cli_json_text(line, "state", info->state);
    cli_json_number(line, "size_bytes", info->size_bytes);
    cli_json_number(line, "max_size_bytes", info->max_size_bytes);
    cli_json_number(line, "resident_bytes", info->resident_bytes);
    cli_json_number(line, "heap_bytes", info->heap_bytes);
    cli_json_number(line, "heap_free_bytes", info->heap_free_bytes);
    cli_json_number(line, "heap_blocks", info->heap_block_count);
    cli_json_number(line, "created_ns", info->created_ns);
    cli_json_number(line, "layout", info->layout);
    cli_json_text(line, "lifetime", info->lifetime == COVE_LAST_OUT ? "last-out" : "keep");
    cli_json_number(line, "mode", info->mode);
    cli_json_number(line, "owner_uid", info->owner_uid);
    cli_json_number(line, "owner_gid", info->owner_gid);
    cli_json_number(line, "max_members", info->max_members);
    cli_json_number(line, "members_alive", info->members_alive);
    cli_json_number(line, "members_dead", info->members_dead);
    cli_json_number(line, "objects", info->object_count);
    cli_json_number(line, "features", info->features);
    cli_json_print(line);
}

static void print_member_json(const char *segment, const struct cove_member_info *member)
{
    struct json_object *line = cli_json("member");
    cli_json_text(line, "segment", segment);
    cli_json_number(line, "row", member->row);
    cli_json_number(line, "generation", member->generation);
    json_object_object_add(line, "pid", json_object_new_int(member->pid));
    cli_json_number(line, "uid", member->uid);
    cli_json_number(line, "threads", member->lanes);
    json_object_object_add(line, "alive", json_object_new_boolean(member->alive != 0));
    cli_json_number(line, "attached_ns", member->attached_ns);
    cli_json_text(line, "command", member->command);
    cli_json_print(line);
}

/* ---- what is asked for ---- */

static int show_object(const char *name, const char *segment, const char *object,
                       const struct cove_object_info *objects, int64_t count)
{
    char nearest[CLI_NAME_BYTES];
    for (int64_t i = 0; i < count; i++) {
        if (strcmp(objects[i].name, object) != 0)
            continue;
        if (json)
            cli_json_print(cli_object_json(segment, &objects[i]));
        else
            print_object(name, &objects[i]);
        return CLI_DONE;
    }
    if (cli_nearest(name, nearest))
        cli_say(name, "the segment has no such object; did you mean %s?", nearest);
    else
        cli_say(name, "the segment has no such object; 'cove ls %s' lists what it has", segment);
    return CLI_NONAME;
}

static int show_segment(const char *name, cove_segment *segment, const struct cove_object_info *objects,
                        int64_t object_count)
{
    struct cove_segment_info info;
    struct cove_member_info *members;
    int result = cove_segment_stat(segment, &info);
    if (result < 0)
        return cli_failed(name, result);
    int64_t member_count = cli_members(segment, &members);
    if (member_count < 0)
        return cli_failed(name, member_count);
    if (json) {
        print_segment_json(&info);
        for (int64_t i = 0; i < member_count; i++)
            print_member_json(name, &members[i]);
        for (int64_t i = 0; i < object_count; i++)
            cli_json_print(cli_object_json(name, &objects[i]));
    } else {
        print_segment(&info);
        if (member_count > 0)
            print_members(members, member_count);
        if (object_count > 0)
            print_objects(objects, object_count);
    }
    free(members);
    return CLI_DONE;
}

/* What the machine has under that name; `refused` is why the library could not open it as a segment, or 0. */
static int show_foreign(const char *name, int refused)
{
    struct machine_list list;
    int result = machine_look(&list, name, 0), status = CLI_DONE;
    bool is_ours = result == 0 && list.objects[0].kind == MACHINE_SEGMENT && list.objects[0].broken;
    bool no_better = result < 0 && (refused == COVE_ENAME || result != -ENOENT);
    if (refused < 0 && (is_ours || no_better))
        status = cli_failed_name(name, refused);
    else if (result < 0)
        status = machine_failed(name, &list, result);
    for (size_t i = 0; status == CLI_DONE && i < list.count; i++) {
        if (json)
            machine_print_json(&list.objects[i]);
        else
            machine_print(&list.objects[i]);
    }
    machine_free(&list);
    return status;
}

/* May a region, or what else the machine has, be behind a name that the library opens as no segment? */
static bool may_be_foreign(const struct cli_name *parts, int result)
{
    return *parts->object == '\0' && (result == COVE_ENOTCOVE || result == COVE_ENAME || result == COVE_ETYPE ||
                                      result == -EOPNOTSUPP || (result == -ENOENT && strchr(parts->segment, ':')));
}

static int show(const char *name)
{
    struct cli_name parts;
    cove_segment *segment;
    struct cove_object_info *objects;
    if (machine_is_foreign(name))
        return show_foreign(name, 0);
    if (!cli_name_split(name, &parts))
        return CLI_USE;
    int result = cli_open_readonly(&segment, parts.segment);
    if (result < 0)
        return may_be_foreign(&parts, result) ? show_foreign(name, result) : cli_failed_name(name, result);
    int64_t count = cli_objects(segment, &objects);
    int status = count < 0       ? cli_failed(name, count)
                 : *parts.object ? show_object(name, parts.segment, parts.object, objects, count)
                                 : show_segment(name, segment, objects, count);
    free(objects);
    (void)cove_close(segment);
    return status;
}

static int run(const struct cli_call *call)
{
    int worst = CLI_DONE;
    for (int i = 0; i < call->name_count; i++) {
        if (i > 0 && !json)
            printf("\n");
        int status = show(call->names[i]);
        worst = status > worst ? status : worst;
    }
    return worst;
}

const struct cli_verb cli_stat = {
    .name = "stat",
    .arguments = "NAME...",
    .summary = "show all that is known of segments, objects, other memory",
    .text = "Takes every name that cove ls prints. Looks without taking part: nobody is disturbed, and nothing is "
            "recovered.",
    .options = options,
    .least = 1,
    .most = -1,
    .run = run,
};
