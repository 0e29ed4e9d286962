/* cove/base.h - what every part of Cove shares: results, errors, timeouts, version.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Results. A function that returns `int` returns 0 when it did what was asked, a negative number when it did not
 * (a negated errno, or one of COVE_E... below), and a positive number when it did it and has something to tell
 * (COVE_RECOVERED, COVE_CREATED). A function that returns a count returns it as int64_t, negative for an error.
 * Out-parameters are written only on success, unless a function says otherwise.
 *
 * Cancellation: no function of Cove is a cancellation point. A thread that is cancelled ends at its next one outside.
 * */
#ifndef COVE_BASE_H
#define COVE_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define COVE_API __attribute__((visibility("default")))
#define COVE_CHECKED __attribute__((warn_unused_result))
#else
#define COVE_API
#define COVE_CHECKED
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define COVE_VERSION_MAJOR 0
#define COVE_VERSION_MINOR 1
#define COVE_VERSION_PATCH 0

/* Done, with a note. */
#define COVE_CREATED 1 /* the thing was missing and was made by this call */
#define COVE_RECOVERED 2 /* done, after a dead process's half-made change was rolled back */
#define COVE_COMMITTED 3 /* done, and the transaction so far was made final for it */
#define COVE_LEADER 4 /* done, and this caller is the one of its barrier's round */

/* Not done. These lie below every errno of Linux, so that both fit into one negative number. */
#define COVE_ECORRUPT (-5001) /* the shared bytes contradict themselves */
#define COVE_ELAYOUT (-5002) /* a segment of another layout, or with a feature that this library does not know */
#define COVE_ENOTCOVE (-5003) /* not a Cove segment at all */
#define COVE_EOWNER (-5004) /* belongs to another user, and the caller did not allow that */
#define COVE_EPEER (-5005) /* the process at the other end died */
#define COVE_EFORKED (-5006) /* the handle was opened by the parent of this process; open it anew here */
#define COVE_ETYPE (-5007) /* an object of that name exists, of another type, size or version */
#define COVE_ENAME (-5008) /* a name that is empty, too long, or holds characters that names may not hold */
#define COVE_EREMOVED (-5009) /* the segment lost its name while it was being opened, again and again */
#define COVE_EUNCLEAN (-5010) /* a file from another boot that was not left clean */
#define COVE_ECLOSED (-5011) /* the handle is closed */
#define COVE_ETRUNCATED (-5012) /* another process made the file smaller than what is mapped */

/* Timeouts: nanoseconds on the monotonic clock (a step of the wall clock changes nothing), or one of these. */
#define COVE_NOWAIT INT64_C(0)
#define COVE_FOREVER INT64_MAX

/* "robot/commands: ..." - what went wrong in this thread's last failing call: what was asked, what was found, what
 * to do. For people, never for control flow. "" if nothing failed yet. Valid until the thread's next Cove call.
 * Threads: each has its own. Signals: not async-signal-safe. */
COVE_API const char *cove_last_error(void);

/* One short phrase for an error or note ("the process at the other end died"); never NULL. Understands negated
 * errnos as well. Threads: any. */
COVE_API const char *cove_strerror(int result);

/* The name of a result ("COVE_EPEER", "ENOSPC"); "unknown" for others. Threads: any. */
COVE_API const char *cove_errname(int result);

/* Print `what` and cove_last_error() as one line on stderr. Returns 1, so that main can return it. */
COVE_API int cove_complain(const char *what);

/* "0.1.0" of the library that is running, which may be newer than the headers. */
COVE_API const char *cove_version(void);

#ifdef __cplusplus
}
#endif
#endif
