/* report.c - what a row found, as a table for people or as one JSON object a line.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Verdicts: ok; above or below (the goal was missed); busy (it may have been, but other programs had the CPUs that the
 * row needs); void (faster than the limit by more than the limit differs from itself, so the measurement is wrong);
 * failed (a check of content failed, or the row did not end); - (nothing was promised, or measured). */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { JSON_VERSION = 1 };
#define FAR_NS 250.0 /* a line there and back: 55 to 120 ns where the cores are near, 440 where they are far */
#define LEAST_SPREAD 0.005
#define OTHERS_NOTICED 0.1
#define EXTRAS (sizeof((struct figure *)0)->extra / sizeof(struct extra))

struct figure *report_add(struct report *report, const char *name, enum role role, struct series *series,
                          double value_at)
{
    if (report->figure_count == FIGURES_MAX)
        fail_row("%s: more than %d contestants", report->row, FIGURES_MAX);
    struct figure *figure = &report->figures[report->figure_count++];
    snprintf(figure->name, sizeof figure->name, "%s", name);
    figure->role = role;
    figure->samples = (uint32_t)series->count;
    figure->value = series_quantile(series, value_at);
    figure->p10 = series_quantile(series, 0.1);
    figure->p50 = series_quantile(series, 0.5);
    figure->p90 = series_quantile(series, 0.9);
    figure->p99 = series_quantile(series, 0.99);
    figure->max = series_quantile(series, 1);
    return figure;
}

void figure_extra(struct figure *figure, const char *is, double value)
{
    size_t i = figure->extra[0].is ? 1 : 0;
    figure->extra[i] = (struct extra){is, value};
}

static double extra_of(const struct figure *figure, const char *is)
{
    for (size_t i = 0; i < EXTRAS && figure->extra[i].is; i++)
        if (strcmp(figure->extra[i].is, is) == 0)
            return figure->extra[i].value;
    return 0;
}

double report_value(const struct report *report, const char *name, const char *extra)
{
    for (uint32_t i = 0; i < report->figure_count; i++)
        if (strcmp(report->figures[i].name, name) == 0)
            return extra ? extra_of(&report->figures[i], extra) : report->figures[i].value;
    return 0;
}

void report_aim(struct report *report, const char *what, bool at_least, double wanted, double reached)
{
    size_t i = 0;

    while (i < AIMS_MAX - 1 && report->aims[i].what)
        i++;
    report->aims[i] = (struct aim){what, at_least, wanted, reached};
}

/* "one, another (why), a third (why else)" */
void report_missing(struct report *report, const char *name, const char *why)
{
    size_t used = strlen(report->missing);
    char reason[128];
    int length = snprintf(reason, sizeof reason, " (%s)", why);

    if (length > 0 && used >= (size_t)length && strcmp(report->missing + used - length, reason) == 0)
        used -= (size_t)length;
    snprintf(report->missing + used, sizeof report->missing - used, "%s%s%s", used ? ", " : "", name, reason);
}

void report_note(struct report *report, const char *format, ...)
{
    size_t used = strlen(report->note);
    va_list arguments;

    if (used && used + 2 < sizeof report->note) {
        memcpy(report->note + used, "; ", 3);
        used += 2;
    }
    va_start(arguments, format);
    vsnprintf(report->note + used, sizeof report->note - used, format, arguments);
    va_end(arguments);
}

static bool is_better(const struct report *report, const struct figure *one, const struct figure *other)
{
    return report->more_is_better ? one->value > other->value : one->value < other->value;
}

/* The best figure of a role; NULL where there is none. */
static const struct figure *best(const struct report *report, enum role role)
{
    const struct figure *found = NULL;

    for (uint32_t i = 0; i < report->figure_count; i++) {
        const struct figure *figure = &report->figures[i];
        if (figure->role == role && figure->samples && (!found || is_better(report, figure, found)))
            found = figure;
    }
    return found;
}

static double ratio_to_limit(const struct report *report, const struct figure *figure)
{
    const struct figure *limit = best(report, ROLE_LIMIT);
    return limit && limit->value > 0 && figure ? figure->value / limit->value : 0;
}

static bool aim_is_reached(const struct aim *aim)
{
    return aim->at_least ? aim->reached >= aim->wanted : aim->reached <= aim->wanted;
}

/* "ok", "above", "below"; NULL where there is none. */
static const char *verdict_of_aims(const struct report *report)
{
    for (size_t i = 0; i < AIMS_MAX && report->aims[i].what; i++)
        if (!aim_is_reached(&report->aims[i]))
            return report->aims[i].at_least ? "below" : "above";
    return report->aims[0].what ? "ok" : NULL;
}

static const char *verdict_of_goal(const struct report *report)
{
    const struct figure *cove = best(report, ROLE_COVE);
    double ratio = ratio_to_limit(report, cove);

    switch (report->goal_kind) {
    case GOAL_RATIO_AT_MOST:
        return ratio == 0 ? "-" : ratio <= report->goal ? "ok" : "above";
    case GOAL_RATIO_AT_LEAST:
        return ratio == 0 ? "-" : ratio >= report->goal ? "ok" : "below";
    case GOAL_VALUE_AT_MOST:
        return cove->value <= report->goal ? "ok" : "above";
    case GOAL_NONE:
        break;
    }
    return "-";
}

static const char *verdict(const struct report *report)
{
    const struct figure *cove = best(report, ROLE_COVE);
    double ratio = ratio_to_limit(report, cove);
    double spread = report->limit_spread > LEAST_SPREAD ? report->limit_spread : LEAST_SPREAD;

    if (report->failed)
        return "failed";
    if (!cove)
        return "-";
    if (report->limit_is_floor && ratio > 0 && ratio < 1 - spread)
        return "void";
    const char *goal = verdict_of_goal(report), *aims = verdict_of_aims(report);
    const char *both = !aims || (*goal != '-' && strcmp(goal, "ok") != 0) ? goal : aims;
    return report->needs_all && report->others > OTHERS_NOTICED && *both != '-' && strcmp(both, "ok") != 0 ? "busy"
                                                                                                           : both;
}

static const char *machine_state(const struct report *report)
{
    if (report->gauge_ns <= 0)
        return "-";
    if (report->gauge_mixed)
        return "mixed";
    return report->gauge_ns > FAR_NS ? "far" : "near";
}

static void print_head(void)
{
    puts("Each row: Cove, the limit of this machine, Cove's ratio to it; below it others with theirs.");
    printf("%-20s %14s %14s %7s %12s  %-7s %s\n", "row", "cove", "limit", "ratio", "goal", "verdict", "state");
}

static const char *format_value(char *text, size_t size, double value, const char *unit)
{
    snprintf(text, size,
             value >= 1000  ? "%.0f %s"
             : value >= 100 ? "%.1f %s"
             : value >= 0.1 ? "%.2f %s"
                            : "%.4f %s",
             value, unit);
    return text;
}

static const char *format_goal(char *text, size_t size, const struct report *report)
{
    switch (report->goal_kind) {
    case GOAL_RATIO_AT_MOST:
        snprintf(text, size, "<= %.2f x", report->goal);
        break;
    case GOAL_RATIO_AT_LEAST:
        snprintf(text, size, ">= %.2f x", report->goal);
        break;
    case GOAL_VALUE_AT_MOST:
        snprintf(text, size, "<= %g %s", report->goal, report->unit);
        break;
    case GOAL_NONE:
        snprintf(text, size, "-");
        break;
    }
    return text;
}

static void print_extra(const struct report *report, const struct figure *figure)
{
    char value[32];

    for (size_t i = 0; i < EXTRAS && figure->extra[i].is; i++)
        if (strcmp(figure->extra[i].is, "handovers") == 0)
            printf("  %s handed over", format_value(value, sizeof value, figure->extra[i].value, report->unit));
        else
            printf("  %s %.2f", figure->extra[i].is, figure->extra[i].value);
}

/* Below a row: its peers and Cove's other ways, each with its own ratio to the limit. Where there is more to say of a
 * figure, the row's own two stand here once more. */
static void print_other(const struct report *report, const struct figure *figure)
{
    char value[32], ratio[16] = "";

    if (!figure->extra[0].is && (figure == best(report, ROLE_LIMIT) || figure == best(report, ROLE_COVE)))
        return;
    if (ratio_to_limit(report, figure) > 0)
        snprintf(ratio, sizeof ratio, "%.2f", ratio_to_limit(report, figure));
    printf("  %-18s %14s %14s %7s", figure->name, format_value(value, sizeof value, figure->value, report->unit), "",
           ratio);
    print_extra(report, figure);
    putchar('\n');
}

static void print_aims(const struct report *report)
{
    for (size_t i = 0; i < AIMS_MAX && report->aims[i].what; i++) {
        const struct aim *aim = &report->aims[i];
        printf("  goal: %s %s %g: %.3g, %s\n", aim->what, aim->at_least ? ">=" : "<=", aim->wanted, aim->reached,
               aim_is_reached(aim) ? "ok" : "missed");
    }
}

/* Where single events were timed and not blocks of them, how they spread matters as much as their middle. */
static void print_spread(const struct report *report, const struct figure *figure)
{
    printf("  %-18s p50 %.3f, p90 %.3f, p99 %.3f, max %.3f %s; %u samples\n", figure->name, figure->p50, figure->p90,
           figure->p99, figure->max, report->unit, figure->samples);
}

static void print_first_line(const struct report *report)
{
    const struct figure *cove = best(report, ROLE_COVE), *limit = best(report, ROLE_LIMIT);
    char value[2][32], goal[32], ratio[24] = "-";

    if (ratio_to_limit(report, cove) > 0)
        snprintf(ratio, sizeof ratio, "%.2f", ratio_to_limit(report, cove));
    printf("%-20s %14s %14s %7s %12s  %-7s %s", report->row,
           cove ? format_value(value[0], sizeof value[0], cove->value, report->unit) : "-",
           limit ? format_value(value[1], sizeof value[1], limit->value, report->unit) : "-", ratio,
           format_goal(goal, sizeof goal, report), verdict(report), machine_state(report));
    if (report->gauge_ns > 0)
        printf(" (line %.0f ns)", report->gauge_ns);
    putchar('\n');
}

static void print_table(const struct report *report)
{
    print_first_line(report);
    for (uint32_t i = 0; i < report->figure_count; i++) {
        const struct figure *figure = &report->figures[i];
        if (report->tails)
            print_spread(report, figure);
        else
            print_other(report, figure);
    }
    print_aims(report);
    if (report->limit_spread > LEAST_SPREAD)
        printf("  (limit twice in turn: %.1f %% apart)\n", report->limit_spread * 100);
    if (report->note[0])
        printf("  (%s)\n", report->note);
    if (report->others > OTHERS_NOTICED)
        printf("  (other programs took %.0f %% of the CPUs meanwhile)\n", report->others * 100);
    if (report->missing[0])
        printf("  missing here: %s\n", report->missing);
    fflush(stdout);
}

/* Names and notes are ours and hold nothing that JSON would want escaped. */
static void print_json(const struct report *report)
{
    static const char *const roles[] = {"limit", "cove", "variant", "peer", "gauge"};
    static const char *const goals[] = {"none", "ratio_at_most", "ratio_at_least", "value_at_most"};

    printf("{\"version\":%d,\"row\":\"%s\",\"unit\":\"%s\",\"value\":\"%s\",\"verdict\":\"%s\",\"state\":\"%s\","
           "\"line_ns\":%.2f,\"ratio\":%.4f,\"limit_spread\":%.4f,\"others\":%.3f,\"goal_kind\":\"%s\",\"goal\":%g,"
           "\"note\":\"%s\","
           "\"missing\":\"%s\",\"aims\":[",
           JSON_VERSION, report->row, report->unit, report->value_is, verdict(report), machine_state(report),
           report->gauge_ns, ratio_to_limit(report, best(report, ROLE_COVE)), report->limit_spread, report->others,
           goals[report->goal_kind], report->goal, report->note, report->missing);
    for (size_t i = 0; i < AIMS_MAX && report->aims[i].what; i++)
        printf("%s{\"what\":\"%s\",\"kind\":\"%s\",\"goal\":%g,\"reached\":%.4f}", i ? "," : "", report->aims[i].what,
               report->aims[i].at_least ? "at_least" : "at_most", report->aims[i].wanted, report->aims[i].reached);
    printf("],\"figures\":[");
    for (uint32_t i = 0; i < report->figure_count; i++) {
        const struct figure *figure = &report->figures[i];
        printf("%s{\"name\":\"%s\",\"role\":\"%s\",\"value\":%.4f,\"ratio\":%.4f,\"p10\":%.4f,\"p50\":%.4f,\"p90\":%."
               "4f,\"p99\":%.4f,"
               "\"max\":%.4f,\"samples\":%u,\"disturbed\":%u",
               i ? "," : "", figure->name, roles[figure->role], figure->value, ratio_to_limit(report, figure),
               figure->p10, figure->p50, figure->p90, figure->p99, figure->max, figure->samples, figure->disturbed);
        for (size_t k = 0; k < EXTRAS && figure->extra[k].is; k++)
            printf(",\"%s\":%.4f", figure->extra[k].is, figure->extra[k].value);
        putchar('}');
    }
    puts("]}");
    fflush(stdout);
}

void report_head(const struct settings *settings)
{
    struct utsname system;

    if (uname(&system) == 0)
        printf("%s %s, %s, %ld CPUs; %s\n", system.sysname, system.release, system.machine,
               sysconf(_SC_NPROCESSORS_ONLN), settings->quick ? "quick" : "full");
    print_head();
}

void report_print(const struct report *report, bool json)
{
    if (json)
        print_json(report);
    else
        print_table(report);
}
