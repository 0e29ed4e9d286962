/* error.c - results by name, and the last error's sentence of each thread.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The sentence stands in thread-local storage of the library, so that it needs no memory when there is none left. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[COVEI_ERROR_BYTES];

int covei_error(int result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int saved = errno;
    (void)vsnprintf(last_error, sizeof last_error, format, arguments);
    errno = saved;
    va_end(arguments);
    return result;
}

void covei_error_save(char saved[COVEI_ERROR_BYTES])
{
    memcpy(saved, last_error, COVEI_ERROR_BYTES);
}

void covei_error_restore(const char saved[COVEI_ERROR_BYTES])
{
    memcpy(last_error, saved, COVEI_ERROR_BYTES);
}

const char *cove_last_error(void)
{
    return last_error;
}

struct result_text {
    int result;
    const char *name;
    const char *phrase;
};

static const struct result_text result_texts[] = {
    {0, "0", "done"},
    {COVE_CREATED, "COVE_CREATED", "done; it was missing and was made"},
    {COVE_RECOVERED, "COVE_RECOVERED", "done, after a dead process's half-made change was rolled back"},
    {COVE_COMMITTED, "COVE_COMMITTED", "done, and the transaction so far was made final for it"},
    {COVE_LEADER, "COVE_LEADER", "done, as the one of the barrier's round"},
    {COVE_ECORRUPT, "COVE_ECORRUPT", "the shared bytes contradict themselves"},
    {COVE_ELAYOUT, "COVE_ELAYOUT", "a segment of another layout"},
    {COVE_ENOTCOVE, "COVE_ENOTCOVE", "not a Cove segment"},
    {COVE_EOWNER, "COVE_EOWNER", "it belongs to another user"},
    {COVE_EPEER, "COVE_EPEER", "the process at the other end died"},
    {COVE_EFORKED, "COVE_EFORKED", "the handle was opened by the parent of this process"},
    {COVE_ETYPE, "COVE_ETYPE", "the object is of another type"},
    {COVE_ENAME, "COVE_ENAME", "not a good name"},
    {COVE_EREMOVED, "COVE_EREMOVED", "the segment was removed while it was being opened"},
    {COVE_EUNCLEAN, "COVE_EUNCLEAN", "a file from another boot that was not left clean"},
    {COVE_ECLOSED, "COVE_ECLOSED", "the handle is closed"},
    {COVE_ETRUNCATED, "COVE_ETRUNCATED", "another process made the file smaller than what is mapped"},
};

static const struct result_text *find_text(int result)
{
    for (size_t i = 0; i < sizeof result_texts / sizeof *result_texts; i++)
        if (result_texts[i].result == result)
            return &result_texts[i];
    return NULL;
}

const char *cove_strerror(int result)
{
    const struct result_text *text = find_text(result);
    if (text)
        return text->phrase;
    const char *phrase = result < 0 && result > -4096 ? covei_errno_phrase(-result) : NULL;
    return phrase ? phrase : "an unknown result";
}

const char *cove_errname(int result)
{
    const struct result_text *text = find_text(result);
    if (text)
        return text->name;
    const char *name = result < 0 && result > -4096 ? covei_errno_name(-result) : NULL;
    return name ? name : "unknown";
}

int cove_complain(const char *what)
{
    const char *sentence = *last_error ? last_error : "nothing failed yet";
    (void)fprintf(stderr, "%s: %s\n", what, sentence);
    return 1;
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *cove_version(void)
{
    return VERSION_TEXT(COVE_VERSION_MAJOR, COVE_VERSION_MINOR, COVE_VERSION_PATCH);
}
