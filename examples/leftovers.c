/* leftovers.c - a program is killed before it could clean up. Its next start finds nothing of it, and gc finds the
 * rest.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void die_with(const char *name, uint32_t lifetime)
{
    if (fork() == 0) {
        cove_segment *segment;
        if (cove_open(&segment, name, &(struct cove_options){.lifetime = lifetime}) < 0)
            _exit(cove_complain(name));
        (void)raise(SIGKILL);
    }
    (void)wait(NULL);
}

static void tell(const char *name, const char *sentence, void *context)
{
    (void)context; /* what was handed to cove_gc */
    printf("gc: %s: %s\n", name, sentence);
}

int main(void)
{
    cove_segment *segment;
    die_with("example-session", COVE_LAST_OUT); /* goes with its last member, however that ends */
    int result = cove_open(&segment, "example-session", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    printf("the next start: %s\n", result == COVE_CREATED ? "a new session" : cove_errname(result));
    if (result < 0 || cove_close(segment) < 0)
        return cove_complain("example-session");

    die_with("example-orphan", COVE_LAST_OUT); /* this one is not started again */
    int64_t orphan = cove_gc(0, tell, NULL);
    die_with("example-archive", COVE_KEEP); /* stays: it may hold what nobody has read yet */
    if (orphan < 0 || cove_gc(0, tell, NULL) < 0)
        return cove_complain("gc");
    struct cove_segment_info info;
    printf("session %s, orphan %s, archive %s\n", cove_stat("example-session", &info) < 0 ? "gone" : "there",
           cove_stat("example-orphan", &info) < 0 ? "gone" : "there",
           cove_stat("example-archive", &info) < 0 ? "gone" : "there");
    return cove_unlink("example-archive", 0) < 0 ? cove_complain("unlink") : 0;
}
