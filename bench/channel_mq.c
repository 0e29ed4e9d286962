/* channel_mq.c - peer: POSIX message queues, ten messages deep as an ordinary user may have them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A queue loses its name as soon as it is open, so that nothing is left whatever ends the run. */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct queues {
    mqd_t from[2]; /* side 0, side 1 */
};

static int mq_make(struct contestant *self)
{
    struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = (long)self->message_bytes};
    struct queues *queues = malloc(sizeof *queues);

    if (!queues)
        fail_row("%s: no memory", self->name);
    for (int side = 0; side < 2; side++) {
        char name[64];
        snprintf(name, sizeof name, "/cove-bench-%d-%d", (int)getpid(), side);
        queues->from[side] = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
        if (queues->from[side] < 0)
            return -errno;
        mq_unlink(name);
    }
    self->state = queues;
    return 0;
}

static void mq_enter(struct contestant *self)
{
    const struct queues *queues = self->state;
    struct mq_attr nonblocking = {.mq_flags = O_NONBLOCK};

    if (self->wait == WAIT_SPIN)
        for (int side = 0; side < 2; side++)
            if (mq_setattr(queues->from[side], &nonblocking, NULL) < 0)
                fail_row("%s: mq_setattr: %s", self->name, strerror(errno));
}

static void mq_send_one(struct contestant *self, const void *data, size_t size_bytes)
{
    const struct queues *queues = self->state;

    while (mq_send(queues->from[self->side], data, size_bytes, 0) < 0)
        if (errno != EAGAIN && errno != EINTR)
            fail_row("%s: mq_send: %s", self->name, strerror(errno));
}

static void mq_receive_one(struct contestant *self, void *data, size_t size_bytes)
{
    const struct queues *queues = self->state;
    ssize_t n;

    while ((n = mq_receive(queues->from[1 - self->side], data, size_bytes, NULL)) < 0)
        if (errno != EAGAIN && errno != EINTR)
            fail_row("%s: mq_receive: %s", self->name, strerror(errno));
    if ((size_t)n != size_bytes)
        fail_row("%s: %zd bytes where %zu were sent", self->name, n, size_bytes);
}

static void mq_leave(struct contestant *self)
{
    struct queues *queues = self->state;

    mq_close(queues->from[0]);
    mq_close(queues->from[1]);
    free(queues);
}

const struct channel_type channel_mq = {
    .make = mq_make,
    .enter = mq_enter,
    .send = mq_send_one,
    .receive = mq_receive_one,
    .leave = mq_leave,
};
