/* deadlock.c - two processes take two locks, each in its own order. One of them is told, gives up what it has, and tries
 * again: nobody hangs. (Better: one order everywhere. That of their addresses, say.)
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct pair {
    cove_mutex locks[2];
    cove_counter met, told; /* both have their first lock; how often somebody was told of the cycle */
    int32_t changes;
};
static const struct cove_type pair_type = {.name = "pair", .version = 1, .size_bytes = sizeof(struct pair)};

static struct pair *pair_open(cove_segment **segment)
{
    void *pair = NULL;
    if (cove_open(segment, "example-deadlock", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&pair, *segment, "pair", &pair_type, 0) < 0)
        (void)cove_complain("pair");
    return pair;
}

/* Both locks, the one numbered `first` before the other. */
static int change(cove_segment *segment, struct pair *pair, int first)
{
    int result = cove_begin(segment);
    if (result == 0)
        result = cove_mutex_lock(segment, &pair->locks[first], COVE_FOREVER);
    if (result >= 0) /* stage the meeting: each waits until both have one */
        result = cove_counter_add(segment, &pair->met, 1, NULL);
    if (result >= 0)
        result = cove_counter_wait(segment, &pair->met, 2, NULL, COVE_FOREVER);
    if (result >= 0)
        result = cove_mutex_lock(segment, &pair->locks[!first], COVE_FOREVER);
    if (result >= 0)
        result = cove_save(segment, &pair->changes, sizeof pair->changes);
    if (result < 0)
        return (void)cove_abort(segment), result; /* frees what was locked, so that the other one goes on */
    pair->changes++;
    return cove_commit(segment);
}

static int work(int first)
{
    cove_segment *segment;
    struct pair *pair = pair_open(&segment);
    if (!pair)
        return 1;
    int result;
    while ((result = change(segment, pair, first)) == -EDEADLK) { /* the sentence names all who wait for each other */
        (void)cove_counter_add(segment, &pair->told, 1, NULL);
        first = !first; /* again, beginning with the one that could not be had: the other one has it still */
    }
    return result < 0 ? cove_complain("work") : cove_close(segment) < 0;
}

int main(void)
{
    cove_segment *segment;
    struct pair *pair = pair_open(&segment);
    if (!pair)
        return 1;
    for (int first = 0; first < 2; first++)
        if (fork() == 0)
            return work(first);
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    int64_t told = 0;
    (void)cove_counter_get(segment, &pair->told, &told);
    printf("%s was told of the deadlock; %" PRId32 " changes were made\n", told > 0 ? "one" : "nobody", pair->changes);
    return failed || cove_close(segment) < 0;
}
