/* error.h - the sentence behind the last error of each thread.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_BASE_ERROR_H
#define COVEI_BASE_ERROR_H

#include <cove/base.h>

#define COVEI_PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))

/* Keep a sentence for cove_last_error and return `result`, so that one line says it all:
 *     return covei_error(-ENOENT, "%s: there is no such segment; create it with ...", name); */
int covei_error(int result, const char *format, ...) COVEI_PRINTF(2, 3);

/* The name (ENOENT) and the phrase of a positive errno; NULL where there is none. */
const char *covei_errno_name(int error);
const char *covei_errno_phrase(int error);

#define COVEI_ERROR_BYTES 480
/* Keep the sentence aside while something is done whose own errors nobody wants to hear of, and bring it back. */
void covei_error_save(char saved[COVEI_ERROR_BYTES]);
void covei_error_restore(const char saved[COVEI_ERROR_BYTES]);

#endif
