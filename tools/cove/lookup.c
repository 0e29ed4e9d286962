/* lookup.c - what is there: lists of segments, objects, members, and the name that was nearly typed.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int cli_open_readonly(cove_segment **segment, const char *name)
{
    struct cove_options options = {.flags = COVE_READONLY | COVE_ANY_OWNER};
    return cove_open(segment, name, &options);
}

int64_t cli_objects(cove_segment *segment, struct cove_object_info **objects)
{
    *objects = NULL;
    int64_t count = cove_objects(segment, NULL, 0);
    /* Others may add some between the two looks: look again with more room until all fit. */
    for (size_t room = 0; count > (int64_t)room;) {
        room = (size_t)count + 8;
        struct cove_object_info *grown = realloc(*objects, room * sizeof *grown);
        if (!grown)
            goto no_memory;
        *objects = grown;
        count = cove_objects(segment, *objects, room);
    }
    return count;
no_memory:
    free(*objects);
    *objects = NULL;
    return -ENOMEM;
}

int64_t cli_members(cove_segment *segment, struct cove_member_info **members)
{
    *members = NULL;
    int64_t count = cove_segment_members(segment, NULL, 0);
    for (size_t room = 0; count > (int64_t)room;) {
        room = (size_t)count + 8;
        struct cove_member_info *grown = realloc(*members, room * sizeof *grown);
        if (!grown)
            goto no_memory;
        *members = grown;
        count = cove_segment_members(segment, *members, room);
    }
    return count;
no_memory:
    free(*members);
    *members = NULL;
    return -ENOMEM;
}

struct name_list {
    char **names;
    int64_t count;
};

static int add_name(const char *name, void *context)
{
    struct name_list *list = context;
    char **grown = realloc(list->names, ((size_t)list->count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    list->names = grown;
    grown[list->count] = strdup(name);
    if (!grown[list->count])
        return -ENOMEM;
    list->count++;
    return 0;
}

static int by_name(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

int64_t cli_segments(char ***names)
{
    struct name_list list = {0};
    int result = cove_segments(add_name, &list);
    if (result < 0) {
        cli_segments_free(list.names, list.count);
        return result;
    }
    if (list.count > 1)
        qsort(list.names, (size_t)list.count, sizeof *list.names, by_name);
    *names = list.names;
    return list.count;
}

void cli_segments_free(char **names, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* ---- nearly the same name ---- */

#define WORD_BYTES 208
#define FAR 1000u

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Optimal string alignment (Damerau-Levenshtein without overlapping swaps), three rows at a time. */
unsigned cli_distance(const char *left, const char *right)
{
    unsigned rows[3][WORD_BYTES + 1];
    size_t left_length = strlen(left), right_length = strlen(right);
    if (left_length > WORD_BYTES || right_length > WORD_BYTES)
        return FAR;
    rows[0][0] = 0;
    for (size_t j = 1; j <= right_length; j++)
        rows[0][j] = rows[0][j - 1] + (is_digit(right[j - 1]) ? FAR : 1);
    for (size_t i = 1; i <= left_length; i++) {
        unsigned *now = rows[i % 3], *before = rows[(i + 2) % 3], *earlier = rows[(i + 1) % 3];
        char a = left[i - 1];
        now[0] = before[0] + (is_digit(a) ? FAR : 1);
        for (size_t j = 1; j <= right_length; j++) {
            char b = right[j - 1];
            unsigned change = a == b ? 0 : is_digit(a) || is_digit(b) ? FAR : 1;
            now[j] = least(before[j - 1] + change,
                           least(before[j] + (is_digit(a) ? FAR : 1), now[j - 1] + (is_digit(b) ? FAR : 1)));
            if (i > 1 && j > 1 && a == right[j - 2] && left[i - 2] == b)
                now[j] = least(now[j], earlier[j - 2] + 1);
        }
    }
    return rows[left_length % 3][right_length];
}

/* How many typing errors a word of this length may hold and still be taken for another: none in the shortest. */
static unsigned tolerance(const char *word)
{
    size_t length = strlen(word);
    return length < 3 ? 0 : length < 6 ? 1 : 2;
}

struct search {
    struct cli_name wanted;
    char *nearest;
    unsigned best;
};

static void consider(struct search *search, unsigned distance, const char *segment, const char *object)
{
    if (distance == 0 || distance >= search->best)
        return;
    search->best = distance;
    (void)cli_name_join(search->nearest, segment, object);
}

static void search_objects(struct search *search, const char *name, unsigned so_far)
{
    cove_segment *segment;
    struct cove_object_info *objects;
    if (cli_open_readonly(&segment, name) < 0)
        return;
    int64_t count = cli_objects(segment, &objects);
    for (int64_t i = 0; i < count; i++) {
        unsigned distance = cli_distance(search->wanted.object, objects[i].name);
        if (distance <= tolerance(search->wanted.object))
            consider(search, so_far + distance, name, objects[i].name);
    }
    free(objects);
    (void)cove_close(segment);
}

static int search_segment(const char *name, void *context)
{
    struct search *search = context;
    unsigned distance = cli_distance(search->wanted.segment, name);
    if (distance > tolerance(search->wanted.segment))
        return 0;
    if (*search->wanted.object)
        search_objects(search, name, distance);
    else
        consider(search, distance, name, "");
    return 0;
}

bool cli_nearest(const char *name, char nearest[CLI_NAME_BYTES])
{
    struct search search = {.nearest = nearest, .best = FAR};
    if (cli_name_parse(name, &search.wanted))
        return false;
    return cove_segments(search_segment, &search) >= 0 && search.best < FAR;
}
