/* fuzz_names.c - names of any bytes: what is understood leads where it says, and nowhere else.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A name that is taken stands in the place as it was given, and leads there again; a plain one leads to a file of
 * the directory, whose name says the same; a full name that is split is its parts, for the library as for the
 * command. */
#include "base/error.h"
#include "cli.h"
#include "ground.h"
#include "region/name.h"
#include "target.h"

#include <cove.h>

#include <stdio.h>
#include <string.h>

#define LONGEST 1400

static void seeds(void (*add)(const void *data, size_t size))
{
    static const char *const names[] = {
        "robot",
        "robot/commands",
        "robot/in/pipe",
        "posix:/robot",
        "posix:/robot//in/pipe",
        "file:/var/lib/app/state.cove",
        "file:state.cove//commands",
        "file:../a/./b",
        "sysv:0x5eed",
        "sysv:24301/commands",
        "sysv:/etc/passwd:7",
        "sysv:/etc/passwd:0x7//a/b",
        "memfd:",
        "fd:7",
        "fd:2147483647/x",
        "huge:robot",
        "hugetry:robot/commands",
        "sem:/door",
        "mq:/jobs",
        "robot.cove",
        ".cove-sysv-00005eed",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        add(names[i], strlen(names[i]));
}

const struct target target = {.begin = ground_begin, .seeds = seeds};

static void check(bool holds, const char *what)
{
    if (!holds)
        ground_fail(what);
}

/* Where the last component of the place's path begins; it is one. */
static const char *file_of(const struct covei_place *place)
{
    const char *file = place->path + place->directory_length + 1;
    check(place->path[place->directory_length] == '/' && *file && !strchr(file, '/'), "a path that is no file's");
    check(strcmp(file, ".") != 0 && strcmp(file, "..") != 0, "a path that leads to a directory");
    return file;
}

static void check_directory(const struct covei_place *place, const char *directory)
{
    char own[COVEI_PATH_MAX];
    covei_place_directory(place, own);
    check(strcmp(own, directory) == 0, "a path outside of its directory");
}

static void check_plain(const struct covei_place *place, const char *name)
{
    char back[COVEI_NAME_MAX + 1];
    check_directory(place, ground_directory());
    check(covei_name_of_file(back, file_of(place)) && strcmp(back, name) == 0, "a plain name's file has another name");
}

static void check_sysv(const struct covei_place *place, bool raw)
{
    struct covei_place again;
    char by_key[40];
    uint32_t key = 0;
    check(place->key != 0, "the key 0, which is that of nobody");
    if (raw)
        return;
    check_directory(place, ground_directory());
    check(covei_name_of_side_file(&key, file_of(place)) && key == place->key, "a side file of another key");
    (void)snprintf(by_key, sizeof by_key, "sysv:0x%08x", (unsigned)key);
    check(covei_place_parse(&again, by_key, false) == 0 && again.key == key && strcmp(again.path, place->path) == 0,
          "a key leads to another side file");
}

static void check_hugetry(const struct covei_place *place)
{
    struct covei_place normal, huge;
    check(covei_place_of(&normal, place, COVEI_POSIX) == 0, "hugetry: has no normal form");
    check_plain(&normal, place->name + place->plain);
    check(strcmp(normal.name, place->name) == 0, "hugetry: lost its name");
    (void)covei_place_of(&huge, place, COVEI_HUGE);
}

static void check_place(const struct covei_place *place, const char *name, bool raw)
{
    struct covei_place again;
    check(strcmp(place->name, name) == 0, "a name is not kept as it was given");
    check(covei_place_parse(&again, place->name, raw) == 0, "a name is taken once, and not twice");
    check(again.backend == place->backend && again.key == place->key && again.fd == place->fd &&
              strcmp(again.path, place->path) == 0,
          "a name leads to two places");
    if (place->backend == COVEI_POSIX && place->plain == 0)
        check_plain(place, name);
    else if (place->backend == COVEI_POSIX)
        check_directory(place, ground_directory());
    else if (place->backend == COVEI_SYSV)
        check_sysv(place, raw);
    else if (place->backend == COVEI_HUGETRY)
        check_hugetry(place);
    if (place->backend == COVEI_POSIX || place->backend == COVEI_FILE)
        (void)file_of(place);
}

/* An error has a sentence, fit for a terminal. */
static void check_sentence(void)
{
    const char *sentence = cove_last_error();
    check(*sentence != '\0', "an error without a sentence");
    for (; *sentence; sentence++)
        check((unsigned char)*sentence >= ' ' && *sentence != 127, "a sentence with a control character");
}

static void parse(const char *name, bool raw)
{
    struct covei_place place;
    if (covei_place_parse(&place, name, raw) == 0)
        check_place(&place, name, raw);
    else
        check_sentence();
}

/* The parts, and one or two slashes between them, are the whole. */
static void check_parts(const char *name, const char *segment, const char *object)
{
    size_t segment_length = strlen(segment), length = strlen(name), object_length = strlen(object);
    size_t slashes = length - segment_length - object_length;
    check(segment_length + object_length < length && slashes <= 2 && strncmp(name, segment, segment_length) == 0 &&
              strcmp(name + length - object_length, object) == 0 && memcmp(name + segment_length, "//", slashes) == 0,
          "a full name is not its parts");
}

static void split(const char *name)
{
    char segment[COVEI_FULL_NAME_MAX + 1], full[CLI_NAME_BYTES];
    struct covei_place place;
    struct cli_name parts, again;
    const char *object = covei_name_split(segment, name);
    bool theirs = cli_name_parse(name, &parts) == NULL && *parts.object != '\0';
    if (!object)
        check_sentence();
    bool ours = object && covei_place_parse(&place, segment, false) == 0 && covei_name_check_object(object) == 0;
    if (object)
        check_parts(name, segment, object);
    if (ours && theirs)
        check(strcmp(segment, parts.segment) == 0 && strcmp(object, parts.object) == 0,
              "the command takes a name apart otherwise than the library");
    if (!ours)
        return;
    check(cli_name_parse(cli_name_join(full, segment, object), &again) == NULL && strcmp(again.segment, segment) == 0 &&
              strcmp(again.object, object) == 0,
          "the command joins a name that it takes apart otherwise");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[LONGEST + 1];
    size_t length = size < LONGEST ? size : LONGEST;
    memcpy(name, data, length);
    name[length] = '\0';
    parse(name, false);
    parse(name, true);
    split(name);
    return 0;
}
