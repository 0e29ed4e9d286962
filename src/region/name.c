/* name.c - what names may look like, and where they lead.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A segment's file is DIRECTORY/NAME.cove. Names cannot hold '/' or begin with '.', so no name leads out of the
 * directory or to a file that is not ours by its suffix. */
#include "region/name.h"

#include "base/error.h"

#include <cove/segment.h>
#include <errno.h>
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
static int check_common(const char *name, const char *what)
{
    if (!name || !*name)
        return covei_error(COVE_ENAME, "the %s's name is empty; give it 1 to %d characters", what, COVEI_NAME_MAX);
    size_t length = strnlen(name, COVEI_NAME_MAX + 1);
    if (length > COVEI_NAME_MAX)
        return covei_error(COVE_ENAME, "%s: the %s's name is longer than %d bytes; shorten it", shown(name).text, what,
                           COVEI_NAME_MAX);
    if (name[0] == '.' || name[0] == '-')
        return covei_error(COVE_ENAME, "%s: a %s's name does not begin with '%c'; begin it with a letter or digit",
                           shown(name).text, what, name[0]);
    return 0;
}

static int odd_character(const char *name, const char *what, char c)
{
    unsigned char byte = (unsigned char)c;
    if (byte > ' ' && byte < 127)
        return covei_error(COVE_ENAME, "%s: a %s's name cannot hold '%c'; use letters, digits, '.', '_' and '-'",
                           shown(name).text, what, c);
    return covei_error(COVE_ENAME, "%s: a %s's name cannot hold the byte 0x%02x; use letters, digits, '.', '_' and '-'",
                       shown(name).text, what, byte);
}

int covei_name_check_segment(const char *name)
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

int covei_name_path(char path[COVEI_PATH_MAX], const char *name)
{
    int result = covei_name_check_segment(name);
    if (result < 0)
        return result;
    const char *directory = cove_directory();
    int length = snprintf(path, COVEI_PATH_MAX, "%s/%s" COVEI_SUFFIX, directory, name);
    if (length < 0 || length >= COVEI_PATH_MAX)
        return covei_error(-ENAMETOOLONG, "COVE_DIR is longer than %d bytes; use a shorter path", COVEI_PATH_MAX - 256);
    return 0;
}

const char *covei_name_split(char segment[COVEI_NAME_MAX + 1], const char *full_name)
{
    const char *slash = full_name ? strchr(full_name, '/') : NULL;
    if (!slash || slash == full_name || slash[1] == '\0') {
        (void)covei_error(COVE_ENAME, "%s: an object's full name is SEGMENT/OBJECT, as in robot/commands",
                          shown(full_name ? full_name : "(null)").text);
        return NULL;
    }
    size_t length = (size_t)(slash - full_name);
    if (length > COVEI_NAME_MAX) {
        (void)covei_error(COVE_ENAME, "%s: the segment's name is longer than %d bytes; shorten it",
                          shown(full_name).text, COVEI_NAME_MAX);
        return NULL;
    }
    memcpy(segment, full_name, length);
    segment[length] = '\0';
    return slash + 1;
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
