/* mmap_cat.c - cat by mapping, for files that others write to, empty ones and shrinking ones among them: mmap_cat
 * [FILE...]
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *cut; /* for the show: a file that is cut off while it is read */

static int copy(void *data, uint64_t size_bytes, void *bytes)
{
    if (cut && truncate(cut, 0) != 0)
        return -1;
    memcpy(bytes, data, size_bytes); /* without the guard this is where SIGBUS would end us */
    return 0;
}

static int cat(const char *path)
{
    char name[1024];
    cove_region *region;
    (void)snprintf(name, sizeof name, "file:%s", path);
    int result = cove_region_open(&region, name, &(struct cove_region_options){.flags = COVE_READONLY});
    if (result < 0)
        return cove_complain(path), result;
    void *bytes = malloc(cove_region_size(region) + 1);
    result = bytes ? cove_region_guard(region, copy, bytes) : -1;
    if (result == 0)
        (void)fwrite(bytes, 1, cove_region_size(region), stdout);
    free(bytes);
    (void)cove_region_close(region);
    return result;
}

int main(int count, char **arguments)
{
    int failed = 0;
    for (int i = 1; i < count; i++)
        failed |= cat(arguments[i]) != 0;
    if (count > 1)
        return failed;

    char path[1000]; /* without arguments: a show */
    (void)snprintf(path, sizeof path, "%s/example-mmap-cat", cove_directory());
    FILE *file = fopen(path, "w");
    if (!file || fputs("all of it\n", file) < 0 || fclose(file) != 0)
        return perror(path), 1;
    failed = cat(path);
    cut = path;
    int shrunk = cat(path);
    cut = NULL;
    int empty = cat(path);
    printf("cut off while it was read: %s; empty: %s\n", cove_errname(shrunk), cove_errname(empty));
    return unlink(path) != 0 || failed || shrunk != COVE_ETRUNCATED || empty != 0;
}
