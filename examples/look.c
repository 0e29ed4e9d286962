/* look.c - looking at shared memory and removing it by name, also what programs made that know nothing of Cove.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int show(const char *name, void *ours)
{
    struct cove_segment_info info;
    if (strcmp(name, ours) == 0 && cove_stat(name, &info) == 0) /* without taking part in it */
        printf("a segment: %s, %u alive, %u dead\n", info.state, info.members_alive, info.members_dead);
    return 0; /* go on with the next */
}

int main(void)
{
    char name[64];
    cove_segment *segment;
    cove_region *region;
    struct cove_region_info info;
    (void)unsetenv("COVE_DIR"); /* shm_open knows nothing of it */
    (void)snprintf(name, sizeof name, "posix:/example-look-%d", (int)getpid());
    int fd = shm_open(name + 6, O_CREAT | O_EXCL | O_RDWR, 0600); /* a program of the old kind... */
    if (fd < 0 || write(fd, "left here in 1998", 17) != 17 || close(fd) < 0)
        return perror(name), 1; /* ...that never calls shm_unlink */

    if (cove_region_look(name, &info) < 0 ||
        cove_region_open(&region, name, &(struct cove_region_options){.flags = COVE_READONLY}) < 0)
        return cove_complain(name);
    printf("%s, %llu bytes, mode %04o: %.*s\n", info.backend, (unsigned long long)info.size_bytes, info.mode,
           (int)cove_region_size(region), (const char *)cove_region_data(region));
    if (cove_region_close(region) < 0 || cove_region_unlink(name, 0) < 0)
        return cove_complain(name);
    printf("removed: %s\n", cove_region_look(name, &info) == -ENOENT ? "yes" : "no");

    if (cove_open(&segment, name + 7, &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_segments(show, name + 7) < 0)
        return cove_complain(name + 7);
    return cove_close(segment) < 0;
}
