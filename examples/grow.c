/* grow.c - memory that grows under those who use it, and never shrinks. What there is no room for is refused at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOG_BYTES ((size_t)8 << 20)

int main(void)
{
    cove_segment *segment;
    cove_region *region;
    struct cove_segment_info small, large;
    if (cove_open(&segment, "example-grow", &(struct cove_options){.size_bytes = 4096}) < 0 ||
        cove_segment_stat(segment, &small) < 0)
        return cove_complain("open");

    char *first = cove_at(segment, cove_alloc(segment, 100), 100);
    char *log = cove_at(segment, cove_alloc(segment, LOG_BYTES), LOG_BYTES); /* more than the segment has: it grows */
    if (!first || !log || cove_segment_stat(segment, &large) < 0)
        return cove_complain("alloc");
    memset(log, '.', LOG_BYTES); /* and this memory is there: no signal comes, however full the machine is */
    strcpy(first, "still here");
    printf("grew by at least 8 MiB: %s; %s, where it was\n",
           large.size_bytes - small.size_bytes >= LOG_BYTES - 4096 ? "yes" : "no", first);

    int result = cove_region_open(&region, "example-too-large", &(struct cove_region_options){.size_bytes = 1LL << 45});
    printf("32 TiB: %s\n", cove_errname(result)); /* cove_last_error() says how much is needed and how much is free */
    int good = result == -ENOSPC && *cove_last_error() && cove_region_unlink("example-too-large", 0) == -ENOENT;
    return cove_close(segment) < 0 || cove_unlink("example-grow", 0) < 0 || !good;
}
