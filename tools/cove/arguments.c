/* arguments.c - from the words of the command line to values.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * popt takes the options out, wherever they stand. Every wrong word gets a sentence and status 2. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static poptContext context;
static const char **joined_names;
static bool has_command; /* there was a "--", of a verb that runs what follows */

static int help_wanted;
static const struct poptOption help_option[] = {
    {"help", 'h', POPT_ARG_NONE, &help_wanted, 0, "say how this verb is used", NULL}, POPT_TABLEEND};
static const struct poptOption no_options[] = {POPT_TABLEEND};

/* popt wants one table: the verb's own, included, and --help. popt does not write to it. */
static void join_tables(struct poptOption table[3], const struct poptOption *options)
{
    const struct poptOption *parts[2] = {options ? options : no_options, help_option};
    for (int i = 0; i < 2; i++)
        table[i] = (struct poptOption){.argInfo = POPT_ARG_INCLUDE_TABLE, .arg = (void *)(uintptr_t)parts[i]};
    table[2] = (struct poptOption)POPT_TABLEEND;
}

static int bad_option(const struct cli_verb *verb, int code)
{
    const char *word = poptBadOption(context, POPT_BADOPTION_NOALIAS);
    const char *wrong = code == POPT_ERROR_BADOPT        ? "there is no such option"
                        : code == POPT_ERROR_NOARG       ? "this option wants a value"
                        : code == POPT_ERROR_UNWANTEDARG ? "this option takes no value"
                                                         : poptStrerror(code);
    if (verb->runs_command && !has_command)
        cli_say(word, "%s; the command and its options stand behind '--': cove %s %s -- COMMAND", wrong, verb->name,
                verb->arguments);
    else
        cli_say(word, "%s; 'cove help %s' lists the options", wrong, verb->name);
    return CLI_USE;
}

static int check_count(const struct cli_verb *verb, const struct cli_call *call)
{
    const char *command = verb->runs_command ? " -- COMMAND" : "";
    if (call->name_count < verb->least) {
        cli_say(verb->name, "a name is missing; use: cove %s %s%s", verb->name, verb->arguments, command);
        return CLI_USE;
    }
    if (verb->runs_command && !has_command && call->name_count > verb->most) {
        cli_say(call->names[verb->most], "the command stands behind '--': cove %s %s -- %s", verb->name, call->names[0],
                call->names[verb->most]);
        return CLI_USE;
    }
    if (verb->most >= 0 && call->name_count > verb->most) {
        cli_say(call->names[verb->most], "one word too many; use: cove %s %s%s", verb->name, verb->arguments, command);
        return CLI_USE;
    }
    if (verb->runs_command && (!call->command || !*call->command)) {
        cli_say(verb->name, "the command is missing; use: cove %s %s%s", verb->name, verb->arguments, command);
        return CLI_USE;
    }
    return -1;
}

static bool is_negative_number(const char *word)
{
    return word[0] == '-' && word[1] != '\0' && word[1 + strspn(word + 1, "0123456789")] == '\0';
}

/* popt must not see a command's words, nor take "-3" for an option. Returns how many are left for it: the command's begin
 * behind "--", and one number comes after the names. */
static int take_out(const struct cli_verb *verb, int argc, const char **argv, struct cli_call *call,
                    const char **number)
{
    int left = 0;
    for (int i = 0; i < argc; i++) {
        bool ends = strcmp(argv[i], "--") == 0;
        if (ends && verb->runs_command) {
            has_command = true;
            call->command = (char *const *)(uintptr_t)(argv + i + 1); /* main's own, which ends in NULL */
            break;
        }
        if (ends) {
            for (; i < argc; i++)
                argv[left++] = argv[i];
            break;
        }
        if (verb->takes_numbers && !*number && is_negative_number(argv[i]))
            *number = argv[i];
        else
            argv[left++] = argv[i];
    }
    return left;
}

/* popt's list, and the number behind it. NULL: no memory. */
static const char **join_names(const char **names, const char *number)
{
    size_t count = 0;
    while (names && names[count])
        count++;
    joined_names = calloc(count + 2, sizeof *joined_names);
    if (joined_names) {
        for (size_t i = 0; i < count; i++)
            joined_names[i] = names[i];
        joined_names[count] = number;
    }
    return joined_names;
}

int cli_parse(const struct cli_verb *verb, int argc, const char **argv, struct cli_call *call)
{
    static struct poptOption table[3];
    const char *number = NULL;
    *call = (struct cli_call){.verb = verb->name};
    join_tables(table, verb->options);
    argc = take_out(verb, argc, argv, call, &number);
    context = poptGetContext("cove", argc, argv, table, 0);
    if (!context) {
        cli_say(verb->name, "no memory");
        return CLI_FAILED;
    }
    int code = poptGetNextOpt(context);
    if (code < -1)
        return bad_option(verb, code);
    if (help_wanted) {
        cli_help(verb);
        return CLI_DONE;
    }
    call->names = join_names(poptGetArgs(context), number);
    if (!call->names) {
        cli_say(verb->name, "no memory");
        return CLI_FAILED;
    }
    while (call->names[call->name_count])
        call->name_count++;
    return check_count(verb, call);
}

void cli_parse_done(void)
{
    context = poptFreeContext(context);
    free(joined_names);
    joined_names = NULL;
}

static void print_options(const struct poptOption *option)
{
    for (; option->longName; option++) {
        char left[64];
        (void)snprintf(left, sizeof left, "--%s%s%s", option->longName, option->argDescrip ? " " : "",
                       option->argDescrip ? option->argDescrip : "");
        if (option->shortName)
            printf("  -%c, %-24s %s\n", option->shortName, left, option->descrip);
        else
            printf("      %-24s %s\n", left, option->descrip);
    }
}

void cli_help(const struct cli_verb *verb)
{
    printf("cove %s - %s\n\nusage: cove %s %s%s%s\n\n", verb->name, verb->summary, verb->name, verb->arguments,
           verb->options ? " [OPTIONS]" : "", verb->runs_command ? " -- COMMAND [ARGUMENT...]" : "");
    if (verb->options)
        print_options(verb->options);
    print_options(help_option);
    if (verb->text)
        printf("\n%s\n", verb->text);
}

/* The number at the head of a word, with up to nine decimals, as a count of `unit`s; the units' names are what is left.
 * Returns false for what is no number. */
static bool read_decimal(const char *word, uint64_t *whole, uint64_t *billionths, const char **rest)
{
    if (*word < '0' || *word > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(word, &end, 10);
    if (errno)
        return false;
    *whole = value;
    *billionths = 0;
    if (*end == '.') {
        uint64_t weight = 100000000;
        for (end++; *end >= '0' && *end <= '9'; end++, weight /= 10)
            *billionths += weight * (uint64_t)(*end - '0');
    }
    *rest = end;
    return true;
}

static bool scale(uint64_t whole, uint64_t billionths, uint64_t unit, uint64_t limit, uint64_t *value)
{
    if (whole > limit / unit)
        return false;
    uint64_t part = (uint64_t)((long double)billionths * (long double)unit / 1e9L);
    *value = whole * unit + part;
    return *value >= part && *value <= limit;
}

/* "64K" and its like. Returns false for anything else. */
static bool read_size(const char *word, uint64_t *size_bytes)
{
    static const char letters[] = "KMGT";
    uint64_t whole, billionths, unit = 1;
    const char *rest;
    if (!read_decimal(word, &whole, &billionths, &rest))
        return false;
    const char *letter = *rest ? strchr(letters, *rest == 'k' ? 'K' : *rest) : NULL;
    if (letter) {
        unit = UINT64_C(1024) << (10 * (letter - letters));
        rest++;
        rest += strncmp(rest, "iB", 2) == 0 ? 2 : 0;
    }
    return *rest == '\0' && scale(whole, billionths, unit, INT64_MAX, size_bytes);
}

bool cli_size(const char *option, const char *word, uint64_t *size_bytes)
{
    if (read_size(word, size_bytes) && *size_bytes > 0)
        return true;
    cli_say(option, "'%s' is not a size; say 4096, 64K, 16M or 2G", word);
    return false;
}

bool cli_offset(const char *option, const char *word, uint64_t *offset)
{
    if (read_size(word, offset))
        return true;
    cli_say(option, "'%s' is not an offset; say 0, 4096, 64K, 16M or 2G", word);
    return false;
}

bool cli_timeout(const char *option, const char *word, int64_t *timeout_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000}};
    if (strcmp(word, "forever") == 0) {
        *timeout_ns = COVE_FOREVER;
        return true;
    }
    uint64_t whole, billionths, ns;
    const char *rest;
    bool number = read_decimal(word, &whole, &billionths, &rest);
    if (number && *rest == '\0' && whole == 0 && billionths == 0) {
        *timeout_ns = COVE_NOWAIT;
        return true;
    }
    for (size_t i = 0; number && i < sizeof units / sizeof *units; i++)
        if (strcmp(rest, units[i].name) == 0 && scale(whole, billionths, units[i].ns, INT64_MAX - 1, &ns)) {
            *timeout_ns = (int64_t)ns;
            return true;
        }
    cli_say(option, "'%s' is not a time; say 200ms, 3s, 0 or forever", word);
    return false;
}

bool cli_mode(const char *option, const char *word, uint32_t *mode)
{
    char *end;
    unsigned long value = strtoul(word, &end, 8);
    if (*word < '0' || *word > '7' || *end || value == 0 || value > 0777) {
        cli_say(option, "'%s' is not a mode; say it in octal: 600, 660, 644", word);
        return false;
    }
    *mode = (uint32_t)value;
    return true;
}

/* A whole word of digits, behind a '-' or '+' or not. */
static bool read_number(const char *word, int64_t *number)
{
    size_t sign = *word == '-' || *word == '+';
    if (word[sign] == '\0' || word[sign + strspn(word + sign, "0123456789")] != '\0')
        return false;
    errno = 0;
    *number = strtoll(word, NULL, 10);
    return errno == 0;
}

bool cli_number(const char *option, const char *word, int64_t *number)
{
    if (read_number(word, number))
        return true;
    cli_say(option, "'%s' is not a whole number, or one that is too large", word);
    return false;
}

bool cli_count_of(const char *option, const char *word, uint32_t least, uint32_t most, uint32_t *count)
{
    int64_t number;
    if (!read_number(word, &number) || number < least || number > most) {
        cli_say(option, "'%s' is not possible; say a number from %u to %u", word, least, most);
        return false;
    }
    *count = (uint32_t)number;
    return true;
}

/* ---- names ---- */

/* "sysv:0x5eed" names a segment by its key, which holds no '/'; "sysv:/etc/app.conf:7" by a path and a number. */
static bool is_key(const char *word, size_t length)
{
    char *end;
    (void)strtoul(word, &end, 0);
    return length > 0 && *word >= '0' && *word <= '9' && end == word + length;
}

/* Does the segment's part of this name go beyond the first '/', so that the object begins behind "//"? */
static bool segment_holds_slashes(const char *name, const char *slash)
{
    static const char *const with_paths[] = {"posix:", "file:", "mq:", "sem:"};
    for (size_t i = 0; i < sizeof with_paths / sizeof *with_paths; i++)
        if (strncmp(name, with_paths[i], strlen(with_paths[i])) == 0)
            return true;
    return strncmp(name, "sysv:", 5) == 0 && !is_key(name + 5, (size_t)(slash - name) - 5);
}

/* Where the segment's part ends; `*object` is what follows the separator, "" where there is none. */
static size_t split(const char *name, const char **object)
{
    const char *slash = strchr(name, '/');
    size_t separator = 1;
    if (slash && segment_holds_slashes(name, slash)) {
        slash = NULL; /* the last "//": an object's name holds none */
        for (const char *at = strstr(name, "//"); at; at = strstr(at + 1, "//"))
            slash = at;
        separator = 2;
    }
    *object = slash ? slash + separator : "";
    return slash ? (size_t)(slash - name) : strlen(name);
}

const char *cli_name_parse(const char *name, struct cli_name *parts)
{
    const char *object;
    size_t segment_length = split(name, &object), object_length = strlen(object);
    bool has_object = name[segment_length] != '\0';
    if (has_object && segment_length == 0)
        return "a name does not begin with '/'; a file is file:PATH, and what shm_open calls /NAME is posix:/NAME";
    if (segment_length >= sizeof parts->segment)
        return "the name is too long; a segment's may have 200 bytes, a path 1000";
    if (object_length >= sizeof parts->object)
        return "the name is too long; an object's may have 200 bytes";
    if (has_object &&
        (object_length == 0 || object[object_length - 1] == '/' || *object == '/' || strstr(object, "//")))
        return "a name is SEGMENT or SEGMENT/OBJECT, and a '/' stands between two other characters";
    memcpy(parts->segment, name, segment_length);
    parts->segment[segment_length] = '\0';
    memcpy(parts->object, object, object_length + 1);
    return NULL;
}

bool cli_name_split(const char *name, struct cli_name *parts)
{
    const char *wrong = cli_name_parse(name, parts);
    if (wrong)
        cli_say(name, "%s", wrong);
    return !wrong;
}

bool cli_is_object_name(const char *name, const char *kind, struct cli_name *parts)
{
    char example[CLI_NAME_BYTES], upper[32];
    size_t length = 0;
    if (!cli_name_split(name, parts))
        return false;
    if (*parts->object)
        return true;
    for (; kind[length] && length < sizeof upper - 1; length++)
        upper[length] = (char)toupper((unsigned char)kind[length]);
    upper[length] = '\0';
    cli_say(name, "%s %s's name is SEGMENT/%s; say %s", strchr("aeiou", *kind) ? "an" : "a", kind, upper,
            cli_name_join(example, *name && strlen(name) < 200 ? name : "SEGMENT", "NAME"));
    return false;
}

char *cli_name_join(char full[CLI_NAME_BYTES], const char *segment, const char *object)
{
    bool may_hold = strchr(segment, '/') || strncmp(segment, "file:", 5) == 0; /* file:state.cove//commands */
    const char *separator = *object == '\0' ? "" : may_hold ? "//" : "/";
    (void)snprintf(full, CLI_NAME_BYTES, "%.*s%s%.*s", CLI_SEGMENT_BYTES - 1, segment, separator, CLI_OBJECT_BYTES - 1,
                   object);
    return full;
}
