/* interrupted.c - signals and waits: a handler that runs does not end a wait; cove_interrupt does; and a handler may
 * post and set.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
    cove_mutex lock;
    cove_semaphore ticks;
};
static const struct cove_type shared_type = {.name = "shared", .version = 1, .size_bytes = sizeof(struct shared)};

static cove_segment *segment;
static struct shared *shared;
static int ticks; /* of the handler's */

/* Every tick posts a permit; the fifth one means: stop waiting. Both calls are async-signal-safe. */
static void tick(int number)
{
    (void)number;
    (void)cove_semaphore_post(segment, &shared->ticks, 1);
    if (++ticks >= 5)
        (void)cove_interrupt();
}

/* Another process has the lock for as long as this one lives. */
static int hold(int ready)
{
    cove_segment *own;
    void *object;
    if (cove_open(&own, "example-interrupted", NULL) < 0 ||
        cove_object_open(&object, own, "shared", &shared_type, 0) < 0 ||
        cove_mutex_lock(own, &((struct shared *)object)->lock, COVE_FOREVER) < 0 || write(ready, "", 1) != 1)
        return cove_complain("hold");
    return pause();
}

int main(void)
{
    void *object;
    int ready[2];
    char byte;
    if (cove_open(&segment, "example-interrupted", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&object, segment, "shared", &shared_type, 0) < 0 || pipe(ready) != 0)
        return cove_complain("open");
    shared = object;
    pid_t holder = fork();
    if (holder == 0)
        return hold(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return 1;

    struct sigaction action = {.sa_handler = tick}; /* without SA_RESTART: sem_wait would say EINTR at the first one */
    (void)sigaction(SIGALRM, &action, NULL);
    pid_t ticker = fork();
    while (ticker == 0 && kill(getppid(), SIGALRM) == 0)
        (void)usleep(20000);
    int result = cove_mutex_lock(segment, &shared->lock, COVE_FOREVER);
    (void)kill(ticker, SIGKILL);
    (void)waitpid(ticker, NULL, 0);
    printf("after 4 handlers the wait went on; cove_interrupt ended it: %s\n", cove_errname(result));
    int unlocked = cove_mutex_unlock(segment, &shared->lock);
    printf("who does not look at that, and unlocks: %s\n", cove_errname(unlocked));
    int taken = 0;
    while (cove_semaphore_wait(segment, &shared->ticks, COVE_NOWAIT) == 0)
        taken++;
    printf("%s ticks were posted\n", taken >= 5 ? "5 or more" : "too few");
    (void)kill(holder, SIGKILL);
    (void)waitpid(holder, NULL, 0);
    return cove_close(segment) < 0 || taken < 5;
}
