/* machine_use.c - is it used by a living process? What each answer rests on.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * "Used" and "unused" have a proof each; anything else is "unknown", and says why.
 *
 *   Cove's segments     the roster: each member holds a lock that the kernel drops when it dies, seen from every PID
 *                       namespace and by every user who may read the segment
 *   System V memory     the kernel counts attachments
 *   files               used: /proc shows somebody who has it mapped or open. Unused: /proc shows every process, and
 *                       none has; or a lease
 *   queues and sets     used: a process waits, or the last that used it lives. Nobody can prove the contrary, as
 *   of System V         whoever knows the key may come back: never unused
 *
 * The lease (fcntl F_SETLEASE): the kernel grants one for writing to a file's owner, or root, only while nobody
 * else has the file open or mapped, in any namespace, also by a descriptor that is on its way through a socket. So
 * it proves what /proc cannot. It is given back at once; who opens the file within those microseconds waits for
 * that (with O_NONBLOCK: gets EWOULDBLOCK), which is why only --stale and rm ask so, and never for a segment of
 * Cove's. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void decide(struct machine_object *object, enum machine_use use, const char *why)
{
    object->use = use;
    (void)snprintf(object->why, sizeof object->why, "%s", why);
}

/* The file, if that is still the one. */
static int open_again(const struct machine_list *list, const struct machine_object *object)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int directory = object->backend == MACHINE_MQUEUE ? list->queues : AT_FDCWD;
    int file = object->path && !object->is_removed ? openat(directory, object->path, flags) : -1;
    struct stat status;
    if (file >= 0 && (fstat(file, &status) != 0 || status.st_ino != object->inode)) {
        (void)close(file);
        return -1;
    }
    return file;
}

static enum machine_use ask_by_lease(const struct machine_list *list, const struct machine_object *object)
{
    int file = open_again(list, object);
    if (file < 0)
        return MACHINE_UNKNOWN;
    (void)signal(SIGIO, SIG_IGN); /* sent to who holds a lease that somebody waits for */
    enum machine_use use = MACHINE_UNKNOWN;
    if (fcntl(file, F_SETLEASE, F_WRLCK) == 0)
        use = fcntl(file, F_SETLEASE, F_UNLCK) == 0 ? MACHINE_UNUSED : MACHINE_UNKNOWN;
    else if (errno == EAGAIN)
        use = MACHINE_USED;
    (void)close(file);
    return use;
}

static void decide_file(struct machine_list *list, struct machine_object *object, unsigned flags)
{
    bool sees_all = !list->sight.hidden && list->sight.denied == 0;
    enum machine_use asked = MACHINE_UNKNOWN;
    if (object->user_count > 0) {
        decide(object, MACHINE_USED, "");
        return;
    }
    if (flags & MACHINE_ASK)
        asked = ask_by_lease(list, object);
    if (asked == MACHINE_USED)
        decide(object, MACHINE_USED, "by a process that is not shown");
    else if (asked == MACHINE_UNUSED || sees_all)
        decide(object, MACHINE_UNUSED, "");
    else
        decide(object, MACHINE_UNKNOWN, list->sight.sentence);
}

static void decide_segment(struct machine_list *list, struct machine_object *object)
{
    if (object->user_count > 0 || (object->segment && object->segment->members_alive > 0) ||
        object->figures.attached > 0)
        decide(object, MACHINE_USED, "");
    else if (object->segment)
        decide(object, MACHINE_UNUSED, "");
    else if (!list->sight.hidden && list->sight.denied == 0)
        decide(object, MACHINE_UNUSED, "");
    else
        decide(object, MACHINE_UNKNOWN, list->sight.sentence);
}

static void decide_last_users(struct machine_object *object)
{
    const struct machine_figures *figures = &object->figures;
    bool was_used = figures->operated_s > 0 || figures->sent_s > 0 || figures->received_s > 0;
    if (object->user_count > 0)
        decide(object, MACHINE_USED, "");
    else if (figures->waiting > 0)
        decide(object, MACHINE_USED, "by a process that waits");
    else if (!figures->known)
        decide(object, MACHINE_UNKNOWN, "no right to look at its semaphores");
    else if (was_used)
        decide(object, MACHINE_UNKNOWN, "who used it last is gone; others may know it");
    else
        decide(object, MACHINE_UNKNOWN, "not used yet; others may know it");
}

void machine_decide_use(struct machine_list *list, unsigned flags)
{
    for (size_t i = 0; i < list->count; i++) {
        struct machine_object *object = &list->objects[i];
        if (object->kind == MACHINE_SEGMENT)
            decide_segment(list, object);
        else if (object->backend == MACHINE_SYSV_SHM)
            decide(object, object->figures.attached > 0 ? MACHINE_USED : MACHINE_UNUSED, "");
        else if (object->backend == MACHINE_SYSV_SEM || object->backend == MACHINE_SYSV_MSG)
            decide_last_users(object);
        else
            decide_file(list, object, flags);
    }
}

char *machine_users_text(char text[200], const struct machine_object *object)
{
    const struct machine_user *user = object->users;
    size_t members = object->segment ? object->segment->members_alive : 0;
    if (object->user_count == 1)
        (void)snprintf(text, 200, "by %s (%d)", user->command, (int)user->pid);
    else if (object->user_count > 1)
        (void)snprintf(text, 200, "by %s (%d) and %zu more", user->command, (int)user->pid, object->user_count - 1);
    else if (members > 0)
        (void)snprintf(text, 200, "by %zu member%s that /proc does not show", members, members == 1 ? "" : "s");
    else if (object->figures.attached > 0)
        (void)snprintf(text, 200, "by processes that /proc does not show (%llu attachments)",
                       (unsigned long long)object->figures.attached);
    else
        (void)snprintf(text, 200, "%s", object->why);
    return text;
}
