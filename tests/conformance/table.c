/* table.c - verdicts by case and backend: read, print, compare.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A table is text: a line of columns, which begins with "case", then a line a case. Lines that begin with '#' say
 * why. */
#include "table.h"

#define LINE_BYTES 1024

/* ---- reading */

static bool wrong(const char *path, unsigned line, const char *what)
{
    (void)fprintf(stderr, "%s:%u: %s\n", path, line, what);
    return false;
}

static bool copy_word(char *to, size_t size, const char *word)
{
    size_t length = strlen(word);
    if (length >= size)
        return false;
    memcpy(to, word, length + 1);
    return true;
}

static bool read_columns(struct table *table, char *rest)
{
    char *state = NULL;
    for (char *word = strtok_r(rest, " \t\n", &state); word; word = strtok_r(NULL, " \t\n", &state))
        if (table->column_count == TABLE_COLUMNS ||
            !copy_word(table->column[table->column_count++], VERDICT_BYTES, word))
            return false;
    return table->column_count > 0;
}

static bool read_row(struct table *table, const char *name, char **state)
{
    unsigned row = table->row_count++;
    if (row >= TABLE_ROWS || !copy_word(table->row[row], sizeof table->row[row], name))
        return false;
    for (unsigned column = 0; column < table->column_count; column++) {
        const char *word = strtok_r(NULL, " \t\n", state);
        if (!word || !copy_word(table->verdict[row][column], VERDICT_BYTES, word))
            return false;
    }
    return strtok_r(NULL, " \t\n", state) == NULL;
}

bool table_read(struct table *table, const char *path)
{
    char line[LINE_BYTES];
    unsigned number = 0;
    bool good = true;
    FILE *file = fopen(path, "re");
    memset(table, 0, sizeof *table);
    if (!file)
        return wrong(path, 0, "cannot be opened");
    while (good && fgets(line, sizeof line, file)) {
        char *state = NULL;
        char *name = strtok_r(line, " \t\n", &state);
        number++;
        if (!name || *name == '#')
            continue;
        if (strcmp(name, "case") == 0)
            good = read_columns(table, state) || wrong(path, number, "these are no columns");
        else
            good = read_row(table, name, &state) || wrong(path, number, "a case, and a verdict for each column");
    }
    (void)fclose(file);
    return good;
}

/* ---- printing */

void table_print(const struct table *table, FILE *to)
{
    (void)fprintf(to, "%-28s", "case");
    for (unsigned column = 0; column < table->column_count; column++)
        (void)fprintf(to, " %-11s", table->column[column]);
    for (unsigned row = 0; row < table->row_count; row++) {
        (void)fprintf(to, "\n%-28s", table->row[row]);
        for (unsigned column = 0; column < table->column_count; column++)
            (void)fprintf(to, " %-11s", *table->verdict[row][column] ? table->verdict[row][column] : ".");
    }
    (void)fprintf(to, "\n");
}

/* ---- comparing */

/* `hint`: where it probably is. */
static int row_of(const struct table *table, const char *name, unsigned hint)
{
    if (hint < table->row_count && strcmp(table->row[hint], name) == 0)
        return (int)hint;
    for (unsigned row = 0; row < table->row_count; row++)
        if (strcmp(table->row[row], name) == 0)
            return (int)row;
    return -1;
}

static int column_of(const struct table *table, const char *name)
{
    for (unsigned column = 0; column < table->column_count; column++)
        if (strcmp(table->column[column], name) == 0)
            return (int)column;
    return -1;
}

static bool excused(const char *verdict)
{
    return strcmp(verdict, "absent") == 0 || strcmp(verdict, "skip") == 0;
}

static unsigned differs(const char *row, const char *column, const char *expected, const char *found, table_tell *tell)
{
    if (strcmp(expected, found) == 0)
        return 0;
    if (tell)
        tell(row, column, expected, found);
    return 1;
}

static unsigned compare_row(const struct table *expected, unsigned in_expected, const struct table *found,
                            unsigned in_found, table_tell *tell)
{
    unsigned count = 0;
    for (unsigned column = 0; column < found->column_count; column++) {
        const char *verdict = found->verdict[in_found][column];
        int other = column_of(expected, found->column[column]);
        if (other >= 0 && *verdict && !excused(verdict))
            count += differs(found->row[in_found], found->column[column], expected->verdict[in_expected][other],
                             verdict, tell);
    }
    return count;
}

static unsigned compare_edges(const struct table *one, const struct table *other, bool is_expected, table_tell *tell)
{
    unsigned count = 0;
    const char *in_one = is_expected ? "there" : "missing", *in_other = is_expected ? "missing" : "there";
    for (unsigned row = 0; row < one->row_count; row++)
        if (row_of(other, one->row[row], row) < 0)
            count += differs(one->row[row], "(the row)", in_one, in_other, tell);
    for (unsigned column = 0; column < one->column_count; column++)
        if (column_of(other, one->column[column]) < 0)
            count += differs("(the column)", one->column[column], in_one, in_other, tell);
    return count;
}

unsigned table_compare(const struct table *expected, const struct table *found, bool part, table_tell *tell)
{
    unsigned count = compare_edges(found, expected, false, tell);
    if (!part)
        count += compare_edges(expected, found, true, tell);
    for (unsigned row = 0; row < found->row_count; row++) {
        int other = row_of(expected, found->row[row], row);
        if (other >= 0)
            count += compare_row(expected, (unsigned)other, found, row, tell);
    }
    return count;
}

/* ---- looking for what the comparison does not see */

static unsigned blind_cells(const struct table *expected, struct table *changed, const char *to)
{
    unsigned count = 0;
    for (unsigned row = 0; row < expected->row_count; row++)
        for (unsigned column = 0; column < expected->column_count; column++) {
            char *cell = changed->verdict[row][column];
            if (strcmp(cell, to) == 0)
                continue;
            (void)snprintf(cell, VERDICT_BYTES, "%s", to);
            count += table_compare(changed, expected, false, NULL) != 1;
            count += table_compare(expected, changed, false, NULL) != 1;
            memcpy(cell, expected->verdict[row][column], VERDICT_BYTES);
        }
    return count;
}

unsigned table_blind_spots(const struct table *expected)
{
    struct table *changed = expected->row_count > 0 && expected->column_count > 0 ? malloc(sizeof *changed) : NULL;
    if (!changed)
        return 1;
    *changed = *expected;
    unsigned count = table_compare(expected, expected, false, NULL);
    count += blind_cells(expected, changed, "pass");
    count += blind_cells(expected, changed, "EOPNOTSUPP");
    count += blind_cells(expected, changed, "FAIL");
    changed->row_count--;
    count += table_compare(changed, expected, false, NULL) != 1;
    count += table_compare(expected, changed, false, NULL) != 1;
    *changed = *expected;
    changed->column_count--;
    count += table_compare(changed, expected, false, NULL) != 1;
    count += table_compare(expected, changed, false, NULL) != 1;
    free(changed);
    return count;
}
