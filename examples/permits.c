/* permits.c - a semaphore across fork: two presses for three workers. A permit that is owned comes back when its owner
 * is killed; one that was taken for good does not, as a job that was begun is gone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct plant {
    cove_semaphore presses; /* owned: who has one gives it back, or dies */
    cove_semaphore jobs; /* plain: counts what is there to be done */
    cove_counter busy;
};
static const struct cove_type plant_type = {.name = "plant", .version = 1, .size_bytes = sizeof(struct plant)};

static struct plant *plant_open(cove_segment **segment)
{
    void *plant = NULL;
    if (cove_open(segment, "example-permits", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&plant, *segment, "plant", &plant_type, 0) < 0)
        (void)cove_complain("plant");
    return plant;
}

/* Take a job and a press, and be killed at it. */
static int work(void)
{
    cove_segment *segment; /* a child opens it anew: it is a member of its own */
    struct plant *plant = plant_open(&segment);
    if (!plant || cove_semaphore_wait(segment, &plant->jobs, COVE_FOREVER) < 0 ||
        cove_semaphore_acquire(segment, &plant->presses, COVE_FOREVER) < 0)
        return cove_complain("work");
    (void)cove_counter_add(segment, &plant->busy, 1, NULL);
    return raise(SIGSTOP);
}

int main(void)
{
    cove_segment *segment;
    struct plant *plant = plant_open(&segment); /* all zero: two semaphores without permits, and a counter at 0 */
    if (!plant || cove_semaphore_post(segment, &plant->presses, 2) < 0 ||
        cove_semaphore_post(segment, &plant->jobs, 3) < 0)
        return 1;
    pid_t workers[2];
    for (int i = 0; i < 2; i++)
        if ((workers[i] = fork()) == 0)
            return work();
    if (cove_counter_wait(segment, &plant->busy, 2, NULL, COVE_FOREVER) < 0)
        return cove_complain("busy");
    printf("both work: %lld presses free, %lld job left\n", (long long)cove_semaphore_value(segment, &plant->presses),
           (long long)cove_semaphore_value(segment, &plant->jobs));
    int refused = cove_semaphore_acquire(segment, &plant->presses, COVE_NOWAIT);
    printf("a third: %s\n", cove_errname(refused));
    for (int i = 0; i < 2; i++) {
        (void)kill(workers[i], SIGKILL);
        (void)waitpid(workers[i], NULL, 0);
    }
    int had = cove_semaphore_acquire(segment, &plant->presses, COVE_FOREVER);
    printf("both killed: the third has a press, %lld more free, %lld job left\n",
           (long long)cove_semaphore_value(segment, &plant->presses),
           (long long)cove_semaphore_value(segment, &plant->jobs));
    return had < 0 || cove_semaphore_release(segment, &plant->presses) < 0 || cove_close(segment) < 0;
}
