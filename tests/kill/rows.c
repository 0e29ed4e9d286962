/* rows.c - the rows of the kill table: counting trials, printing them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A row has failed when one of its four verdicts is not 0, when the operation failed though nobody killed it (BROKEN), or when
 * its count of instructions left its kept range. */
#include "rows.h"

#include "symbols.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FAILURES_SHOWN = 4, RECOVERIES_KEPT = 1 << 16 };

static uint64_t shown_seed;
static int show_all;

void rows_show(uint64_t seed, int all_failures)
{
    shown_seed = seed;
    show_all = all_failures;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static const char *const verdict_name[VERDICT_COUNT] = {"HANG", "CORRUPT", "LOST", "LEAKED"};

static void show_failure(struct row *row, const struct trial *trial)
{
    char symbol[256] = "-";
    if (++row->shown > FAILURES_SHOWN && !show_all)
        return;
    if (trial->address != 0)
        symbol_name(trial->address, symbol, sizeof symbol);
    printf("  %s, ", row->name);
    if (trial->point == NOT_KILLED)
        printf("not killed");
    else
        printf("%s at point %zu", trial->stopped ? "stopped" : "killed", trial->point);
    if (trial->recovery_point != NOT_KILLED)
        printf(", its recoverer at point %zu", trial->recovery_point);
    printf(", next instruction %s, seed %" PRIu64 "\n", symbol, shown_seed);
    uint32_t kept = trial->finding_count < LEDGER_FINDINGS ? trial->finding_count : LEDGER_FINDINGS;
    for (uint32_t i = 0; i < kept; i++)
        printf("      %s %s\n", verdict_name[trial->finding[i].verdict], trial->finding[i].text);
    fflush(stdout);
}

void row_count(struct row *row, const struct trial *trial)
{
    if (trial->refused) {
        printf("SKIP: this system does not allow ptrace, so nothing can be killed at an instruction\n");
        fflush(stdout);
        _exit(EXIT_SKIP);
    }
    if (trial->finding_count != 0)
        show_failure(row, trial);
    for (int i = 0; i < VERDICT_COUNT; i++)
        row->count[i] += (uint64_t)trial->count[i];
    if (trial->point == NOT_KILLED)
        return;
    row->killed++;
    row->slept += (size_t)trial->slept;
    if (row->recovery_us == NULL)
        row->recovery_us = calloc(RECOVERIES_KEPT, sizeof *row->recovery_us);
    if (row->recovery_us == NULL)
        abort();
    if (row->recovery_count < RECOVERIES_KEPT)
        row->recovery_us[row->recovery_count++] = (uint32_t)(trial->recovery_ns / 1000);
}

static double quantile_ms(struct row *row, double part)
{
    if (row->recovery_count == 0)
        return 0;
    qsort(row->recovery_us, row->recovery_count, sizeof *row->recovery_us, compare_u32);
    size_t at = (size_t)((double)(row->recovery_count - 1) * part + 0.5);
    return row->recovery_us[at] / 1000.0;
}

void rows_print_head(void)
{
    printf("%-44s %8s %7s %7s %5s %8s %5s %7s %8s %8s %8s\n", "operation", "instr", "points", "killed", "hang",
           "corrupt", "lost", "leaked", "p50 ms", "p99 ms", "max ms");
}

void row_print(struct row *row)
{
    printf("%-44s %8zu %7zu %7zu %5" PRIu64 " %8" PRIu64 " %5" PRIu64 " %7" PRIu64 " %8.3f %8.3f %8.3f%s%s%s\n",
           row->name, row->instructions, row->points, row->killed, row->count[VERDICT_HANG],
           row->count[VERDICT_CORRUPT], row->count[VERDICT_LOST], row->count[VERDICT_LEAKED], quantile_ms(row, 0.5),
           quantile_ms(row, 0.99), quantile_ms(row, 1), row->out_of_range ? "  OUT OF ITS KEPT RANGE" : "",
           row->broken ? "  BROKEN" : "", row->drifted != 0 ? "  (way varies)" : "");
    if (row->missed != 0)
        printf("  (%" PRIu64 " of these came to the end before their point, and were killed there)\n", row->missed);
    fflush(stdout);
}

int row_failed(const struct row *row)
{
    uint64_t sum = 0;
    for (int i = 0; i < VERDICT_COUNT; i++)
        sum += row->count[i];
    return sum != 0 || row->out_of_range || row->broken;
}

void row_add(struct row *total, const struct row *row)
{
    total->instructions += row->instructions;
    total->points += row->points;
    total->killed += row->killed;
    total->slept += row->slept;
    total->out_of_range |= row->out_of_range;
    total->broken |= row->broken;
    for (int i = 0; i < VERDICT_COUNT; i++)
        total->count[i] += row->count[i];
    if (total->recovery_us == NULL)
        total->recovery_us = calloc(RECOVERIES_KEPT, sizeof *total->recovery_us);
    if (total->recovery_us == NULL)
        abort();
    for (size_t i = 0; i < row->recovery_count && total->recovery_count < RECOVERIES_KEPT; i++)
        total->recovery_us[total->recovery_count++] = row->recovery_us[i];
}
