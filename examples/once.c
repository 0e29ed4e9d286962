/* once.c - a table that whoever comes first fills: the first is killed in the middle, and the next does it again, from
 * the beginning.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct table {
    cove_once filled;
    struct {
        int32_t used, squares[10];
    } rows;
};
static const struct cove_type table_type = {.name = "table", .version = 1, .size_bytes = sizeof(struct table)};

static int die_half_way; /* in the first process */

/* Runs inside a transaction: what is saved is undone if this fails or is killed. */
static int fill(void *context)
{
    struct table *table = context;
    int result = cove_save(cove_segment_of(table), &table->rows, sizeof table->rows);
    if (result < 0)
        return result;
    while (table->rows.used < 10) {
        table->rows.squares[table->rows.used] = table->rows.used * table->rows.used;
        if (++table->rows.used == 5 && die_half_way)
            (void)raise(SIGKILL);
    }
    return 0;
}

static int use(const char *who)
{
    cove_segment *segment;
    void *object;
    if (cove_open(&segment, "example-once", &(struct cove_options){.lifetime = COVE_KEEP}) < 0 ||
        cove_object_open(&object, segment, "table", &table_type, 0) < 0)
        return cove_complain("open");
    struct table *table = object;
    int result = cove_once_call(segment, &table->filled, fill, table, COVE_FOREVER);
    if (result < 0)
        return cove_complain("fill");
    printf("%s: %s; %d entries, the last is %d\n", who, cove_strerror(result), table->rows.used,
           table->rows.squares[9]);
    return cove_close(segment) < 0;
}

int main(void)
{
    pid_t victim = fork();
    if (victim == 0) {
        die_half_way = 1;
        return use("first");
    }
    (void)waitpid(victim, NULL, 0);
    return use("second") != 0 || use("third") != 0 || cove_unlink("example-once", 0) < 0;
}
