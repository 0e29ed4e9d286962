/* parts.c - a region mapped in part, without rights to write, or with no rights at all for now.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static cove_region *open_part(uint32_t flags, uint32_t access, uint64_t offset, uint64_t length_bytes)
{
    cove_region *region = NULL;
    if (cove_region_open(&region, "example-parts",
                         &(struct cove_region_options){
                             .flags = flags, .access = access, .offset = offset, .length_bytes = length_bytes}) < 0)
        (void)cove_complain("open");
    return region;
}

int main(void)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    cove_region *whole, *word, *guard;
    if (cove_region_open(&whole, "example-parts", &(struct cove_region_options){.size_bytes = 4 * page_bytes}) < 0)
        return cove_complain("create");
    strcpy((char *)cove_region_data(whole) + page_bytes + 7, "robot arm");

    word = open_part(COVE_READONLY, COVE_ACCESS_DEFAULT, page_bytes + 13, 3); /* any byte may be the first */
    guard = open_part(0, COVE_ACCESS_NONE, 3 * page_bytes, 0); /* up to the end; a touch would be SIGSEGV */
    if (!word || !guard)
        return 1;
    printf("read-only: %.3s\n", (const char *)cove_region_data(word));
    int refused = cove_region_protect(word, 0, 0, COVE_ACCESS_WRITE);
    printf("write after all: %s\n", cove_errname(refused));
    if (cove_region_protect(guard, 0, 0, COVE_ACCESS_WRITE) < 0)
        return cove_complain("protect");
    *(char *)cove_region_data(guard) = '!';
    printf("the last page, opened up: %c\n", ((char *)cove_region_data(whole))[3 * page_bytes]);
    (void)cove_region_close(word);
    (void)cove_region_close(guard);
    (void)cove_region_close(whole);
    return cove_region_unlink("example-parts", 0) < 0;
}
