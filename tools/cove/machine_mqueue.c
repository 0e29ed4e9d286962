/* machine_mqueue.c - POSIX message queues.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Their names are the files of a file system, of which each IPC namespace has one. Where it is mounted nowhere,
 * root makes a mount of it that no directory shows and that ends with this process (fsmount); others are told what
 * mounts it. A file of it that is opened is a queue's descriptor, so figures come from mq_getattr. */
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers from the kernel's interface (linux/mount.h clashes with the libc's header). */
#define MOUNT_CREATE 6 /* FSCONFIG_CMD_CREATE */

static int mounted_directory(void)
{
    int directory = -1;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *mount; mounts && directory < 0 && (mount = getmntent(mounts));)
        if (strcmp(mount->mnt_type, "mqueue") == 0)
            directory = open(mount->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mounts)
        (void)endmntent(mounts);
    return directory;
}

static int detached_directory(void)
{
    int directory = -1;
#if defined SYS_fsopen && defined SYS_fsconfig && defined SYS_fsmount
    int system = (int)syscall(SYS_fsopen, "mqueue", 1u);
    if (system >= 0 && syscall(SYS_fsconfig, system, MOUNT_CREATE, NULL, NULL, 0) == 0)
        directory = (int)syscall(SYS_fsmount, system, 1u, 0u);
    if (system >= 0)
        (void)close(system);
#endif
    return directory;
}

/* What its own file says besides: "QSIZE:129 ..." are the bytes of all messages. */
static uint64_t waiting_bytes(int queue)
{
    char text[120];
    unsigned long long bytes = 0;
    ssize_t length = pread(queue, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return sscanf(text, "QSIZE:%llu", &bytes) == 1 ? bytes : 0;
}

static void read_figures(struct machine_object *object, int directory, const char *file)
{
    struct mq_attr attributes;
    int queue = openat(directory, file, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (queue < 0)
        return;
    struct machine_figures *figures = &object->figures;
    if (mq_getattr((mqd_t)queue, &attributes) == 0) {
        figures->known = true;
        figures->messages = (uint64_t)attributes.mq_curmsgs;
        figures->message_bytes = waiting_bytes(queue);
        figures->most_messages = (uint64_t)attributes.mq_maxmsg;
        figures->most_bytes = (uint64_t)attributes.mq_msgsize;
        object->size_bytes = figures->message_bytes;
    }
    (void)close(queue);
}

static int add_queue(struct machine_list *list, const char *file)
{
    char name[300];
    struct stat status;
    if (fstatat(list->queues, file, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
        return 0;
    (void)snprintf(name, sizeof name, "mq:/%s", file);
    struct machine_object *object = machine_add(list, MACHINE_QUEUE, MACHINE_MQUEUE, name);
    if (!object || !(object->path = strdup(file)))
        return -ENOMEM;
    object->device = status.st_dev;
    object->inode = status.st_ino;
    object->mode = status.st_mode & 07777;
    object->owner_uid = status.st_uid;
    object->owner_gid = status.st_gid;
    object->figures.changed_s = (uint64_t)status.st_mtime;
    read_figures(object, list->queues, file);
    return 0;
}

int machine_add_mqueue(struct machine_list *list)
{
    list->queues = mounted_directory();
    if (list->queues < 0)
        list->queues = detached_directory();
    int copy = list->queues < 0 ? -1 : openat(list->queues, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    if (!directory) {
        (void)snprintf(list->queues_unseen, sizeof list->queues_unseen,
                       "POSIX message queues are not shown: their file system is not mounted; sudo mkdir -p "
                       "/dev/mqueue && sudo mount -t mqueue none /dev/mqueue");
        return 0;
    }
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(directory));)
        result = add_queue(list, entry->d_name);
    (void)closedir(directory);
    return result;
}
