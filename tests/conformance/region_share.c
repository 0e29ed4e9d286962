/* region_share.c - regions: other processes, by name and by descriptor.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A program started anew finds it by the name alone. Of nameless memory there is no such name. */
static void by_name(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    uint8_t *bytes = cove_region_data(region);
    bytes[0] = 7;
    if (!subject_named(s))
        IT_DOES_NOT();
    CHECK(run_other("region", s->name, "7") == 0);
    CHECK(bytes[1] == 8);
    region_leave(s, region);
}

/* By the name that others have: an inherited descriptor's where there is no other. */
static void by_others(struct subject *s)
{
    cove_region *region = region_make(s, SIZE_BYTES);
    uint8_t *bytes = cove_region_data(region);
    bytes[0] = 40;
    CHECK(run_other("region", s->other, "40") == 0);
    CHECK(bytes[1] == 41);
    region_leave(s, region);
}

static void opens_what_comes(struct subject *s, void *socket)
{
    char name[32];
    cove_region *region = NULL;
    (void)s;
    int file = (int)GOOD(cove_fd_receive(*(int *)socket));
    CHECK((fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
    (void)snprintf(name, sizeof name, "fd:%d", file);
    EQUAL(0, cove_region_open(&region, name, NULL));
    CHECK(close(file) == 0); /* the region has a description of its own */
    CHECK(((uint8_t *)cove_region_data(region))[0] == 1);
    ((uint8_t *)cove_region_data(region))[1] = 2;
    EQUAL(0, cove_region_close(region));
}

static void passed_on(struct subject *s)
{
    int sockets[2];
    cove_region *region = region_make(s, SIZE_BYTES);
    uint8_t *bytes = cove_region_data(region);
    bytes[0] = 1;
    int file = (int)TRY(cove_region_fd(region));
    CHECK((fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    pid_t other = start(opens_what_comes, s, &sockets[1]);
    EQUAL(0, cove_fd_send(sockets[0], file));
    join(other);
    CHECK(bytes[1] == 2);
    CHECK(close(file) == 0 && close(sockets[1]) == 0);
    EQUAL(-EPIPE, cove_fd_send(sockets[0], 0));
    EQUAL(COVE_EPEER, cove_fd_receive(sockets[0]));
    CHECK(close(sockets[0]) == 0);
    region_leave(s, region);
}

/* Something came, without a descriptor. */
static void nothing_passed_on(struct subject *s)
{
    int sockets[2];
    if (s->backend->kind != KIND_MEMFD)
        NOT_HERE(); /* once is enough */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    CHECK(write(sockets[0], "x", 1) == 1);
    EQUAL(-EPROTO, cove_fd_receive(sockets[1]));
    CHECK(cove_fd_send(-1, sockets[0]) < 0 && *cove_last_error());
    CHECK(cove_fd_send(sockets[0], -1) < 0 && *cove_last_error());
}

static void counts(struct subject *s, void *context)
{
    (void)context;
    cove_region *region = NULL;
    int result = (int)GOOD(
        cove_region_open(&region, s->other, &(struct cove_region_options){.size_bytes = SIZE_BYTES}));
    /* relaxed: the sums are looked at after the processes' ends */
    (void)atomic_fetch_add_explicit((_Atomic uint32_t *)cove_region_data(region), 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(number_of(0), result == COVE_CREATED, memory_order_relaxed);
    EQUAL(0, cove_region_close(region));
}

/* Many at once: one makes it, the others open what he made. */
static void made_by_many(struct subject *s)
{
    pid_t pids[8];
    if (!subject_named(s))
        NOT_HERE();
    for (unsigned i = 0; i < 8; i++)
        pids[i] = start(counts, s, NULL);
    for (unsigned i = 0; i < 8; i++)
        join(pids[i]);
    cove_region *region = region_open(s, 0);
    CHECK(*(uint32_t *)cove_region_data(region) == 8);
    CHECK(atomic_load_explicit(number_of(0), memory_order_relaxed) == 1);
    region_leave(s, region);
}

static const struct row table[] = {
    {"region.by-name", by_name, COVE_CAN_NAME},        {"region.by-others", by_others, NO_FEATURE},
    {"region.passed-on", passed_on, COVE_CAN_PASS},    {"region.nothing-passed-on", nothing_passed_on, NO_FEATURE},
    {"region.made-by-many", made_by_many, NO_FEATURE},
};
const struct rows region_share_rows = ROWS(table);
