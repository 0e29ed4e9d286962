/* create_once.c - four processes want the same memory at once: one makes it and is told so, the others find it whole.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct board {
    _Atomic uint32_t came, made; /* new memory is all zero, so there is nothing to set up and nobody to wait for */
};

static int take_part(void)
{
    cove_region *region;
    int result = cove_region_open(&region, "example-board",
                                  &(struct cove_region_options){.size_bytes = sizeof(struct board), .mode = 0640});
    if (result < 0)
        return cove_complain("open");
    struct board *board = cove_region_data(region);
    atomic_fetch_add(&board->came, 1);
    atomic_fetch_add(&board->made, result == COVE_CREATED);
    return cove_region_close(region) < 0;
}

int main(void)
{
    struct cove_region_info info;
    (void)umask(0777); /* what was asked for counts, not this */
    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            return take_part();
    int failed = take_part(), status;
    while (wait(&status) > 0)
        failed |= status;
    cove_region *region;
    if (failed || cove_region_look("example-board", &info) < 0 || cove_region_open(&region, "example-board", NULL) < 0)
        return cove_complain("look");
    struct board *board = cove_region_data(region);
    printf("%u came, %u made it, rights %04o\n", board->came, board->made, info.mode);
    return cove_region_close(region) < 0 || cove_region_unlink("example-board", 0) < 0;
}
