/* channel_pipe.c - peers: two pipes, a pair of Unix stream sockets.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Both are descriptors that are read and written; a spinning one does not block and asks again. */
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct descriptors {
    int in[2], out[2]; /* of side 0, of side 1 */
};

static struct descriptors *descriptors_new(struct contestant *self)
{
    struct descriptors *fds = malloc(sizeof *fds);

    if (!fds)
        fail_row("%s: no memory", self->name);
    self->state = fds;
    return fds;
}

static void set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        fail_row("O_NONBLOCK: %s", strerror(errno));
}

static int pipe_make(struct contestant *self)
{
    struct descriptors *fds = descriptors_new(self);

    for (int side = 0; side < 2; side++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            return -errno;
        /* As large as an ordinary user may make it, for large blocks; refused is no harm. */
        if (self->message_bytes > 65536)
            (void)fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        fds->out[side] = ends[1];
        fds->in[1 - side] = ends[0];
    }
    return 0;
}

static int unix_make(struct contestant *self)
{
    struct descriptors *fds = descriptors_new(self);
    int ends[2], buffer = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    for (int side = 0; side < 2; side++) {
        if (self->message_bytes > 65536)
            (void)setsockopt(ends[side], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        fds->in[side] = fds->out[side] = ends[side];
    }
    return 0;
}

/* The other side's ends are closed, so that a death is an end of file and not a hang. */
static void descriptors_enter(struct contestant *self)
{
    struct descriptors *fds = self->state;
    int other = 1 - self->side;

    close(fds->in[other]);
    if (fds->out[other] != fds->in[other])
        close(fds->out[other]);
    if (self->wait == WAIT_SPIN) {
        set_nonblocking(fds->in[self->side]);
        set_nonblocking(fds->out[self->side]);
    }
}

static void descriptors_send(struct contestant *self, const void *data, size_t size_bytes)
{
    const struct descriptors *fds = self->state;

    for (size_t done = 0; done < size_bytes;) {
        ssize_t n = write(fds->out[self->side], (const char *)data + done, size_bytes - done);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EAGAIN && errno != EINTR)
            fail_row("%s: write: %s", self->name, strerror(errno));
    }
}

static void descriptors_receive(struct contestant *self, void *data, size_t size_bytes)
{
    const struct descriptors *fds = self->state;

    for (size_t done = 0; done < size_bytes;) {
        ssize_t n = read(fds->in[self->side], (char *)data + done, size_bytes - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0)
            fail_row("%s: the other end closed", self->name);
        else if (errno != EAGAIN && errno != EINTR)
            fail_row("%s: read: %s", self->name, strerror(errno));
    }
}

static void descriptors_send_many(struct contestant *self, const void *data, size_t size_bytes, size_t count)
{
    descriptors_send(self, data, size_bytes * count);
}

static size_t descriptors_receive_many(struct contestant *self, const void **data, size_t size_bytes, size_t count)
{
    descriptors_receive(self, self->in, size_bytes * count);
    *data = self->in;
    return count;
}

static void descriptors_leave(struct contestant *self)
{
    struct descriptors *fds = self->state;

    close(fds->in[self->side]);
    if (fds->out[self->side] != fds->in[self->side])
        close(fds->out[self->side]);
    free(fds);
}

const struct channel_type channel_pipe = {
    .make = pipe_make,
    .enter = descriptors_enter,
    .send = descriptors_send,
    .receive = descriptors_receive,
    .send_many = descriptors_send_many,
    .receive_many = descriptors_receive_many,
    .leave = descriptors_leave,
};

const struct channel_type channel_unix = {
    .make = unix_make,
    .enter = descriptors_enter,
    .send = descriptors_send,
    .receive = descriptors_receive,
    .send_many = descriptors_send_many,
    .receive_many = descriptors_receive_many,
    .leave = descriptors_leave,
};
