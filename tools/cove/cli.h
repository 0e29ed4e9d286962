/* cli.h - what the verbs of the command share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A verb is one constant `struct cli_verb` in a file of its own and one row in main.c. Its options are a popt table
 * whose targets are static in that file: the command runs one verb in its life.
 *
 * The command knows Cove by <cove.h> alone. */
#ifndef COVE_TOOLS_CLI_H
#define COVE_TOOLS_CLI_H

#include <cove.h>

#include <popt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit status of the command. */
enum cli_status {
    CLI_DONE = 0,
    CLI_FAILED = 1, /* failed, or (doctor) found something */
    CLI_USE = 2, /* the command line is wrong */
    CLI_TIMEOUT = 3, /* time ran out, or it would have to wait */
    CLI_NONAME = 4, /* there is nothing of that name */
    /* of a verb that runs a command and so passes its status on, as env(1) and timeout(1) */
    CLI_RUN_TIMEOUT = 124, /* time ran out before it was run */
    CLI_RUN_FAILED = 125, /* Cove failed, or the command line is wrong */
    CLI_RUN_UNFIT = 126, /* the command is there and cannot be run */
    CLI_RUN_MISSING = 127, /* there is no such command */
    CLI_RUN_SIGNAL = 128, /* and the number of the signal that it died of */
};

/* A command line, taken apart. */
struct cli_call {
    const char *verb;
    const char *const *names; /* what is no option */
    int name_count;
    char *const *command; /* what stands behind "--", of a verb that runs it; ends in NULL */
};

struct cli_verb {
    const char *name;
    const char *arguments; /* "SEGMENT/STREAM [FILE]" */
    const char *summary; /* one line */
    const char *text; /* what help says besides; NULL: nothing */
    const struct poptOption *options; /* NULL: none */
    int least, most; /* how many names it takes; most < 0: any number */
    bool runs_command; /* what stands behind "--" is a command */
    bool takes_numbers; /* "-3" is a word, not an option */
    int (*run)(const struct cli_call *call);
};

extern const struct cli_verb cli_create, cli_ls, cli_stat, cli_cat, cli_replace, cli_write, cli_read, cli_rm, cli_gc,
    cli_doctor, cli_demo, cli_lock, cli_signal, cli_wait_verb, cli_count;

#define CLI_SEGMENT_BYTES 1024 /* a path, with its prefix; as `name` in struct cove_segment_info */
#define CLI_OBJECT_BYTES 208 /* 200 bytes, and what nobody should have typed */
#define CLI_NAME_BYTES (CLI_SEGMENT_BYTES + 2 + CLI_OBJECT_BYTES)

/* ---- arguments.c: from words to values. Each prints a sentence and returns false where the word is wrong. ---- */

/* Take a verb's command line apart. Returns a status >= 0 to end with (help was asked for, or the line is wrong), or
 * -1. */
int cli_parse(const struct cli_verb *verb, int argc, const char **argv, struct cli_call *call);
void cli_parse_done(void); /* give its memory back */
void cli_help(const struct cli_verb *verb);

bool cli_size(const char *option, const char *word, uint64_t *size_bytes); /* 4096, 64K, 16M, 2G; 0 is refused */
bool cli_offset(const char *option, const char *word, uint64_t *offset); /* the same, and 0 */
bool cli_timeout(const char *option, const char *word, int64_t *timeout_ns); /* 0, 200ms, 3s, 5m, forever */
bool cli_mode(const char *option, const char *word, uint32_t *mode); /* 0660; 0 is refused, it would mean the default */
bool cli_count_of(const char *option, const char *word, uint32_t least, uint32_t most, uint32_t *count);
bool cli_number(const char *option, const char *word, int64_t *number); /* any, with a sign or without */

/* A full name in its parts: "robot/commands"; where the segment's part holds slashes itself,
 * "file:/var/app.cove//commands". Where no object is named, `object` is "". */
struct cli_name {
    char segment[CLI_SEGMENT_BYTES];
    char object[CLI_OBJECT_BYTES];
};
bool cli_name_split(const char *name, struct cli_name *parts); /* says what is wrong */
const char *cli_name_parse(const char *name, struct cli_name *parts); /* returns what is wrong, or NULL */

/* The other way round. Returns `full`. */
char *cli_name_join(char full[CLI_NAME_BYTES], const char *segment, const char *object);

/* ---- message.c: what is said on stderr, a line each, safe for a terminal ---- */

/* "cove: ABOUT: sentence" */
__attribute__((format(printf, 2, 3))) void cli_say(const char *about, const char *format, ...);

/* What Cove's last failing call said, without the name (or its segment's) at the head: we say that ourselves. */
const char *cli_sentence(const char *name, int64_t result);

/* Say what Cove's last failing call said of `name`, and return the exit status that `result` stands for. */
int cli_failed(const char *name, int64_t result);

/* It belongs to another user: what was said of that, with advice for a command line. */
int cli_failed_owner(const char *name, const char *advice);

/* As cli_failed; for a name that is missing, ask about one that is nearly the same. */
int cli_failed_name(const char *name, int64_t result);

/* Is it the name of an object of that kind ("lock")? Says what it would have to be, where it is not. */
bool cli_is_object_name(const char *name, const char *kind, struct cli_name *parts);

/* Say that `name` was created, and ask about a name that is nearly the same. */
void cli_say_created(const char *name, const char *what);

/* Make foreign bytes fit to be shown: control characters and broken UTF-8 become '?'. Returns `clean`. */
char *cli_clean(char *clean, size_t size_bytes, const char *foreign);

/* ---- lookup.c: what is there ---- */

/* Find the name that `name` (SEGMENT or SEGMENT/OBJECT) may have been meant to be. */
bool cli_nearest(const char *name, char nearest[CLI_NAME_BYTES]);

/* The distance of two words in typing errors; digits that differ make them different words (camera1, camera2). */
unsigned cli_distance(const char *left, const char *right);

/* Open for looking: takes no part, accepts any owner. */
int cli_open_readonly(cove_segment **segment, const char *name);

/* All objects, or all members: a list to free(), its length as the result, or an error. */
int64_t cli_objects(cove_segment *segment, struct cove_object_info **objects);
int64_t cli_members(cove_segment *segment, struct cove_member_info **members);

/* The names of all segments, sorted; free each, then the list. Returns their number or an error. */
int64_t cli_segments(char ***names);
void cli_segments_free(char **names, int64_t count);

/* ---- show.c: figures, tables, JSON ---- */

char *cli_show_size(char text[16], uint64_t size_bytes); /* "1.5 MiB" */
char *cli_show_rate(char text[24], uint64_t size_bytes,
                    int64_t ns); /* "2.1 GB/s", decimal as everybody's data sheets */
char *cli_show_span(char text[16], int64_t ns); /* "1.3 ms" */
char *cli_show_owner(char text[40], uint32_t uid);
char *cli_show_when(char text[40], uint64_t ns_since_1970);

/* One figure of a page: "  size         1.5 MiB (1572864 bytes)". */
void cli_line_text(const char *key, const char *foreign);
void cli_line_size(const char *key, uint64_t size_bytes);

/* A table is built cell by cell and printed in columns as wide as they must be. */
#define CLI_COLUMNS 12
struct cli_table {
    const char *const *heads; /* a head that begins with '>' makes its column stand to the right */
    size_t column_count;
    char *(*rows)[CLI_COLUMNS];
    size_t row_count;
};
void cli_table_row(struct cli_table *table);
__attribute__((format(printf, 3, 4))) void cli_table_cell(struct cli_table *table, size_t column, const char *format,
                                                          ...);
void cli_table_print(struct cli_table *table, const char *indent); /* and free */

/* One line of JSON: a flat or nested json-c object with "version" first. */
struct json_object;
struct json_object *cli_json(const char *kind);
void cli_json_text(struct json_object *object, const char *key, const char *foreign);
void cli_json_number(struct json_object *object, const char *key, uint64_t number);
void cli_json_signed(struct json_object *object, const char *key, int64_t number);
void cli_json_print(struct json_object *object); /* and free */

/* Was everything printed? A full disk or a closed pipe behind stdout is a failure of the command. */
int cli_flush(int status);

/* ---- figures.c ---- */

/* Take the next "key=value" out of `figures`. Returns false at the end. */
bool cli_figure(const char **figures, char key[64], char value[136]);
struct json_object *cli_object_json(const char *segment, const struct cove_object_info *info);

/* ---- stop.c: signals and waiting ---- */

void cli_stop_install(void); /* from here on a signal also ends the waits of Cove's that are under way */
int cli_stopped(void); /* the signal that asked us to stop, or 0 */
_Noreturn void cli_stop_die(int signal_number); /* as that signal would have it: the shell sees it */
int64_t cli_now_ns(void); /* monotonic clock */

/* A wait that may be long goes in slices, between which a signal is noticed. */
#define CLI_SLICE_NS INT64_C(100000000)
struct cli_wait {
    int64_t timeout_ns;
    int64_t began_ns; /* 0: not waiting */
};
int64_t cli_wait_slice(struct cli_wait *wait); /* how long the next slice may be */
bool cli_wait_over(const struct cli_wait *wait);
void cli_wait_reset(struct cli_wait *wait); /* something moved: time counts anew */

/* ---- progress.c ---- */

struct cli_progress {
    const char *name;
    const char *done_word; /* "written" */
    uint64_t expected_bytes; /* 0: unknown */
    uint64_t bytes;
    int64_t began_ns, shown_ns;
    bool wanted, shown;
};
void cli_progress_begin(struct cli_progress *progress, const char *name, const char *done_word, bool forced);
void cli_progress_step(struct cli_progress *progress, uint64_t bytes, const char *waiting_for);
void cli_progress_end(struct cli_progress *progress);

#endif
