/* doctor.h - what the doctor's parts share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVE_TOOLS_DOCTOR_H
#define COVE_TOOLS_DOCTOR_H

#include "cli.h"

/* A finding is wrong and wants to be mended; a note is worth knowing; what is good is said too, so that nobody wonders
 * whether it was looked at. Only findings count for the exit status. */
enum doctor_level { DOCTOR_GOOD, DOCTOR_NOTE, DOCTOR_FINDING };

/* Say one thing. `mend` is the command that mends it, or NULL. */
__attribute__((format(printf, 4, 5))) void doctor_say(enum doctor_level level, const char *about, const char *mend,
                                                      const char *format, ...);

/* doctor_machine.c: the directory, the memory, the limits of this process. */
void doctor_machine(void);

/* doctor_kernel.c: System V objects, POSIX queues, huge pages, sight of processes. */
void doctor_kernel(void);

/* doctor_logind.c: does the login manager remove this user's shared memory when the user logs out? */
void doctor_logind(bool has_kept_segments);

#endif
