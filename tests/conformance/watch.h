/* watch.h - a maker that is stopped at each of its system calls, and what others see of its work there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CONFORMANCE_WATCH_H
#define CONFORMANCE_WATCH_H

#include "conformance.h"

/* How often a look found nothing, half a thing, a whole one. */
struct watched {
    unsigned absent, half, whole;
};

/* Run `make` in a child under ptrace, and look for the subject with plain system calls before and after each of
 * its own. */
struct watched watch_maker(struct subject *subject, void (*make)(struct subject *subject),
                           bool (*is_whole)(const struct subject *subject, const struct figures *figures));

#endif
