/* named_lock.c - a lock with a name, as sem_open has them: made once, by whoever comes first, and never left taken.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char name[] = "example-robot/arm"; /* segment and object are made where they are missing */

/* A program that is killed while it moves the arm. */
static int die_with_the_lock(void)
{
    cove_mutex *arm;
    if (cove_mutex_open(&arm, name, NULL) < 0 || cove_mutex_lock(NULL, arm, COVE_FOREVER) < 0)
        return cove_complain(name);
    return raise(SIGKILL);
}

/* Starting again: nothing to remove first, nothing to set. Locking says what happened. */
static int move_the_arm(const char *who)
{
    cove_mutex *arm;
    int opened = cove_mutex_open(&arm, name, NULL);
    if (opened < 0)
        return cove_complain(name);
    int locked = cove_mutex_lock(NULL, arm, 1000000000); /* ns; a holder that hangs is named in the error */
    if (locked < 0)
        return cove_complain(name);
    printf("%s: the lock %s; %s\n", who, opened == COVE_CREATED ? "was made" : "was there",
           locked == COVE_RECOVERED ? "its holder had died" : "free");
    return cove_mutex_unlock(NULL, arm) < 0 || cove_mutex_close(arm) < 0;
}

int main(void)
{
    if (move_the_arm("first") != 0)
        return 1;
    pid_t victim = fork();
    if (victim == 0)
        return die_with_the_lock();
    (void)waitpid(victim, NULL, 0);
    if (move_the_arm("second") != 0 || move_the_arm("third") != 0)
        return 1;
    return cove_unlink("example-robot", 0) < 0;
}
