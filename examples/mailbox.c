/* mailbox.c - 28 lines from one process to another through one place in memory: the reader waits, and so reads 28
 * lines, all of them different and none of them empty.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINES 28

struct mailbox {
    cove_mutex lock;
    cove_condition changed; /* told when `full` does */
    int32_t full;
    char line[32];
};
static const struct cove_type mailbox_type = {.name = "mailbox", .version = 1, .size_bytes = sizeof(struct mailbox)};

static struct mailbox *mailbox_open(cove_segment **segment)
{
    void *box = NULL;
    if (cove_open(segment, "example-mailbox", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&box, *segment, "box", &mailbox_type, 0) < 0)
        (void)cove_complain("mailbox");
    return box;
}

/* Put a line into the box when it is empty, or take one out when it is full. */
static int hand_over(cove_segment *segment, struct mailbox *box, char *line, int put)
{
    int result = cove_mutex_lock(segment, &box->lock, COVE_FOREVER);
    while (result >= 0 && box->full == put) /* in a loop: a wait may end though nothing was changed */
        result = cove_condition_wait(segment, &box->changed, &box->lock, COVE_FOREVER);
    if (result < 0)
        return cove_complain("hand over");
    memcpy(put ? box->line : line, put ? line : box->line, sizeof box->line);
    box->full = put;
    (void)cove_condition_signal(segment, &box->changed);
    return cove_mutex_unlock(segment, &box->lock) < 0;
}

static int write_lines(void)
{
    cove_segment *segment;
    struct mailbox *box = mailbox_open(&segment);
    int failed = !box;
    for (int i = 1; !failed && i <= LINES; i++) {
        char line[32] = "";
        (void)snprintf(line, sizeof line, "line %d", i);
        failed = hand_over(segment, box, line, 1);
    }
    return failed || cove_close(segment) < 0;
}

int main(void)
{
    cove_segment *segment;
    struct mailbox *box = mailbox_open(&segment); /* the reader is early: there is no writer yet */
    if (!box)
        return 1;
    if (fork() == 0)
        return write_lines();
    int read = 0, distinct = 0, empty = 0, failed = 0, status;
    for (char line[32], before[32] = ""; !failed && read < LINES; read++) {
        failed = hand_over(segment, box, line, 0);
        distinct += strcmp(line, before) != 0;
        empty += *line == '\0';
        memcpy(before, line, sizeof before);
    }
    printf("%d lines read, %d distinct, %d empty\n", read, distinct, empty);
    failed |= wait(&status) < 0 || status != 0;
    return failed || cove_close(segment) < 0;
}
