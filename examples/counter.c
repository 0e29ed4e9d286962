/* counter.c - the shared counter: four processes count, none sets it to 0, nothing is lost, and nobody has to look
 * again and again whether all have come.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 4
#define ADDS 25000

static const char name[] = "example-count/parts";

/* Every process opens it in the same way. The first value is given once, by whoever makes it. */
static cove_counter *counter_open(int *made)
{
    cove_counter *counter = NULL;
    int result = cove_counter_open(&counter, name, &(struct cove_sync_options){.value = 1000, .lines = 4});
    if (result < 0)
        (void)cove_complain(name);
    *made = result == COVE_CREATED;
    return counter;
}

static int count(void)
{
    int made;
    cove_counter *counter = counter_open(&made);
    for (int i = 0; counter && i < ADDS; i++)
        (void)cove_counter_add(NULL, counter, 1, NULL); /* atomic, and on a line of its own (lines = 4) */
    return !counter || made || cove_counter_close(counter) < 0;
}

int main(void)
{
    int made, status, failed = 0;
    cove_counter *counter = counter_open(&made);
    if (!counter)
        return 1;
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            return count();
    int64_t value = 0;
    if (cove_counter_wait(NULL, counter, 1000 + PROCESSES * ADDS, &value, COVE_FOREVER) < 0)
        return cove_complain(name);
    printf("made by this process: %s; %" PRId64 " parts\n", made ? "yes" : "no", value);
    while (wait(&status) > 0)
        failed |= status;
    return failed || cove_counter_close(counter) < 0 || cove_unlink("example-count", 0) < 0;
}
