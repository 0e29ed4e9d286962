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

struct json_object *cli_object_json(const char *segment, const struct cove_object_info *info)
{
    char name[CLI_NAME_BYTES], key[64], value[136], clean[64], *end;
    const char *figures = info->figures;
    struct json_object *line = cli_json("object"), *inner = json_object_new_object();
    cli_json_text(line, "name", cli_name_join(name, segment, info->name));
    cli_json_text(line, "type", info->type);
    cli_json_number(line, "type_version", info->version);
    cli_json_number(line, "size_bytes", info->size_bytes);
    while (cli_figure(&figures, key, value)) {
        errno = 0;
        bool negative = *value == '-' && value[1] >= '0' && value[1] <= '9';
        int64_t below = negative ? strtoll(value, &end, 10) : 0;
        uint64_t number = negative ? 0 : strtoull(value, &end, 10);
        if (negative && *end == '\0' && errno == 0)
            cli_json_signed(inner, cli_clean(clean, sizeof clean, key), below);
        else if (*value >= '0' && *value <= '9' && *end == '\0' && errno == 0)
            cli_json_number(inner, cli_clean(clean, sizeof clean, key), number);
        else
            cli_json_text(inner, cli_clean(clean, sizeof clean, key), value);
    }
    json_object_object_add(line, "figures", inner);
    return line;
}
