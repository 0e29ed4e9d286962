/* name.c - what names may look like, and where they lead.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A plain name's file is DIRECTORY/NAME.cove. Plain names cannot hold '/' or begin with '.', so none leads out of the
 * directory or to a file that is not ours by its suffix. Other names have a prefix that picks their backend. */
#include "region/name.h"

#include "base/error.h"
#include "os/os.h"

#include <cove/segment.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_DIRECTORY "/dev/shm"

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

/* The beginning of a name that is not known to be good, fit for a terminal. */
struct shown {
    char text[48];
};
static struct shown shown(const char *name)
{
    struct shown shown;
    size_t i = 0;
    for (; i < sizeof shown.text - 4 && name[i]; i++)
        shown.text[i] = name[i] > ' ' && name[i] < 127 ? name[i] : '?';
    (void)snprintf(shown.text + i, 4, "%s", name[i] ? "..." : "");
    return shown;
}

/* What a name of either kind must be: not empty, not too long, beginning well. */
/* "a segment", "an object". */
static const char *with_article(const char *what)
{
    return *what == 'o' ? "an object" : "a segment";
}

static int check_common(const char *name, const char *what)
{
    if (!name || !*name)
        return covei_error(COVE_ENAME, "the %s's name is empty; give it 1 to %d characters", what, COVEI_NAME_MAX);
    size_t length = strnlen(name, COVEI_NAME_MAX + 1);
    if (length > COVEI_NAME_MAX)
        return covei_error(COVE_ENAME, "%s: the %s's name is longer than %d bytes; shorten it", shown(name).text, what,
                           COVEI_NAME_MAX);
    if (name[0] == '.' || name[0] == '-')
        return covei_error(COVE_ENAME, "%s: %s's name does not begin with '%c'; begin it with a letter or digit",
                           shown(name).text, with_article(what), name[0]);
    return 0;
}

static int odd_character(const char *name, const char *what, char c)
{
    unsigned char byte = (unsigned char)c;
    if (byte > ' ' && byte < 127)
        return covei_error(COVE_ENAME, "%s: %s's name cannot hold '%c'; use letters, digits, '.', '_' and '-'",
                           shown(name).text, with_article(what), c);
    return covei_error(COVE_ENAME, "%s: %s's name cannot hold the byte 0x%02x; use letters, digits, '.', '_' and '-'",
                       shown(name).text, with_article(what), byte);
}

static int check_plain(const char *name)
{
    int result = check_common(name, "segment");
    if (result < 0)
        return result;
    for (const char *c = name; *c; c++)
        if (!is_plain(*c))
            return odd_character(name, "segment", *c);
    return 0;
}

int covei_name_check_object(const char *name)
{
    int result = check_common(name, "object");
    if (result < 0)
        return result;
    for (const char *c = name; *c; c++) {
        if (*c != '/' && !is_plain(*c))
            return odd_character(name, "object", *c);
        if (*c == '/' && (c == name || c[1] == '\0' || c[1] == '/'))
            return covei_error(COVE_ENAME, "%s: a '/' in an object's name stands between two other characters",
                               shown(name).text);
    }
    return 0;
}

const char *cove_directory(void)
{
    const char *directory = getenv("COVE_DIR");
    return directory && *directory ? directory : DEFAULT_DIRECTORY;
}

/* Put DIRECTORY/FILE + SUFFIX into place->path. */
static int set_path(struct covei_place *place, const char *directory, const char *file, const char *suffix)
{
    int length = snprintf(place->path, sizeof place->path, "%s/%s%s", directory, file, suffix);
    if (length < 0 || (size_t)length >= sizeof place->path)
        return covei_error(-ENAMETOOLONG, "%s: its path is longer than %d bytes; use a shorter one (is COVE_DIR long?)",
                           shown(place->name).text, COVEI_PATH_MAX - 1);
    place->directory_length = strlen(directory);
    return 0;
}

static int parse_plain(struct covei_place *place, const char *plain)
{
    int result = check_plain(plain);
    return result < 0 ? result : set_path(place, cove_directory(), plain, COVEI_SUFFIX);
}

/* Exactly what shm_open would open: one slash, at the front. */
static int parse_posix(struct covei_place *place, const char *plain)
{
    if (plain[0] != '/' || plain[1] == '\0' || strchr(plain + 1, '/') || strcmp(plain, "/.") == 0 ||
        strcmp(plain, "/..") == 0 || strlen(plain + 1) > 255)
        return covei_error(COVE_ENAME,
                           "%s: a name of POSIX shared memory is posix:/NAME, with one slash and at most 255 bytes",
                           shown(place->name).text);
    return set_path(place, cove_directory(), plain + 1, "");
}

static int parse_file(struct covei_place *place, const char *plain)
{
    char directory[COVEI_PATH_MAX], here[COVEI_PATH_MAX];
    const char *slash = strrchr(plain, '/'), *file = slash ? slash + 1 : plain;
    if (!*file || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return covei_error(COVE_ENAME, "%s: behind file: stands the path of a file", shown(place->name).text);
    int length = snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - plain) : 0, plain);
    if (plain[0] == '/')
        return length < 0 ? -EINVAL : set_path(place, directory, file, "");
    /* The working directory may change while the segment is open. */
    int result = covei_os->working_directory(here, sizeof here);
    if (result < 0)
        return covei_error(result, "%s: the working directory cannot be told: %s; give a path that begins with '/'",
                           shown(place->name).text, cove_strerror(result));
    size_t begin = strlen(here);
    if (slash && (size_t)snprintf(here + begin, sizeof here - begin, "/%s", directory) >= sizeof here - begin)
        return covei_error(-ENAMETOOLONG, "%s: its path is too long", shown(place->name).text);
    return set_path(place, here, file, "");
}

static int bad_sysv(const struct covei_place *place)
{
    return covei_error(COVE_ENAME,
                       "%s: a name of System V memory is sysv:KEY (0x5eed, not 0) or sysv:PATH:ID (a file that exists, "
                       "and 1 to 255)",
                       shown(place->name).text);
}

/* The key that ftok makes, of whose id only the low 8 bits count; so larger ids are refused, and 0, for which ftok
 * does not say what it does. */
static int key_of_path(struct covei_place *place, const char *plain, const char *id_text)
{
    char path[COVEI_FULL_NAME_MAX + 1], *end = NULL;
    errno = 0;
    unsigned long id = strtoul(id_text, &end, 0);
    if (id_text[0] < '0' || id_text[0] > '9' || *end || errno)
        return bad_sysv(place);
    if (id < 1 || id > 255)
        return covei_error(COVE_ENAME,
                           "%s: only the low 8 bits of an id go into the key, so %s would be the same as 0x%lx; give 1 "
                           "to 255",
                           shown(place->name).text, shown(id_text).text, id & 0xff);
    if (plain[0] != '/')
        return covei_error(COVE_ENAME,
                           "%s: a relative path would be another key in each directory; give one that begins with '/'",
                           shown(place->name).text);
    (void)snprintf(path, sizeof path, "%.*s", (int)(id_text - 1 - plain), plain);
    struct covei_file_stat stat;
    int result = covei_os->path_follow(path, &stat);
    if (result < 0)
        return covei_error(result, "%s: its key is made of the file %s, which cannot be looked at: %s",
                           shown(place->name).text, shown(path).text, cove_strerror(result));
    place->key = (uint32_t)id << 24 | (uint32_t)(stat.device & 0xff) << 16 | (uint32_t)(stat.inode & 0xffff);
    place->from_path = true;
    return 0;
}

static int parse_sysv(struct covei_place *place, const char *plain)
{
    char *end = NULL, side[32];
    const char *colon = strrchr(plain, ':');
    int result = 0;
    if (colon)
        result = key_of_path(place, plain, colon + 1);
    else {
        errno = 0;
        unsigned long long key = strtoull(plain, &end, 0);
        if (plain[0] < '0' || plain[0] > '9' || *end || errno || key == 0 || key > UINT32_MAX)
            return bad_sysv(place);
        place->key = (uint32_t)key;
    }
    (void)snprintf(side, sizeof side, COVEI_SIDE_PREFIX "%08" PRIx32, place->key);
    return result < 0 || place->raw ? result : set_path(place, cove_directory(), side, "");
}

static int parse_memfd(struct covei_place *place, const char *plain)
{
    return *plain
               ? covei_error(COVE_ENAME, "%s: nothing stands behind memfd:, which has no name", shown(place->name).text)
               : 0;
}

static int parse_fd(struct covei_place *place, const char *plain)
{
    char *end = NULL;
    errno = 0;
    unsigned long fd = strtoul(plain, &end, 10);
    if (plain[0] < '0' || plain[0] > '9' || *end || errno || fd > INT32_MAX)
        return covei_error(COVE_ENAME, "%s: behind fd: stands the number of a descriptor", shown(place->name).text);
    place->fd = (int)fd;
    return 0;
}

static int parse_huge(struct covei_place *place, const char *plain)
{
    char directory[COVEI_PATH_MAX];
    int result = check_plain(plain);
    if (result < 0)
        return result;
    result = covei_os->huge_directory(directory, sizeof directory);
    return result < 0 ? 0 /* told when it is opened */ : set_path(place, directory, plain, COVEI_SUFFIX);
}

static int parse_hugetry(struct covei_place *place, const char *plain)
{
    (void)place;
    return check_plain(plain);
}

static const struct prefix {
    const char *text;
    enum covei_backend_id backend;
    int (*parse)(struct covei_place *place, const char *plain);
    bool may_hold_slashes;
} prefixes[] = {
    {"posix:", COVEI_POSIX, parse_posix, true},
    {"file:", COVEI_FILE, parse_file, true},
    {"sysv:", COVEI_SYSV, parse_sysv, true},
    {"memfd:", COVEI_MEMFD, parse_memfd, false},
    {"fd:", COVEI_FD, parse_fd, false},
    {"huge:", COVEI_HUGE, parse_huge, false},
    {"hugetry:", COVEI_HUGETRY, parse_hugetry, false},
};
#define PREFIXES (sizeof prefixes / sizeof *prefixes)

static const struct prefix *prefix_of(const char *name)
{
    for (size_t i = 0; i < PREFIXES; i++)
        if (strncmp(name, prefixes[i].text, strlen(prefixes[i].text)) == 0)
            return &prefixes[i];
    return NULL;
}

int covei_place_parse(struct covei_place *place, const char *name, bool raw)
{
    *place = (struct covei_place){.backend = COVEI_POSIX, .raw = raw, .fd = -1};
    if (!name || !*name)
        return check_common(name, "segment");
    const struct prefix *prefix = prefix_of(name);
    if (!prefix) {
        (void)snprintf(place->name, sizeof place->name, "%s", name);
        const char *colon = strchr(name, ':');
        if (colon && colon != name && !memchr(name, '/', (size_t)(colon - name)))
            return covei_error(COVE_ENAME,
                               "%s: no backend is called so; there are posix:, file:, sysv:, memfd:, fd:, huge: and "
                               "hugetry:",
                               shown(name).text);
        return parse_plain(place, name);
    }
    if (strnlen(name, COVEI_FULL_NAME_MAX + 1) > COVEI_FULL_NAME_MAX)
        return covei_error(COVE_ENAME, "%s: the name is longer than %d bytes; shorten it", shown(name).text,
                           COVEI_FULL_NAME_MAX);
    (void)snprintf(place->name, sizeof place->name, "%s", name);
    place->backend = prefix->backend;
    place->plain = strlen(prefix->text);
    return prefix->parse(place, name + place->plain);
}

int covei_place_of(struct covei_place *place, const struct covei_place *hugetry, enum covei_backend_id backend)
{
    char name[COVEI_NAME_MAX + 16];
    (void)snprintf(name, sizeof name, "%s%s", backend == COVEI_HUGE ? "huge:" : "", hugetry->name + hugetry->plain);
    int result = covei_place_parse(place, name, hugetry->raw);
    memcpy(place->name, hugetry->name, sizeof place->name); /* as it was given */
    place->plain = hugetry->plain;
    return result;
}

void covei_place_directory(const struct covei_place *place, char directory[COVEI_PATH_MAX])
{
    size_t length = place->directory_length;
    memcpy(directory, length ? place->path : "/", length ? length : 1);
    directory[length ? length : 1] = '\0';
}

static const char *no_split(const char *full_name, const char *why)
{
    (void)covei_error(COVE_ENAME, "%s: %s", shown(full_name ? full_name : "(null)").text, why);
    return NULL;
}

/* The last one: names of objects hold none. */
static const char *find_two_slashes(const char *text)
{
    const char *found = NULL;
    for (const char *at = strstr(text, "//"); at; at = strstr(at + 1, "//"))
        found = at;
    return found;
}

const char *covei_name_split(char segment[COVEI_FULL_NAME_MAX + 1], const char *full_name)
{
    if (!full_name)
        return no_split(full_name, "an object's full name is SEGMENT/OBJECT, as in robot/commands");
    const struct prefix *prefix = prefix_of(full_name);
    const char *from = full_name + (prefix ? strlen(prefix->text) : 0);
    /* sysv:KEY holds none, sysv:PATH:ID does. */
    bool may_hold = prefix && prefix->may_hold_slashes && !(prefix->backend == COVEI_SYSV && from[0] != '/');
    const char *slash = may_hold ? find_two_slashes(from) : NULL, *object = slash ? slash + 2 : NULL;
    if (!slash && may_hold && strchr(from, '/'))
        return no_split(full_name, "where a segment's name holds slashes, its objects' begin with two: "
                                   "file:/var/lib/app/state.cove//commands");
    if (!slash) {
        slash = strchr(from, '/');
        object = slash ? slash + 1 : NULL;
    }
    if (!slash || slash == full_name || *object == '\0')
        return no_split(full_name, "an object's full name is SEGMENT/OBJECT, as in robot/commands");
    size_t length = (size_t)(slash - full_name);
    if (length > (prefix ? COVEI_FULL_NAME_MAX : COVEI_NAME_MAX))
        return no_split(full_name, "the segment's name is too long; shorten it");
    memcpy(segment, full_name, length);
    segment[length] = '\0';
    return object;
}

bool covei_name_of_file(char name[COVEI_NAME_MAX + 1], const char *file)
{
    size_t length = strlen(file);
    if (length <= COVEI_SUFFIX_LENGTH || length > COVEI_NAME_MAX + COVEI_SUFFIX_LENGTH ||
        strcmp(file + length - COVEI_SUFFIX_LENGTH, COVEI_SUFFIX) != 0)
        return false;
    memcpy(name, file, length - COVEI_SUFFIX_LENGTH);
    name[length - COVEI_SUFFIX_LENGTH] = '\0';
    for (const char *c = name; *c; c++)
        if (!is_plain(*c))
            return false;
    return name[0] != '.' && name[0] != '-';
}

bool covei_name_of_side_file(uint32_t *key, const char *file)
{
    size_t prefix = sizeof COVEI_SIDE_PREFIX - 1;
    if (strncmp(file, COVEI_SIDE_PREFIX, prefix) != 0 || strlen(file) != prefix + 8 ||
        strspn(file + prefix, "0123456789abcdef") != 8)
        return false;
    *key = (uint32_t)strtoul(file + prefix, NULL, 16);
    return true;
}
