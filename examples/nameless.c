/* nameless.c - memory without a name: a forked child has it, and a program that it is sent to over a socket.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Stands for a program that has only a socket in common with us. */
static int stranger(int socket)
{
    char name[32];
    cove_region *region;
    int fd = cove_fd_receive(socket);
    if (fd < 0)
        return cove_complain("receive");
    (void)snprintf(name, sizeof name, "fd:%d", fd);
    if (cove_region_open(&region, name, NULL) < 0)
        return cove_complain(name);
    atomic_fetch_add((_Atomic int *)cove_region_data(region), 40);
    return cove_region_close(region) < 0 || close(fd) < 0;
}

int main(void)
{
    int ends[2], status[2];
    cove_region *region;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return perror("socketpair"), 1;
    pid_t receiver = fork(); /* before there is any memory to inherit */
    if (receiver == 0)
        return close(ends[0]) < 0 || stranger(ends[1]);
    (void)close(ends[1]); /* or he would wait for ever for one that we cannot send */

    if (cove_region_open(&region, "memfd:", &(struct cove_region_options){.size_bytes = 4096}) < 0)
        return cove_complain("open");
    _Atomic int *number = cove_region_data(region);
    pid_t child = fork();
    if (child == 0) /* as with MAP_ANONYMOUS or /dev/zero elsewhere */
        return atomic_fetch_add(number, 2), cove_region_close(region) < 0;
    int fd = cove_region_fd(region);
    if (fd < 0 || cove_fd_send(ends[0], fd) < 0 || close(fd) < 0)
        return cove_complain("send");
    (void)waitpid(child, &status[0], 0);
    (void)waitpid(receiver, &status[1], 0);
    printf("2 by the child and 40 by the stranger make %d\n", *number);
    return cove_region_close(region) < 0 || status[0] || status[1];
}
