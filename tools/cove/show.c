/* show.c - figures for people, tables in columns, and JSON for programs.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

char *cli_show_size(char text[16], uint64_t size_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double value = (double)size_bytes;
    for (; value >= 1024.0 && unit + 1 < sizeof units / sizeof *units; unit++)
        value /= 1024.0;
    bool whole = value >= 99.95 || (double)(uint64_t)value >= value;
    (void)snprintf(text, 16, whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

char *cli_show_rate(char text[24], uint64_t size_bytes, int64_t ns)
{
    double rate = ns > 0 ? (double)size_bytes * 1e9 / (double)ns : 0.0;
    if (rate >= 1e9)
        (void)snprintf(text, 24, "%.2f GB/s", rate / 1e9);
    else if (rate >= 1e6)
        (void)snprintf(text, 24, "%.0f MB/s", rate / 1e6);
    else if (rate >= 1e3)
        (void)snprintf(text, 24, "%.0f kB/s", rate / 1e3);
    else
        (void)snprintf(text, 24, "%.0f B/s", rate);
    return text;
}

char *cli_show_span(char text[16], int64_t ns)
{
    if (ns < 1000)
        (void)snprintf(text, 16, "%d ns", (int)ns);
    else if (ns < 1000000)
        (void)snprintf(text, 16, ns < 100000 ? "%.1f us" : "%.0f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        (void)snprintf(text, 16, ns < 100000000 ? "%.1f ms" : "%.0f ms", (double)ns / 1e6);
    else
        (void)snprintf(text, 16, "%.2f s", (double)ns / 1e9);
    return text;
}

char *cli_show_owner(char text[40], uint32_t uid)
{
    struct passwd *user = getpwuid(uid);
    if (user)
        (void)snprintf(text, 40, "%.32s", user->pw_name);
    else
        (void)snprintf(text, 40, "%u", uid);
    return text;
}

char *cli_show_when(char text[40], uint64_t ns_since_1970)
{
    time_t seconds = (time_t)(ns_since_1970 / 1000000000);
    struct tm local;
    if (!localtime_r(&seconds, &local) || strftime(text, 40, "%Y-%m-%d %H:%M:%S", &local) == 0)
        (void)snprintf(text, 40, "?");
    return text;
}

/* ---- pages ---- */

void cli_line_text(const char *key, const char *foreign)
{
    char clean[512];
    printf("  %-12s %s\n", key, cli_clean(clean, sizeof clean, foreign));
}

void cli_line_size(const char *key, uint64_t size_bytes)
{
    char text[16];
    printf("  %-12s %s (%" PRIu64 " bytes)\n", key, cli_show_size(text, size_bytes), size_bytes);
}

/* ---- tables ---- */

#define LEAST_LAST_WIDTH 8 /* less than that is not worth cutting for: the line is left to wrap */

/* Columns of the terminal that is printed to; 0: it is none, and nothing is cut. */
static size_t terminal_width(void)
{
    struct winsize size;
    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* How many characters of UTF-8: all bytes but those that continue one. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

/* Shorten to `width` characters, the last three of them dots. */
static void cut_text(char *text, size_t width)
{
    size_t seen = 0;
    if (text_width(text) <= width)
        return;
    for (; *text; text++) {
        bool begins = ((unsigned char)*text & 0xc0) != 0x80;
        if (begins && seen++ == width - 3)
            break;
    }
    (void)snprintf(text, 4, "..."); /* at least four characters stood here */
}

static _Noreturn void no_memory(void)
{
    cli_say("output", "no memory");
    exit(CLI_FAILED);
}

void cli_table_row(struct cli_table *table)
{
    void *grown = realloc(table->rows, (table->row_count + 1) * sizeof *table->rows);
    if (!grown)
        no_memory();
    table->rows = grown;
    memset(table->rows[table->row_count++], 0, sizeof *table->rows);
}

void cli_table_cell(struct cli_table *table, size_t column, const char *format, ...)
{
    char text[512], clean[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char **cell = &table->rows[table->row_count - 1][column];
    free(*cell);
    *cell = strdup(cli_clean(clean, sizeof clean, text));
    if (!*cell)
        no_memory();
}

static int column_width(const struct cli_table *table, size_t column)
{
    size_t width = text_width(table->heads[column] + (*table->heads[column] == '>'));
    for (size_t row = 0; row < table->row_count; row++) {
        size_t length = table->rows[row][column] ? text_width(table->rows[row][column]) : 0;
        width = length > width ? length : width;
    }
    return (int)width;
}

static void print_row(const struct cli_table *table, char *const *cells, const int *widths, const char *indent)
{
    fputs(indent, stdout);
    for (size_t column = 0; column < table->column_count; column++) {
        const char *head = table->heads[column];
        bool right = *head == '>', last = column + 1 == table->column_count;
        const char *text = cells ? cells[column] ? cells[column] : "" : head + right;
        /* Nothing is padded at the end of a line. */
        int padding = widths[column] - (int)text_width(text);
        printf("%*s%s%*s%s", right ? padding : 0, "", text, right || last ? 0 : padding, "", last ? "\n" : "  ");
    }
}

/* The last column gets what the terminal has left, as long as that is enough to read something. */
static void cut_last_column(struct cli_table *table, const int *widths, const char *indent)
{
    size_t width = terminal_width(), before = strlen(indent), last = table->column_count - 1;
    for (size_t column = 0; column < last; column++)
        before += (size_t)widths[column] + 2;
    if (width < before + LEAST_LAST_WIDTH)
        return;
    for (size_t row = 0; row < table->row_count; row++)
        if (table->rows[row][last])
            cut_text(table->rows[row][last], width - before);
}

void cli_table_print(struct cli_table *table, const char *indent)
{
    int widths[CLI_COLUMNS];
    for (size_t column = 0; column < table->column_count; column++)
        widths[column] = column_width(table, column);
    cut_last_column(table, widths, indent);
    print_row(table, NULL, widths, indent);
    for (size_t row = 0; row < table->row_count; row++) {
        print_row(table, table->rows[row], widths, indent);
        for (size_t column = 0; column < table->column_count; column++)
            free(table->rows[row][column]);
    }
    free(table->rows);
    table->rows = NULL;
    table->row_count = 0;
}

/* ---- JSON ---- */

struct json_object *cli_json(const char *kind)
{
    struct json_object *object = json_object_new_object();
    if (!object)
        no_memory();
    cli_json_number(object, "version", 1);
    cli_json_text(object, "kind", kind);
    return object;
}

void cli_json_text(struct json_object *object, const char *key, const char *foreign)
{
    char clean[1024];
    json_object_object_add(object, key, json_object_new_string(cli_clean(clean, sizeof clean, foreign)));
}

void cli_json_number(struct json_object *object, const char *key, uint64_t number)
{
    json_object_object_add(object, key, json_object_new_uint64(number));
}

void cli_json_signed(struct json_object *object, const char *key, int64_t number)
{
    json_object_object_add(object, key, json_object_new_int64(number));
}

void cli_json_print(struct json_object *object)
{
    puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
}

int cli_flush(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    cli_say("output", "%s; what was printed is not whole", strerror(errno));
    return status == CLI_DONE ? CLI_FAILED : status;
}
