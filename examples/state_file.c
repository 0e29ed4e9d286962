/* state_file.c - state in a file that is used as memory: it is there at the next start, and what was synced after a
 * power cut.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>

struct state {
    cove_mutex lock;
    int64_t starts;
};
static const struct cove_type state_type = {.name = "state", .version = 1, .size_bytes = sizeof(struct state)};

/* One start of a program. */
static int run(const char *name)
{
    cove_segment *segment;
    void *object;
    int result = cove_open(&segment, name, NULL);
    if (result < 0 || cove_object_open(&object, segment, "state", &state_type, 0) < 0)
        return cove_complain(name);
    struct state *state = object;
    if (cove_begin(segment) < 0 || cove_mutex_lock(segment, &state->lock, COVE_FOREVER) < 0 ||
        cove_save(segment, &state->starts, sizeof state->starts) < 0)
        return cove_complain("begin");
    state->starts++;
    if (cove_commit(segment) < 0) /* others see it from here on */
        return cove_complain("commit");
    if (cove_sync(segment, COVE_FOREVER) < 0) /* and from here on a power cut does not undo it */
        return cove_complain("sync");
    printf("start %lld%s\n", (long long)state->starts, result == COVE_CREATED ? ", with a new file" : "");
    return cove_close(segment) < 0;
}

int main(void)
{
    char name[1024];
    (void)snprintf(name, sizeof name, "file:%s/example-state.cove", cove_directory());
    int failed = run(name) || run(name) || run(name);
    return cove_unlink(name, 0) < 0 ? cove_complain(name) : failed;
}
