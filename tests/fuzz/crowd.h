/* crowd.h - processes that look at one segment, use it and run the command on it, while its bytes are spoilt.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each worker does its work in children, one after the other. A child that dies of a signal, or hangs, is a finding;
 * errors are as welcome as answers. */
#ifndef FUZZ_CROWD_H
#define FUZZ_CROWD_H

#include "image.h"

#include <stdbool.h>

enum crowd_work {
    CROWD_LOOK, /* read-only */
    CROWD_USE, /* as a member */
    CROWD_COMMAND, /* cove ls, stat, doctor, cat */
    CROWD_GC, /* cove gc */
};

/* After ground_begin. `command` is the command's path; NULL: there is none, and workers that want it are not
 * started. */
void crowd_begin(const char *command);
void crowd_start(enum crowd_work work, uint32_t flags); /* of cove_options */
/* For who spoils: is there more to do? */
bool crowd_goes_on(uint64_t until_s);
uint64_t crowd_seconds(void); /* monotonic */
/* End them all and say how much they did. Returns the exit status. */
int crowd_end(const char *name);

#endif
