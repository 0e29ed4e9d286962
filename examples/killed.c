/* killed.c - a process dies by SIGKILL with a lock in its hand and half a change made: the next one finds neither.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct counter {
    cove_mutex lock;
    int64_t value;
};
static const struct cove_type counter_type = {.name = "counter", .version = 1, .size_bytes = sizeof(struct counter)};

static struct counter *open_counter(cove_segment **segment)
{
    void *object = NULL;
    if (cove_open(segment, "example-killed", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&object, *segment, "counter", &counter_type, 0) < 0)
        (void)cove_complain("open");
    return object;
}

static int die_half_way(void)
{
    cove_segment *segment; /* a child is a member of its own: it opens the segment anew */
    struct counter *counter = open_counter(&segment);
    if (counter && cove_begin(segment) == 0 && cove_mutex_lock(segment, &counter->lock, COVE_FOREVER) >= 0 &&
        cove_save(segment, &counter->value, sizeof counter->value) == 0)
        counter->value = 666;
    return raise(SIGKILL);
}

int main(void)
{
    cove_segment *segment;
    struct counter *counter = open_counter(&segment);
    if (!counter)
        return 1;
    pid_t victim = fork();
    if (victim == 0)
        return die_half_way();
    (void)waitpid(victim, NULL, 0);
    int result = cove_mutex_lock(segment, &counter->lock, COVE_FOREVER);
    printf("the lock: %s; the counter: %lld\n", cove_strerror(result), (long long)counter->value);
    int good = result == COVE_RECOVERED && counter->value == 0;
    (void)cove_mutex_unlock(segment, &counter->lock);
    return cove_close(segment) < 0 || !good;
}
