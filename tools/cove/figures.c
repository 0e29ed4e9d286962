/* figures.c - what an object says of itself: "capacity=1048576 unread=17", taken apart.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The figures are a type's own; the command knows no type by name. What looks like a number is a number in JSON. */
#include "cli.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

bool cli_figure(const char **figures, char key[64], char value[136])
{
    const char *at = *figures + strspn(*figures, " ");
    size_t length = strcspn(at, " ");
    const char *equals = memchr(at, '=', length);
    if (length == 0)
        return false;
    size_t key_length = equals ? (size_t)(equals - at) : length;
    (void)snprintf(key, 64, "%.*s", (int)key_length, at);
    (void)snprintf(value, 136, "%.*s", equals ? (int)(length - key_length - 1) : 0, equals ? equals + 1 : "");
    *figures = at + length;
    return true;
}

/* A whole number, one with decimals, or text. */
static void add_figure(struct json_object *object, const char *key, const char *value)
{
    char *end;
    bool has_digits = (value[*value == '-'] >= '0' && value[*value == '-'] <= '9');
    errno = 0;
    int64_t whole = strtoll(value, &end, 10);
    if (has_digits && *end == '\0' && errno == 0) {
        cli_json_signed(object, key, whole);
        return;
    }
    errno = 0;
    uint64_t large = strtoull(value, &end, 10);
    if (has_digits && *value != '-' && *end == '\0' && errno == 0) {
        cli_json_number(object, key, large);
        return;
    }
    double decimal = strtod(value, &end);
    bool is_decimal = has_digits && strspn(value, "-0123456789.") == strlen(value) && *end == '\0';
    if (is_decimal)
        json_object_object_add(object, key, json_object_new_double_s(decimal, value));
    else
        cli_json_text(object, key, value);
}

struct json_object *cli_object_json(const char *segment, const struct cove_object_info *info)
{
    char name[CLI_NAME_BYTES], key[64], value[136], clean[64];
    const char *figures = info->figures;
    struct json_object *line = cli_json("object"), *inner = json_object_new_object();
    cli_json_text(line, "name", cli_name_join(name, segment, info->name));
    cli_json_text(line, "type", info->type);
    cli_json_number(line, "type_version", info->version);
    cli_json_number(line, "size_bytes", info->size_bytes);
    while (cli_figure(&figures, key, value))
        add_figure(inner, cli_clean(clean, sizeof clean, key), value);
    json_object_object_add(line, "figures", inner);
    return line;
}
