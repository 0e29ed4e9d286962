/* os_linux_memory.c - nameless memory, huge pages, and passing descriptors on Linux.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "os/os_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u /* Linux 6.3: shared bytes are not a program */
#endif

int covei_linux_file_make_memory(bool huge)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB : 0);
    int file = memfd_create("cove", flags | MFD_NOEXEC_SEAL);
    if (file < 0 && errno == EINVAL)
        file = memfd_create("cove", flags);
    return file < 0 ? -errno : file;
}

int covei_linux_file_seal(int file, bool fixed)
{
    int seals = F_SEAL_SHRINK | F_SEAL_SEAL | (fixed ? F_SEAL_GROW : 0);
    return fcntl(file, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

int covei_linux_file_sealed(int file)
{
    int seals = fcntl(file, F_GET_SEALS);
    return seals < 0 ? 0 : (seals & F_SEAL_SHRINK) != 0;
}

/* The size of huge pages that are asked for without saying a size; 0: unknown. */
static uint64_t default_huge_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    unsigned long long kib = 0;
    char line[256];
    while (file && kib == 0 && fgets(line, sizeof line, file))
        if (sscanf(line, "Hugepagesize: %llu kB", &kib) != 1)
            kib = 0;
    if (file)
        (void)fclose(file);
    return (uint64_t)kib << 10;
}

/* A line of /proc/self/mounts: is it a mount of huge pages? Then its directory, with \040 and the like undone. */
static bool huge_mount(char *line, char *path, size_t path_bytes)
{
    char *next = NULL;
    if (!strtok_r(line, " ", &next))
        return false;
    const char *directory = strtok_r(NULL, " ", &next), *type = strtok_r(NULL, " ", &next);
    if (!directory || !type || strcmp(type, "hugetlbfs") != 0)
        return false;
    size_t length = 0;
    for (; *directory && length + 1 < path_bytes; length++) {
        unsigned octal = 0;
        if (*directory == '\\' && sscanf(directory + 1, "%3o", &octal) == 1) {
            path[length] = (char)octal;
            directory += 4;
        } else
            path[length] = *directory++;
    }
    path[length] = '\0';
    return true;
}

static bool has_default_pages(const char *path)
{
    struct covei_file_system system;
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = directory >= 0 && covei_linux_file_system(directory, &system) == 0 && system.huge &&
                system.block_bytes == default_huge_bytes();
    if (directory >= 0)
        (void)close(directory);
    return good;
}

/* The first mount with pages of the default size; else the first mount. */
static int find_huge_directory(char *path, size_t path_bytes)
{
    FILE *mounts = fopen("/proc/self/mounts", "re");
    if (!mounts)
        return -ENOENT;
    char *line = NULL, found[1024];
    size_t line_bytes = 0;
    int result = -ENOENT;
    while (getline(&line, &line_bytes, mounts) >= 0) {
        if (!huge_mount(line, found, sizeof found) || strlen(found) >= path_bytes)
            continue;
        bool best = has_default_pages(found);
        if (result < 0 || best)
            (void)snprintf(path, path_bytes, "%s", found);
        result = 0;
        if (best)
            break;
    }
    free(line);
    (void)fclose(mounts);
    return result;
}

int covei_linux_huge_directory(char *path, size_t path_bytes)
{
    int before = covei_linux_hold(), result = find_huge_directory(path, path_bytes);
    covei_linux_restore(before);
    return result;
}

#define DESCRIPTORS_MAX 253u /* in one message: SCM_MAX_FD of Linux */

/* Room for all that one message can bring: a socket may be set to give the sender's credentials too (SO_PASSCRED),
 * and others may send more than one descriptor, each of which would be open here, unknown. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

static struct msghdr message(struct iovec *byte, union control *control, size_t control_bytes)
{
    memset(control, 0, sizeof *control);
    return (struct msghdr){
        .msg_iov = byte, .msg_iovlen = 1, .msg_control = control->bytes, .msg_controllen = control_bytes};
}

static int send_file(int socket, int file)
{
    char mark = 'F'; /* a descriptor travels with at least one byte */
    union control control;
    struct iovec byte = {&mark, 1};
    struct msghdr header = message(&byte, &control, CMSG_SPACE(sizeof file));
    struct cmsghdr *part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof file);
    memcpy(CMSG_DATA(part), &file, sizeof file);
    ssize_t sent;
    do
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* The only descriptor that came; -1: none, or several, which are closed. */
static int only_descriptor(struct msghdr *header, unsigned *count)
{
    int file = -1, all[DESCRIPTORS_MAX];
    *count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t files = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(all, CMSG_DATA(part), files * sizeof(int));
        for (size_t i = 0; i < files; i++, (*count)++) {
            if (files == 1)
                file = all[i];
            else
                (void)close(all[i]);
        }
    }
    return file;
}

static int receive_file(int socket)
{
    char mark = 0;
    union control control;
    struct iovec byte = {&mark, 1};
    struct msghdr header = message(&byte, &control, sizeof control.bytes);
    ssize_t got;
    do
        got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    unsigned count = 0;
    int file = only_descriptor(&header, &count);
    if (file >= 0 && mark == 'F')
        return file;
    if (file >= 0)
        (void)close(file);
    if (count == 0 && header.msg_flags & MSG_CTRUNC)
        return -EMFILE; /* it came, there was no number for it, and the kernel dropped it */
    return got == 0 && count == 0 ? -ENODATA : -EPROTO;
}

int covei_linux_fd_send(int socket, int file)
{
    int before = covei_linux_hold(), result = send_file(socket, file);
    covei_linux_restore(before);
    return result;
}

/* A thread that were cancelled with the message in hand would leave its descriptor open. */
int covei_linux_fd_receive(int socket)
{
    int before = covei_linux_hold(), result = receive_file(socket);
    covei_linux_restore(before);
    return result;
}
