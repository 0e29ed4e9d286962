/* barrier.c - three simulate in step; one is killed between two rounds. The others are told in place of waiting for
 * ever, and go on with another in its place.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PARTIES 3
#define ROUNDS 4

struct hall {
    cove_barrier round;
    cove_counter leaders, told;
};
static const struct cove_type hall_type = {.name = "hall", .version = 1, .size_bytes = sizeof(struct hall)};

static struct hall *hall_open(cove_segment **segment)
{
    void *hall = NULL;
    if (cove_open(segment, "example-barrier", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&hall, *segment, "hall", &hall_type, 0) < 0)
        (void)cove_complain("hall");
    return hall;
}

/* Come to the barrier until a round is complete. (A newcomer may find it broken, too.) */
static int one_round(cove_segment *segment, struct hall *hall, int newcomer)
{
    for (;;) {
        int result = cove_barrier_wait(segment, &hall->round, PARTIES, COVE_FOREVER);
        if (result == COVE_LEADER) /* one of each round */
            (void)cove_counter_add(segment, &hall->leaders, 1, NULL);
        if (result != COVE_EPEER)
            return result < 0 ? cove_complain("round") : 0;
        (void)cove_counter_add(segment, &hall->told, !newcomer, NULL);
        if (cove_barrier_reset(segment, &hall->round) < 0) /* all do; the first counts */
            return cove_complain("reset");
    }
}

/* `dies`: after its first round. */
static int take_part(int rounds, int dies)
{
    cove_segment *segment;
    struct hall *hall = hall_open(&segment);
    int failed = !hall;
    for (int round = 0; !failed && round < rounds; round++) {
        failed = one_round(segment, hall, round == 0);
        if (dies)
            (void)raise(SIGKILL);
    }
    return failed || cove_barrier_leave(segment, &hall->round) < 0 || cove_close(segment) < 0;
}

static pid_t start(int rounds, int dies)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(take_part(rounds, dies));
    return pid;
}

int main(void)
{
    cove_segment *segment;
    struct hall *hall = hall_open(&segment);
    if (!hall)
        return 1;
    pid_t victim = start(ROUNDS, 1);
    (void)start(ROUNDS, 0);
    (void)start(ROUNDS, 0);
    (void)waitpid(victim, NULL, 0);
    (void)start(ROUNDS - 1, 0); /* in its place, for the rounds that are left */
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    int64_t leaders = 0, told = 0;
    (void)cove_counter_get(segment, &hall->leaders, &leaders);
    (void)cove_counter_get(segment, &hall->told, &told);
    printf("%" PRId64 " rounds, each with one leader; %" PRId64 " were told of the death\n", leaders, told);
    return failed || cove_close(segment) < 0;
}
