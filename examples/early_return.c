/* early_return.c - a function that returns early and forgets to unlock: told at once, and impossible inside a
 * transaction.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <errno.h>
#include <stdio.h>

struct log {
    cove_mutex lock;
    int32_t used;
    char lines[2][16];
};
static const struct cove_type log_type = {.name = "log", .version = 1, .size_bytes = sizeof(struct log)};

/* The trap: when the log is full the lock stays taken. */
static int append_wrongly(cove_segment *segment, struct log *log, const char *line)
{
    int result = cove_mutex_lock(segment, &log->lock, COVE_FOREVER);
    if (result < 0)
        return result;
    if (log->used == 2)
        return -ENOSPC;
    (void)snprintf(log->lines[log->used++], sizeof *log->lines, "%s", line);
    return cove_mutex_unlock(segment, &log->lock);
}

/* What is changed is saved before; whoever returns early, or is killed, has changed nothing. */
static int append_inside(cove_segment *segment, struct log *log, const char *line)
{
    int result = cove_mutex_lock(segment, &log->lock, COVE_FOREVER);
    if (result < 0)
        return result;
    if (log->used == 2)
        return -ENOSPC;
    if ((result = cove_save(segment, log, sizeof *log)) < 0)
        return result;
    (void)snprintf(log->lines[log->used++], sizeof *log->lines, "%s", line);
    return 0;
}

/* One way out for all: the transaction's end frees its locks. */
static int append(cove_segment *segment, struct log *log, const char *line)
{
    int result = cove_begin(segment);
    if (result == 0)
        result = append_inside(segment, log, line);
    if (result < 0)
        return (void)cove_abort(segment), result;
    return cove_commit(segment);
}

int main(void)
{
    cove_segment *segment;
    void *object;
    if (cove_open(&segment, "example-log", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&object, segment, "log", &log_type, 0) < 0)
        return cove_complain("open");
    struct log *log = object;
    for (int i = 1; i <= 4; i++)
        printf("append %d: %s\n", i, cove_errname(append(segment, log, "started")));
    printf("wrongly: %s\n", cove_errname(append_wrongly(segment, log, "full")));
    printf("and again: %s\n", cove_errname(append_wrongly(segment, log, "full"))); /* sem_wait would wait for ever */
    return cove_mutex_unlock(segment, &log->lock) < 0 || cove_close(segment) < 0;
}
