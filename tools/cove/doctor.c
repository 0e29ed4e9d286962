/* doctor.c - `cove doctor [NAME...]`: what is wrong with segments and machine, and the command that mends it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The doctor looks and changes nothing: segments are mapped read-only. While members work, what looks wrong may be a
 * change in flight; so a segment with living members is looked at several times, until one look is clean. Where none
 * is, a finding is believed if two looks in a row had it. */
#include "doctor.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOKS 10
#define BETWEEN_LOOKS_US 20000
#define MOST_FINDINGS 50 /* of one segment: who has more has seen enough */

static int json;
static unsigned finding_count;

static const struct poptOption options[] = {
    {"json", 'j', POPT_ARG_NONE, &json, 0, "print one JSON object a line", NULL},
    POPT_TABLEEND,
};

void doctor_say(enum doctor_level level, const char *about, const char *mend, const char *format, ...)
{
    static const char *const words[] = {"ok", "note", "finding"};
    char sentence[900], clean[900], clean_about[CLI_NAME_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    finding_count += level == DOCTOR_FINDING;
    if (!json) {
        printf("%-8s %s: %s\n", words[level], cli_clean(clean_about, sizeof clean_about, about),
               cli_clean(clean, sizeof clean, sentence));
        if (mend)
            printf("%-8s %s\n", "  mend:", cli_clean(clean, sizeof clean, mend));
        return;
    }
    struct json_object *line = cli_json("doctor");
    cli_json_text(line, "level", words[level]);
    cli_json_text(line, "about", about);
    cli_json_text(line, "text", sentence);
    if (mend)
        cli_json_text(line, "mend", mend);
    cli_json_print(line);
}

/* ---- the structures of a segment ---- */

struct look {
    char *sentences[MOST_FINDINGS];
    size_t count;
};

static void note_sentence(const char *sentence, void *context)
{
    struct look *look = context;
    if (look->count < MOST_FINDINGS && (look->sentences[look->count] = strdup(sentence)) != NULL)
        look->count++;
}

static void forget(struct look *look)
{
    for (size_t i = 0; i < look->count; i++)
        free(look->sentences[i]);
    look->count = 0;
}

static bool has(const struct look *look, const char *sentence)
{
    for (size_t i = 0; i < look->count; i++)
        if (strcmp(look->sentences[i], sentence) == 0)
            return true;
    return false;
}

/* Look until a look is clean, or often enough. Returns 0 for sound, 1 for unsound with the last two looks, or an
 * error. */
static int64_t look_often(cove_segment *segment, struct look looks[2], bool *certain)
{
    struct cove_segment_info info;
    int result = cove_segment_stat(segment, &info);
    if (result < 0)
        return result;
    *certain = info.members_alive == 0;
    for (int i = 0; i < (*certain ? 1 : LOOKS); i++) {
        if (i > 0)
            (void)usleep(BETWEEN_LOOKS_US);
        struct look *look = &looks[i % 2];
        forget(look);
        int64_t found = cove_segment_check(segment, note_sentence, look);
        if (found <= 0)
            return found;
    }
    return 1;
}

static void say_unsound(const char *name, const struct look looks[2], bool certain)
{
    const struct look *last = &looks[certain ? 0 : (LOOKS - 1) % 2], *before = certain ? last : &looks[LOOKS % 2];
    char mend[CLI_NAME_BYTES + 40];
    bool any = false;
    (void)snprintf(mend, sizeof mend, "cove rm --force %s   (its data is lost)", name);
    for (size_t i = 0; i < last->count; i++)
        any |= has(before, last->sentences[i]);
    /* A sentence may hold a figure that changes with each look: then none is the same, and all are said. */
    for (size_t i = 0; i < last->count; i++)
        if (!any || has(before, last->sentences[i]))
            doctor_say(DOCTOR_FINDING, name, i + 1 == last->count ? mend : NULL, "%s", last->sentences[i]);
}

/* Raw memory has no structure that could be wrong. An empty file is no memory either. */
static bool is_region(const char *name)
{
    struct cove_region_info info;
    char size[16];
    if (cove_region_look(name, &info) < 0 || info.is_segment || info.size_bytes == 0)
        return false;
    doctor_say(DOCTOR_GOOD, name, NULL, "a region of %s, without a structure to be checked",
               cli_show_size(size, info.size_bytes));
    return true;
}

/* What cove_open refuses is no segment, or a broken one. cove_unlink leaves alone what is none: that takes rm(1). */
static void say_refused(const char *name, int result)
{
    char mend[4200];
    if (result == COVE_ECORRUPT || result == COVE_ENOTCOVE)
        (void)snprintf(mend, sizeof mend, "rm %s/%s.cove   (if nobody needs what is in it)", cove_directory(), name);
    else if (result == -EACCES)
        (void)snprintf(mend, sizeof mend, "sudo cove doctor %s", name);
    else
        (void)snprintf(mend, sizeof mend, "cove rm %s   (with the version of Cove that made it)", name);
    doctor_say(result == -EACCES ? DOCTOR_NOTE : DOCTOR_FINDING, name, mend, "%s", cli_sentence(name, result));
}

static void say_sound(const char *name)
{
    struct cove_segment_info info;
    char size[16];
    if (cove_stat(name, &info) < 0)
        return;
    doctor_say(DOCTOR_GOOD, name, NULL, "sound; %s, %u object%s, %u member%s", cli_show_size(size, info.size_bytes),
               info.object_count, info.object_count == 1 ? "" : "s", info.members_alive,
               info.members_alive == 1 ? "" : "s");
    if (info.members_dead > 0)
        doctor_say(DOCTOR_FINDING, name, "cove gc", "%u dead member%s not yet recovered", info.members_dead,
                   info.members_dead == 1 ? " is" : "s are");
}

/* Returns a status. `missing_is_wrong`: the name was given by the user; otherwise the segment may just have gone. */
static int check_segment(const char *name, bool missing_is_wrong)
{
    cove_segment *segment;
    struct look looks[2] = {0};
    bool certain = true;
    int result = cli_open_readonly(&segment, name);
    if (result == -ENOENT)
        return missing_is_wrong ? cli_failed_name(name, result) : CLI_DONE;
    if (result == COVE_ENAME && missing_is_wrong)
        return cli_failed(name, result);
    if (result < 0) {
        if (!((result == COVE_ENOTCOVE || result == COVE_ETYPE) && is_region(name)))
            say_refused(name, result);
        return CLI_DONE;
    }
    int64_t found = look_often(segment, looks, &certain);
    if (found < 0)
        say_refused(name, (int)found);
    else if (found > 0)
        say_unsound(name, looks, certain);
    else
        say_sound(name);
    forget(&looks[0]);
    forget(&looks[1]);
    (void)cove_close(segment);
    return CLI_DONE;
}

/* ---- all of them ---- */

static bool is_kept_by_us(const char *name)
{
    struct cove_segment_info info;
    return cove_stat(name, &info) == 0 && info.lifetime == COVE_KEEP && info.owner_uid == geteuid();
}

/* What `cove gc` would do about dead members was said with their segment; the rest is debris. */
static void note_debris(const char *name, const char *sentence, void *context)
{
    struct cove_segment_info info;
    (void)context;
    if (cove_stat(name, &info) < 0 || info.members_dead == 0)
        doctor_say(DOCTOR_FINDING, name, "cove gc", "%s", sentence);
}

static int check_all(void)
{
    char **names;
    bool has_kept = false;
    doctor_machine();
    doctor_kernel();
    int64_t count = cli_segments(&names);
    if (count < 0) /* a directory that cannot be read has been found already */
        return finding_count > 0 ? CLI_DONE : cli_failed(cove_directory(), count);
    for (int64_t i = 0; i < count; i++) {
        (void)check_segment(names[i], false);
        has_kept |= is_kept_by_us(names[i]);
    }
    cli_segments_free(names, count);
    doctor_logind(has_kept);
    int64_t debris = cove_gc(1, note_debris, NULL);
    return debris < 0 ? cli_failed(cove_directory(), debris) : CLI_DONE;
}

static int run(const struct cli_call *call)
{
    int worst = call->name_count == 0 ? check_all() : CLI_DONE;
    for (int i = 0; i < call->name_count; i++) {
        int status = check_segment(call->names[i], true);
        worst = status > worst ? status : worst;
    }
    if (worst == CLI_DONE && finding_count > 0)
        worst = CLI_FAILED;
    if (!json && worst <= CLI_FAILED)
        printf("%u finding%s\n", finding_count, finding_count == 1 ? "" : "s");
    return worst;
}

const struct cli_verb cli_doctor = {
    .name = "doctor",
    .arguments = "[SEGMENT...]",
    .summary = "say what is wrong here, and the command that mends it",
    .text =
        "Looks at every structure of every segment, or of those that are named, and changes nothing; without a "
        "name it\n"
        "looks at the machine too: the directory, its room, limits of memory and of the kernel, and who might remove "
        "segments.\n"
        "Exit status 0: no findings (notes are none); 1: there are some.",
    .options = options,
    .most = -1,
    .run = run,
};
