/* ground.h - what the fuzzed library stands on: a directory of its own, and a system that shows what must not be.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The table of the system's calls is replaced: mappings get unreadable pages around them, so that a step beside one
 * is a crash; sleeping takes no time, but counts; waiting or growing without end is a crash. */
#ifndef FUZZ_GROUND_H
#define FUZZ_GROUND_H

#include "os/os.h"

#include <stddef.h>
#include <stdint.h>

/* Make the directory (in FUZZ_DIR, whose maker removes what a crash leaves there; else in /dev/shm), set COVE_DIR to
 * it, replace the calls. The directory and what is in it go when the process ends. */
void ground_begin(void);
const char *ground_directory(void);
extern struct covei_os ground_calls; /* in use since ground_begin; a target may replace more of them */

/* A new input: counts start anew, and the directory is empty again. */
void ground_clear(void);
void ground_reset(void); /* the counts alone */
/* How long it would have slept, ever. */
int64_t ground_slept_ns(void);
/* Ends with a crash where more time went by than `most_ns` since `slept_before`. */
void ground_in_time(int64_t slept_before, int64_t most_ns, const char *what);
/* Ends with a crash and that word. */
_Noreturn void ground_fail(const char *what);

/* For the making of images: ends the program where a call failed. */
void ground_demand(int64_t result, const char *what);
void ground_write(const char *path, const void *bytes, size_t size, size_t length); /* with holes up to `length` */
size_t ground_read(const char *path, void *bytes, size_t most); /* 0: there is no such file */

#endif
