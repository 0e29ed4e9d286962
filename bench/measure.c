/* measure.c - series of figures and their quantiles.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "bench.h"

#include <stdlib.h>

void series_add(struct series *series, double value)
{
    if (series->count == series->capacity) {
        size_t capacity = series->capacity ? series->capacity * 2 : 256;
        double *values = realloc(series->values, capacity * sizeof *values);
        if (!values)
            fail_row("no memory for %zu figures", capacity);
        series->values = values;
        series->capacity = capacity;
    }
    series->values[series->count++] = value;
}

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double series_quantile(struct series *series, double share)
{
    if (series->count == 0)
        return 0;
    qsort(series->values, series->count, sizeof *series->values, compare_doubles);
    /* Nearest rank: p99 of 100 is the 99th. The small amount takes back what 0.99 * 100 is too large by. */
    size_t rank = (size_t)(share * (double)series->count + (1 - 1e-9));
    return series->values[rank == 0 ? 0 : rank > series->count ? series->count - 1 : rank - 1];
}

void series_clear(struct series *series)
{
    free(series->values);
    *series = (struct series){0};
}
