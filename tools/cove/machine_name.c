/* machine_name.c - names as they are printed and as they are typed.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Names of foreign objects hold any byte but 0 and '/'. They are printed so that a terminal is safe and that what
 * was printed can be given back to the command: what cannot be shown, and '\' itself, stands as \xHH. A '\' that
 * begins no such sequence stands for itself. */
#include "machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>

#define PLAIN_MAX 200 /* bytes of a plain name */

/* Is every byte fit for a terminal? Who cleans messages knows. */
static bool is_clean(const char *raw, size_t length)
{
    char *clean = malloc(length + 2);
    bool same = clean && strcmp(cli_clean(clean, length + 2, raw), raw) == 0;
    free(clean);
    return same;
}

char *machine_escape(const char *raw)
{
    size_t length = strlen(raw), used = 0;
    char *escaped = malloc(4 * length + 1);
    if (!escaped)
        return NULL;
    bool keep_wide = is_clean(raw, length); /* well-formed UTF-8 throughout stays as it is */
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)raw[i];
        bool shown = byte >= 0x80 ? keep_wide : byte >= ' ' && byte != 0x7f && byte != '\\';
        if (shown)
            escaped[used++] = raw[i];
        else
            used += (size_t)snprintf(escaped + used, 5, "\\x%02x", byte);
    }
    escaped[used] = '\0';
    return escaped;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void machine_unescape(char *name)
{
    char *to = name;
    for (const char *from = name; *from; to++) {
        int high = from[0] == '\\' && from[1] == 'x' ? hex_value(from[2]) : -1;
        int low = high >= 0 ? hex_value(from[3]) : -1;
        bool escape = low >= 0 && high + low > 0; /* no name holds a byte 0 */
        *to = escape ? (char)(high * 16 + low) : *from;
        from += escape ? 4 : 1;
    }
    *to = '\0';
}

bool machine_is_plain(const char *name)
{
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return good > 0 && good <= PLAIN_MAX && name[good] == '\0' && name[0] != '.' && name[0] != '-';
}

bool machine_is_foreign(const char *name)
{
    static const char *const prefixes[] = {"sem:", "mq:", "sysvsem:", "sysvmsg:", "sysv:id=", "anon:"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return strncmp(name, "memfd:", 6) == 0 && name[6];
}

/* A whole unsigned number of 32 bits; a key may be written in any of C's ways. */
static bool read_number(const char *word, int base, uint32_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(word, &end, base);
    *number = (uint32_t)value;
    return *word >= '0' && *word <= '9' && *end == '\0' && errno == 0 && value <= UINT32_MAX;
}

/* PATH:ID, as ftok(3) makes a key of it. */
static bool read_path_and_id(const char *word, uint32_t *key)
{
    const char *colon = strrchr(word, ':');
    char path[4096];
    uint32_t id;
    if (!colon || (size_t)(colon - word) >= sizeof path || !read_number(colon + 1, 0, &id) || id == 0 || id > 255)
        return false;
    memcpy(path, word, (size_t)(colon - word));
    path[colon - word] = '\0';
    key_t made = ftok(path, (int)id);
    *key = (uint32_t)made;
    return made != -1;
}

bool machine_name_sysv(const char *name, enum machine_backend *backend, bool *by_id, uint32_t *number)
{
    static const struct {
        const char *prefix;
        enum machine_backend backend;
    } prefixes[] = {{"sysv:", MACHINE_SYSV_SHM}, {"sysvsem:", MACHINE_SYSV_SEM}, {"sysvmsg:", MACHINE_SYSV_MSG}};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t length = strlen(prefixes[i].prefix);
        if (strncmp(name, prefixes[i].prefix, length) != 0)
            continue;
        const char *rest = name + length;
        *backend = prefixes[i].backend;
        *by_id = strncmp(rest, "id=", 3) == 0;
        if (*by_id)
            return read_number(rest + 3, 10, number);
        return read_number(rest, 0, number) || read_path_and_id(rest, number);
    }
    return false;
}
