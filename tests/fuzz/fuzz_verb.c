/* fuzz_verb.c - a verb of the command over files of any bytes: ls, stat, doctor, cat, gc; one program for each.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * FUZZ_VERB is the verb's cli_verb; it is run in this process, without the command line's parser and without the
 * guard that main sets, which would hide a step beside the file. Head: two bytes. The first: bit 0: the rest is the
 * file, and not a list of patches; the higher ones choose the name that is given. The second sets the verb's
 * options. What is printed for people must be fit for a terminal, what is printed as JSON must be JSON, and who
 * looks changes nothing. */
#include "ground.h"
#include "machine.h"
#include "target.h"

#include <cove.h>

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAW 1u

static struct image image;
static char printed[1 << 20];
static FILE *output;

static void begin(void)
{
    ground_begin();
    image_make(&image);
    output = fmemopen(printed, sizeof printed, "w");
    FILE *null = freopen("/dev/null", "w", stdout); /* for who writes to the descriptor */
    if (!output || !null) {
        perror("output");
        exit(1);
    }
    stdout = stderr = output;
}

/* Files that are no segment, or hardly one. */
static void seeds(void (*add)(const void *data, size_t size))
{
    static unsigned char input[2 + IMAGE_LARGEST];
    input[0] = RAW;
    add(input, 2);
    memcpy(input + 2, image.bytes, image.size);
    add(input, 2 + 8);
    add(input, 2 + 4096);
    add(input, 2 + image.size);
    add("\1\0text, and no memory\n", 22);
}

const struct target target = {.head_bytes = 2, .images = {&image}, .begin = begin, .seeds = seeds};

/* ---- options */

/* What asks about, or lists, the memory of others who use this machine, is left out. */
static bool is_for_others(const struct poptOption *option)
{
    return strcmp(option->longName, "stale") == 0 || strcmp(option->longName, "all") == 0;
}

static bool set_options(uint8_t bits)
{
    static char *const words[] = {NULL, "0", "1", "4K", "60000", "1M", "12288", "100000000000"};
    bool json = false;
    for (const struct poptOption *option = FUZZ_VERB.options; option && option->longName; option++) {
        if (is_for_others(option))
            continue;
        if (option->argInfo == POPT_ARG_NONE) {
            *(int *)option->arg = bits & 1;
            json = json || (strcmp(option->longName, "json") == 0 && bits & 1);
            bits = (uint8_t)(bits >> 1);
        } else if (option->argInfo == POPT_ARG_STRING) {
            *(char **)option->arg = words[bits & 7];
            bits = (uint8_t)(bits >> 3);
        }
    }
    return json;
}

/* ---- what was printed */

/* The length of the character that stands there; 0 where it must not reach a terminal. */
static size_t good_character(const unsigned char *at, size_t left)
{
    if (*at < 128)
        return *at == '\n' || (*at >= ' ' && *at != 127);
    size_t length = *at >= 0xf0 && *at <= 0xf4 ? 4 : *at >= 0xe0 && *at < 0xf0 ? 3 : *at >= 0xc2 && *at < 0xe0 ? 2 : 0;
    if (length == 0 || length > left || (*at == 0xc2 && at[1] < 0xa0))
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

static void check_text(const char *text, size_t size)
{
    for (size_t at = 0, length; at < size; at += length)
        if ((length = good_character((const unsigned char *)text + at, size - at)) == 0)
            ground_fail("something is printed that is not fit for a terminal");
}

static void check_json(char *text, size_t size)
{
    for (char *line = text, *end; (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
        *end = '\0';
        if (strncmp(line, "cove: ", 6) == 0)
            continue; /* what is said on stderr */
        struct json_object *object = json_tokener_parse(line);
        if (!json_object_object_get_ex(object, "version", NULL))
            ground_fail("a line is no JSON");
        json_object_put(object);
    }
}

/* ---- the machine */

#define SELDOM 1000

int __real_machine_find_users(struct machine_list *list);
int __wrap_machine_find_users(struct machine_list *list);

/* Going through /proc takes hundreds of times as long as all the rest, and is told nothing by the file. */
int __wrap_machine_find_users(struct machine_list *list)
{
    static unsigned calls;
    return ++calls % SELDOM == 0 ? __real_machine_find_users(list) : 0;
}

/* ---- an input */

static void put_file(const uint8_t *data, size_t size)
{
    uint8_t first = size > 0 ? data[0] : 0;
    size_t head = size < 2 ? size : 2;
    if (first & RAW)
        ground_write(image_path(), data + head, size - head, size - head);
    else
        image_put(&image, 0, image_path(), data + head, size - head);
}

static void run(uint8_t choice, uint8_t bits)
{
    static const char *const names[] = {IMAGE_SEGMENT, IMAGE_SEGMENT "/" IMAGE_STREAM, IMAGE_SEGMENT "/strem",
                                        "posix:/" IMAGE_SEGMENT ".cove"};
    const char *given[] = {names[choice >> 1 & 3], NULL};
    struct cli_call call = {.verb = FUZZ_VERB.name, .names = given, .name_count = FUZZ_VERB.most != 0};
    if (FUZZ_VERB.least == 0 && FUZZ_VERB.most != 0 && (choice >> 3 & 15) == 15)
        call.name_count = 0; /* the whole machine: seldom, since it takes long */
    rewind(output);
    bool json = set_options(bits);
    (void)FUZZ_VERB.run(&call);
    (void)fflush(output);
    long size = ftell(output);
    if (size <= 0 || (size_t)size >= sizeof printed)
        return;
    if (json)
        check_json(printed, (size_t)size);
    else
        check_text(printed, (size_t)size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char before[2 * IMAGE_LARGEST], after[2 * IMAGE_LARGEST];
    bool dry = strcmp(FUZZ_VERB.name, "gc") != 0 || (size > 1 && data[1] & 1); /* gc's first option is --dry-run */
    ground_clear();
    put_file(data, size);
    size_t length = ground_read(image_path(), before, sizeof before);
    run(size > 0 ? data[0] : 0, size > 1 ? data[1] : 0);
    if (dry && (ground_read(image_path(), after, sizeof after) != length || memcmp(before, after, length) != 0))
        ground_fail("who only looks changed the segment");
    return 0;
}
