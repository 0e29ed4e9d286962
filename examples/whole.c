/* whole.c - a table gets its name when all of it is there: whoever can open it can read it, and sees one version of
 * it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUMBERS 500000

/* A version of the table is the same number all over. */
static int publish(uint32_t version)
{
    static uint32_t table[NUMBERS];
    for (int i = 0; i < NUMBERS; i++)
        table[i] = version;
    return cove_region_replace("example-table", table, sizeof table, NULL) < 0 ? cove_complain("publish") : 0;
}

/* Look at the table until the last version is there. */
static int read_until(uint32_t last)
{
    uint32_t seen = 0;
    while (seen != last) {
        cove_region *region;
        int result = cove_region_open(&region, "example-table", &(struct cove_region_options){.flags = COVE_READONLY});
        if (result == -ENOENT && sched_yield() == 0) /* it has no name yet, so there is nothing half made to see */
            continue;
        if (result < 0 || cove_region_size(region) != NUMBERS * sizeof seen)
            return cove_complain("read");
        const uint32_t *table = cove_region_data(region);
        seen = table[0];
        for (int i = 1; i < NUMBERS; i++)
            if (table[i] != seen)
                return fprintf(stderr, "two versions in one table\n"), 1;
        (void)cove_region_close(region);
    }
    return 0;
}

int main(void)
{
    int status = 1;
    pid_t reader = fork();
    if (reader == 0)
        return read_until(5);
    for (uint32_t version = 1; version <= 5; version++)
        if (publish(version) != 0)
            return 1;
    (void)waitpid(reader, &status, 0);
    printf("5 versions published, the reader saw %s\n", status == 0 ? "whole ones only" : "something else");
    return cove_region_unlink("example-table", 0) < 0 || status != 0;
}
