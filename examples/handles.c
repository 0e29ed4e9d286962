/* handles.c - what a handle knows, and what is left of it when the memory behind it is gone: an error, not a crash.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    cove_segment *segment;
    cove_stream *stream;
    cove_region *region;
    if (cove_region_open(&region, "example-frame", &(struct cove_region_options){.size_bytes = 1920 * 1080}) < 0 ||
        cove_region_close(region) < 0)
        return cove_complain("create");
    if (cove_region_open(&region, "example-frame", NULL) < 0) /* its size needs no agreement and no fstat */
        return cove_complain("open");
    int fd = cove_region_fd(region);
    printf("%llu bytes; its descriptor is closed on exec: %s\n", (unsigned long long)cove_region_size(region),
           fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) ? "yes" : "no");
    (void)close(fd);
    if (cove_region_close(region) < 0 || cove_region_unlink("example-frame", 0) < 0)
        return cove_complain("frame");

    if (cove_open(&segment, "example-handles", NULL) < 0 ||
        cove_stream_open_in(&stream, segment, "log", COVE_WRITER, NULL) < 0 || cove_close(segment) < 0)
        return cove_complain("open");
    int64_t result = cove_stream_write(stream, "late", 4, COVE_NOWAIT);
    printf("a write after the close: %s\n", cove_errname((int)result));
    (void)cove_stream_close(stream);
    return cove_unlink("example-handles", 0) < 0 || result != COVE_ECLOSED;
}
