/* crew.h - starts, follows and ends the processes of a trial that are not stepped.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CREW_H
#define CREW_H

#include "stage.h"

struct crew {
    const struct scenario *scenario;
    struct ledger *ledger;
    pid_t pid[ROLE_COUNT]; /* 0: not there */
};

/* Forks the process of a role. */
void crew_start(struct crew *crew, enum role role);

/* Waits until the process has told `phase`, within PATIENCE_NS. Otherwise notes why not (it hangs, it was killed by a
 * signal), kills it, and returns 0. */
int crew_await(struct crew *crew, enum role role, enum phase phase);

/* Sends it on to `phase`. */
void crew_send(struct crew *crew, enum role role, enum phase phase);

/* Waits until it sleeps in a system call, or has told PHASE_DONE. Returns whether it sleeps. */
int crew_await_sleep(struct crew *crew, enum role role);

/* Stops it while it sleeps in a futex, so that it cannot be seen in the operation's path; and lets it go on. */
void crew_freeze(struct crew *crew, enum role role);
void crew_thaw(struct crew *crew, enum role role);

/* SIGKILL, and the kernel's word that it is dead. */
void crew_kill(struct crew *crew, enum role role);

/* Waits for its end, within PATIENCE_NS; notes a bad one. */
void crew_join(struct crew *crew, enum role role);

/* SIGKILL for all that are left. */
void crew_end(struct crew *crew);

#endif
