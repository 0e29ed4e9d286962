/* event.c - "it has begun", and "there is something newer than what I know": no wake-up is lost, whoever comes first.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct race {
    cove_event start; /* set once: who comes late finds it set */
    cove_event news; /* set again and again: what counts is its version */
    cove_counter ready, done;
};
static const struct cove_type race_type = {.name = "race", .version = 1, .size_bytes = sizeof(struct race)};

static struct race *race_open(cove_segment **segment)
{
    void *race = NULL;
    if (cove_open(segment, "example-event", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&race, *segment, "race", &race_type, 0) < 0)
        (void)cove_complain("race");
    return race;
}

static int run(void)
{
    cove_segment *segment;
    struct race *race = race_open(&segment);
    if (!race || cove_counter_add(segment, &race->ready, 1, NULL) < 0 ||
        cove_event_wait(segment, &race->start, COVE_FOREVER) < 0)
        return cove_complain("start");
    uint64_t version = 0; /* the newest that this one has seen; older ones that it missed do not matter */
    while (version < 10)
        if (cove_event_wait_beyond(segment, &race->news, version, &version, COVE_FOREVER) < 0)
            return cove_complain("news");
    return cove_counter_add(segment, &race->done, 1, NULL) < 0 || cove_close(segment) < 0;
}

int main(void)
{
    cove_segment *segment;
    struct race *race = race_open(&segment);
    if (!race)
        return 1;
    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            return run();
    int result = cove_event_wait(segment, &race->start, 1000000); /* 1 ms: nobody has given the word yet */
    printf("waiting for the start: %s\n", cove_errname(result));
    if (cove_counter_wait(segment, &race->ready, 3, NULL, COVE_FOREVER) < 0 ||
        cove_event_set(segment, &race->start) < 0)
        return cove_complain("ready");
    for (int i = 0; i < 10; i++)
        (void)cove_event_set(segment, &race->news);
    int64_t done = 0;
    uint64_t version = 0;
    if (cove_counter_wait(segment, &race->done, 3, &done, COVE_FOREVER) < 0 ||
        cove_event_look(segment, &race->news, &version, NULL) < 0)
        return cove_complain("done");
    printf("%" PRId64 " ran, and all saw version %" PRIu64 "\n", done, version);
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    return failed || cove_close(segment) < 0;
}
