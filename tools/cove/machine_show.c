/* machine_show.c - an object of the machine as a row of a table, as a page, and as JSON.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Everything foreign (names, commands) goes through what makes it fit for a terminal: cells, lines and JSON do so. */
#include "machine.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>

static const char *use_name(enum machine_use use)
{
    return use == MACHINE_USED ? "used" : use == MACHINE_UNUSED ? "unused" : "unknown";
}

static const char *state_name(const struct machine_object *object)
{
    if (object->segment)
        return object->segment->state;
    switch (object->broken) {
    case 0:
        return object->is_removed ? "removed" : "ready";
    case COVE_ENOTCOVE:
        return "not a file";
    case COVE_ELAYOUT:
        return "other layout";
    case COVE_ECORRUPT:
        return "corrupt";
    case -EACCES:
        return "no access";
    default:
        return cove_errname(object->broken);
    }
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* "python3(812)", and whether it is stopped: it holds what it has as long as it is. */
static char *user_text(char text[64], const struct machine_user *user)
{
    bool stopped = user->state == 'T' || user->state == 't';
    (void)snprintf(text, 64, "%s(%d%s)", user->command, (int)user->pid, stopped ? ", stopped" : "");
    return text;
}

/* ---- a row ---- */

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t room, const char *format, ...)
{
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + length, room - length, format, arguments);
    va_end(arguments);
}

static void segment_holds(char text[80], const struct machine_object *object)
{
    if (!object->segment) {
        append(text, 80, "%s", state_name(object));
        return;
    }
    append(text, 80, "%u object%s", object->segment->object_count, plural(object->segment->object_count));
    if (object->segment->members_dead > 0)
        append(text, 80, ", %u dead", object->segment->members_dead);
    if (strcmp(object->segment->state, "ready") != 0)
        append(text, 80, ", %s", object->segment->state);
}

/* What is in it, in few words. */
static char *holds(char text[80], const struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    text[0] = '\0';
    if (object->kind == MACHINE_SEGMENT)
        segment_holds(text, object);
    else if (object->kind == MACHINE_REGION)
        append(text, 80, "%s", object->is_removed ? "removed" : object->size_bytes == 0 ? "empty" : "-");
    else if (!figures->known)
        append(text, 80, "%s", object->broken ? state_name(object) : "no access");
    else if (object->kind == MACHINE_QUEUE)
        append(text, 80, "%" PRIu64 " message%s", figures->messages, plural(figures->messages));
    else if (object->kind == MACHINE_SEMAPHORE)
        append(text, 80, "value %" PRIu64, figures->value);
    else
        append(text, 80, "%" PRIu64 " semaphore%s", figures->count, plural(figures->count));
    if (figures->known && figures->waiting > 0)
        append(text, 80, ", %" PRIu64 " waiting", figures->waiting);
    return text;
}

/* Why it is called unused, or unknown; used by whom nobody can say. */
static void append_use(char *text, size_t room, const struct machine_object *object)
{
    bool by_last_user = object->backend == MACHINE_SYSV_MSG || object->backend == MACHINE_SYSV_SEM;
    if (object->use == MACHINE_UNUSED)
        append(text, room, "nobody");
    else if (object->use == MACHINE_UNKNOWN && by_last_user)
        append(text, room, "unknown: %s", object->why);
    else if (object->use == MACHINE_UNKNOWN)
        append(text, room, "unknown"); /* below the table stands why */
    else
        append(text, room, "%s", object->why);
}

static char *used_by(char text[400], const struct machine_object *object)
{
    char one[64];
    size_t members = object->segment ? object->segment->members_alive : 0;
    text[0] = '\0';
    for (size_t i = 0; i < object->user_count; i++) {
        if (strlen(text) > 300) {
            append(text, 400, " and %zu more", object->user_count - i);
            return text;
        }
        append(text, 400, "%s%s", i > 0 ? " " : "", user_text(one, &object->users[i]));
    }
    if (members > object->user_count)
        append(text, 400, "%s%zu not shown", *text ? " " : "", members - object->user_count);
    else if (object->user_count == 0 && object->figures.attached > 0)
        append(text, 400, "%" PRIu64 " not shown", object->figures.attached);
    else if (object->user_count == 0)
        append_use(text, 400, object);
    return text;
}

void machine_row(struct cli_table *table, const struct machine_object *object, bool exact_sizes)
{
    char size[16], held[80], users[400], owner[40];
    static const char *const short_kinds[] = {[MACHINE_SEGMENT] = "segment",
                                              [MACHINE_REGION] = "region",
                                              [MACHINE_SEMAPHORE] = "sem",
                                              [MACHINE_SEMAPHORES] = "semset",
                                              [MACHINE_QUEUE] = "queue"};
    cli_table_row(table);
    cli_table_cell(table, 0, "%s", object->name);
    cli_table_cell(table, 1, "%s", short_kinds[object->kind]);
    if (object->kind == MACHINE_SEMAPHORES)
        cli_table_cell(table, 2, "-");
    else if (exact_sizes)
        cli_table_cell(table, 2, "%" PRIu64, object->size_bytes);
    else
        cli_table_cell(table, 2, "%s", cli_show_size(size, object->size_bytes));
    cli_table_cell(table, 3, "%s", holds(held, object));
    cli_table_cell(table, 4, "%04o", object->mode & 07777);
    cli_table_cell(table, 5, "%s", cli_show_owner(owner, object->owner_uid));
    cli_table_cell(table, 6, "%s", used_by(users, object));
}

/* ---- a page ---- */

static void line_when(const char *key, uint64_t when_s)
{
    char when[40];
    cli_line_text(key, when_s > 0 ? cli_show_when(when, when_s * 1000000000) : "never");
}

/* "812 (python3)", or that it is gone: numbers are used again, so it is asked whether it is the same. */
static void line_pid(const char *key, int32_t pid, uint64_t when_s)
{
    struct machine_user user;
    char text[80];
    if (pid <= 0)
        (void)snprintf(text, sizeof text, "-");
    else if (machine_process_lives(pid, when_s, &user))
        (void)snprintf(text, sizeof text, "%d (%s)", (int)pid, user.command);
    else
        (void)snprintf(text, sizeof text, "%d (gone)", (int)pid);
    cli_line_text(key, text);
}

static void print_rights(const struct machine_object *object)
{
    char owner[40], creator[40];
    printf("  %-12s %04o\n", "mode", object->mode & 07777);
    cli_line_text("owner", cli_show_owner(owner, object->owner_uid));
    printf("  %-12s %u\n", "group", object->owner_gid);
    if (object->system_id < 0)
        return;
    cli_line_text("creator", cli_show_owner(creator, object->figures.creator_uid));
    printf("  %-12s %d\n", "id", (int)object->system_id);
    printf("  %-12s 0x%08x%s\n", "key", object->key, object->key == 0 ? " (private, or removed)" : "");
}

static void print_memory(const struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    cli_line_size("size", object->size_bytes);
    if (object->backend != MACHINE_SYSV_SHM) {
        cli_line_size("resident", object->resident_bytes);
        line_when("changed", figures->changed_s);
        return;
    }
    printf("  %-12s %" PRIu64 "\n", "attachments", figures->attached);
    line_pid("made by", figures->creator_pid, 0);
    line_pid("last used by", figures->last_pid,
             figures->attached_s > figures->detached_s ? figures->attached_s : figures->detached_s);
    line_when("attached", figures->attached_s);
    line_when("detached", figures->detached_s);
    line_when("changed", figures->changed_s);
}

static void print_queue(const struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    if (!figures->known) {
        cli_line_text("messages", "no right to look");
        return;
    }
    printf("  %-12s %" PRIu64 "\n", "messages", figures->messages);
    cli_line_size("in bytes", figures->message_bytes);
    if (object->backend == MACHINE_MQUEUE) {
        printf("  %-12s %" PRIu64 " messages of %" PRIu64 " bytes\n", "holds", figures->most_messages,
               figures->most_bytes);
        return;
    }
    cli_line_size("holds", figures->most_bytes);
    line_pid("last sender", figures->sender_pid, figures->sent_s);
    line_pid("last receiver", figures->receiver_pid, figures->received_s);
    line_when("sent", figures->sent_s);
    line_when("received", figures->received_s);
    line_when("changed", figures->changed_s);
}

static void print_semaphores(const struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    if (object->kind == MACHINE_SEMAPHORES)
        printf("  %-12s %" PRIu64 "\n", "semaphores", figures->count);
    if (!figures->known) {
        cli_line_text("value", "no right to look, or no semaphore");
        return;
    }
    printf("  %-12s %" PRIu64 "%s\n", "value", figures->value, figures->count > 1 ? " (of the first)" : "");
    printf("  %-12s %" PRIu64 "\n", "waiting", figures->waiting);
    if (object->kind == MACHINE_SEMAPHORES) {
        line_pid("last used by", figures->last_pid, figures->operated_s);
        line_when("last used", figures->operated_s);
    }
    line_when("changed", figures->changed_s);
}

static void print_users(const struct machine_object *object)
{
    static const char *const columns[] = {">PID", "COMMAND", "OWNER", "STATE"};
    struct cli_table table = {.heads = columns, .column_count = sizeof columns / sizeof *columns};
    char owner[40];
    for (size_t i = 0; i < object->user_count; i++) {
        const struct machine_user *user = &object->users[i];
        cli_table_row(&table);
        cli_table_cell(&table, 0, "%d", (int)user->pid);
        cli_table_cell(&table, 1, "%s", user->command);
        cli_table_cell(&table, 2, "%s", user->uid == UINT32_MAX ? "?" : cli_show_owner(owner, user->uid));
        cli_table_cell(&table, 3, "%s", user->state == 'T' || user->state == 't' ? "alive, stopped" : "alive");
    }
    if (object->user_count > 0) {
        printf("\n");
        cli_table_print(&table, "  ");
    }
}

void machine_print(const struct machine_object *object)
{
    char use[200];
    printf("%s\n", object->name);
    cli_line_text("type", machine_kind_name(object->kind));
    cli_line_text("backend", machine_backend_name(object->backend));
    if (object->broken || object->is_removed)
        cli_line_text("state", state_name(object));
    if (object->kind == MACHINE_QUEUE)
        print_queue(object);
    else if (object->kind == MACHINE_SEMAPHORE || object->kind == MACHINE_SEMAPHORES)
        print_semaphores(object);
    else
        print_memory(object);
    print_rights(object);
    (void)snprintf(use, sizeof use, "%s%s%s", use_name(object->use), *object->why ? ": " : "", object->why);
    cli_line_text("use", use);
    print_users(object);
}

/* ---- JSON ---- */

static void segment_json(struct json_object *line, const struct cove_segment_info *info)
{
    cli_json_number(line, "used_bytes", info->heap_bytes - info->heap_free_bytes);
    cli_json_number(line, "max_size_bytes", info->max_size_bytes);
    cli_json_number(line, "members_alive", info->members_alive);
    cli_json_number(line, "members_dead", info->members_dead);
    cli_json_number(line, "objects", info->object_count);
    cli_json_text(line, "lifetime", info->lifetime == COVE_LAST_OUT ? "last-out" : "keep");
}

static void queue_json(struct json_object *line, const struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    bool is_posix = object->backend == MACHINE_MQUEUE;
    if (!figures->known)
        return;
    cli_json_number(line, "messages", figures->messages);
    cli_json_number(line, "message_bytes", figures->message_bytes);
    if (is_posix)
        cli_json_number(line, "max_messages", figures->most_messages);
    cli_json_number(line, is_posix ? "max_message_bytes" : "max_bytes", figures->most_bytes);
}

static void semaphore_json(struct json_object *line, const struct machine_figures *figures)
{
    cli_json_number(line, "semaphores", figures->count);
    if (!figures->known)
        return;
    cli_json_number(line, "value", figures->value);
    cli_json_number(line, "waiting", figures->waiting);
}

static void number_unless_0(struct json_object *line, const char *key, uint64_t number)
{
    if (number > 0)
        cli_json_number(line, key, number);
}

static void sysv_json(struct json_object *line, const struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    cli_json_number(line, "id", (uint64_t)object->system_id);
    cli_json_number(line, "key", object->key);
    cli_json_number(line, "creator_uid", figures->creator_uid);
    cli_json_number(line, "creator_gid", figures->creator_gid);
    if (object->backend == MACHINE_SYSV_SHM)
        cli_json_number(line, "attachments", figures->attached);
    number_unless_0(line, "attached_s", figures->attached_s);
    number_unless_0(line, "detached_s", figures->detached_s);
    number_unless_0(line, "operated_s", figures->operated_s);
    number_unless_0(line, "sent_s", figures->sent_s);
    number_unless_0(line, "received_s", figures->received_s);
    number_unless_0(line, "changed_s", figures->changed_s);
    number_unless_0(line, "creator_pid", (uint64_t)figures->creator_pid);
    number_unless_0(line, "last_pid", (uint64_t)figures->last_pid);
    number_unless_0(line, "sender_pid", (uint64_t)figures->sender_pid);
    number_unless_0(line, "receiver_pid", (uint64_t)figures->receiver_pid);
}

static struct json_object *users_json(const struct machine_object *object)
{
    struct json_object *users = json_object_new_array();
    for (size_t i = 0; i < object->user_count; i++) {
        const struct machine_user *user = &object->users[i];
        struct json_object *one = json_object_new_object();
        json_object_object_add(one, "pid", json_object_new_int(user->pid));
        cli_json_text(one, "command", user->command);
        if (user->uid != UINT32_MAX)
            cli_json_number(one, "uid", user->uid);
        json_object_object_add(one, "stopped", json_object_new_boolean(user->state == 'T' || user->state == 't'));
        json_object_array_add(users, one);
    }
    return users;
}

void machine_print_json(const struct machine_object *object)
{
    struct json_object *line = cli_json(machine_kind_name(object->kind));
    cli_json_text(line, "name", object->name);
    cli_json_text(line, "backend", machine_backend_name(object->backend));
    cli_json_text(line, "state", state_name(object));
    if (object->broken)
        cli_json_text(line, "error", cove_errname(object->broken));
    cli_json_number(line, "size_bytes", object->size_bytes);
    cli_json_number(line, "resident_bytes", object->resident_bytes);
    cli_json_number(line, "mode", object->mode & 07777);
    cli_json_number(line, "owner_uid", object->owner_uid);
    cli_json_number(line, "owner_gid", object->owner_gid);
    if (object->segment)
        segment_json(line, object->segment);
    if (object->kind == MACHINE_QUEUE)
        queue_json(line, object);
    if (object->kind == MACHINE_SEMAPHORE || object->kind == MACHINE_SEMAPHORES)
        semaphore_json(line, &object->figures);
    if (object->system_id >= 0)
        sysv_json(line, object);
    cli_json_text(line, "use", use_name(object->use));
    if (*object->why)
        cli_json_text(line, "why", object->why);
    json_object_object_add(line, "users", users_json(object));
    cli_json_print(line);
}
