/* machine_sysv.c - System V memory, queues and sets of semaphores.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The kernel keeps three tables, and gives the entry at an index with the calls below, which want no right to the
 * object (older kernels have only the variant that does; what we may not read is left out there). An entry that
 * goes between two calls is one that the next call does not find. */
#include "machine.h"

#include <errno.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif
#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif
#define SHM_REMOVED 01000u /* in the mode: it goes with the last attachment */
#define MOST_SEMAPHORES 256 /* of a set that are asked for one by one */

union semaphore_argument { /* semctl wants the caller to define it */
    int value;
    struct semid_ds *status;
    struct seminfo *info;
};

/* The parts that all three have in common. NULL: no memory. */
static struct machine_object *add(struct machine_list *list, enum machine_kind kind, enum machine_backend backend,
                                  int id, const struct ipc_perm *rights)
{
    const char *prefix = backend == MACHINE_SYSV_SHM ? "sysv:" : backend == MACHINE_SYSV_SEM ? "sysvsem:" : "sysvmsg:";
    char name[40];
    uint32_t key = (uint32_t)rights->__key;
    if (key != 0)
        (void)snprintf(name, sizeof name, "%s0x%x", prefix, key);
    else
        (void)snprintf(name, sizeof name, "%sid=%d", prefix, id);
    struct machine_object *object = machine_add(list, kind, backend, name);
    if (!object)
        return NULL;
    object->system_id = id;
    object->key = key;
    object->mode = (uint32_t)rights->mode & 0777;
    object->owner_uid = rights->uid;
    object->owner_gid = rights->gid;
    object->figures.creator_uid = rights->cuid;
    object->figures.creator_gid = rights->cgid;
    return object;
}

/* ---- memory ---- */

/* Its kind is asked of the library, by its name: of Cove's own the header is verified. */
static void inspect(struct machine_object *object)
{
    struct cove_region_info region;
    if (object->key == 0 || object->is_removed || cove_region_look(object->name, &region) < 0)
        return;
    object->resident_bytes = region.resident_bytes;
    if (region.is_segment)
        machine_inspect_segment(object, object->name);
}

static int add_memory(struct machine_list *list, int index)
{
    struct shmid_ds status;
    int id = shmctl(index, SHM_STAT_ANY, &status);
    if (id < 0 && errno == EINVAL)
        id = shmctl(index, SHM_STAT, &status);
    if (id < 0)
        return 0;
    struct machine_object *object = add(list, MACHINE_REGION, MACHINE_SYSV_SHM, id, &status.shm_perm);
    if (!object)
        return -ENOMEM;
    object->device = MACHINE_SYSV_DEVICE;
    object->inode = (uint64_t)id;
    object->is_removed = (status.shm_perm.mode & SHM_REMOVED) != 0;
    object->size_bytes = status.shm_segsz;
    struct machine_figures *figures = &object->figures;
    figures->known = true;
    figures->attached = status.shm_nattch;
    figures->creator_pid = status.shm_cpid;
    figures->last_pid = status.shm_lpid;
    figures->attached_s = (uint64_t)status.shm_atime;
    figures->detached_s = (uint64_t)status.shm_dtime;
    figures->changed_s = (uint64_t)status.shm_ctime;
    inspect(object);
    return 0;
}

/* ---- queues ---- */

/* Nobody has a queue "open": the last sender and receiver are all that the kernel knows. */
static int add_last_user(struct machine_object *object, int32_t pid, uint64_t when_s)
{
    struct machine_user user;
    return pid > 0 && machine_process_lives(pid, when_s, &user) ? machine_add_user(object, &user) : 0;
}

static int add_queue(struct machine_list *list, int index)
{
    struct msqid_ds status;
    int id = msgctl(index, MSG_STAT_ANY, &status);
    if (id < 0 && errno == EINVAL)
        id = msgctl(index, MSG_STAT, &status);
    if (id < 0)
        return 0;
    struct machine_object *object = add(list, MACHINE_QUEUE, MACHINE_SYSV_MSG, id, &status.msg_perm);
    if (!object)
        return -ENOMEM;
    struct machine_figures *figures = &object->figures;
    figures->known = true;
    figures->messages = status.msg_qnum;
    figures->message_bytes = status.__msg_cbytes;
    figures->most_bytes = status.msg_qbytes;
    figures->sender_pid = status.msg_lspid;
    figures->receiver_pid = status.msg_lrpid;
    figures->sent_s = (uint64_t)status.msg_stime;
    figures->received_s = (uint64_t)status.msg_rtime;
    figures->changed_s = (uint64_t)status.msg_ctime;
    object->size_bytes = figures->message_bytes;
    int result = add_last_user(object, figures->sender_pid, figures->sent_s);
    return result < 0 ? result : add_last_user(object, figures->receiver_pid, figures->received_s);
}

/* ---- sets of semaphores ---- */

/* One semaphore of a set. Returns false where we may not look, or it has gone. */
static bool look_at_semaphore(struct machine_object *object, int number)
{
    struct machine_figures *figures = &object->figures;
    int value = semctl(object->system_id, number, GETVAL), upward = semctl(object->system_id, number, GETNCNT);
    int zero = semctl(object->system_id, number, GETZCNT), pid = semctl(object->system_id, number, GETPID);
    if (value < 0 || upward < 0 || zero < 0 || pid < 0)
        return false;
    figures->value = number == 0 ? (uint64_t)value : figures->value;
    figures->waiting += (uint64_t)upward + (uint64_t)zero;
    figures->last_pid = pid > 0 ? pid : figures->last_pid;
    return add_last_user(object, pid, figures->operated_s) == 0;
}

static int add_set(struct machine_list *list, int index)
{
    struct semid_ds status;
    union semaphore_argument argument = {.status = &status};
    int id = semctl(index, 0, SEM_STAT_ANY, argument);
    if (id < 0 && errno == EINVAL)
        id = semctl(index, 0, SEM_STAT, argument);
    if (id < 0)
        return 0;
    struct machine_object *object = add(list, MACHINE_SEMAPHORES, MACHINE_SYSV_SEM, id, &status.sem_perm);
    if (!object)
        return -ENOMEM;
    struct machine_figures *figures = &object->figures;
    figures->count = status.sem_nsems;
    figures->operated_s = (uint64_t)status.sem_otime;
    figures->changed_s = (uint64_t)status.sem_ctime;
    figures->known = true;
    for (int i = 0; figures->known && i < (int)status.sem_nsems && i < MOST_SEMAPHORES; i++)
        figures->known = look_at_semaphore(object, i);
    return 0;
}

/* ---- all three ---- */

static int walk(struct machine_list *list, int highest, int (*add_one)(struct machine_list *, int))
{
    int result = 0;
    for (int i = 0; i <= highest && result == 0; i++)
        result = add_one(list, i);
    return result;
}

/* A call of these that fails means a kernel without System V objects: there are none to list. */
int machine_add_sysv(struct machine_list *list)
{
    struct shm_info memory;
    struct msginfo queues;
    struct seminfo sets;
    union semaphore_argument argument = {.info = &sets};
    int result = walk(list, shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&memory), add_memory);
    if (result == 0)
        result = walk(list, msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&queues), add_queue);
    if (result == 0)
        result = walk(list, semctl(0, 0, SEM_INFO, argument), add_set);
    return result;
}

int machine_remove_sysv(const struct machine_object *object)
{
    int result = object->backend == MACHINE_SYSV_SHM   ? shmctl(object->system_id, IPC_RMID, NULL)
                 : object->backend == MACHINE_SYSV_MSG ? msgctl(object->system_id, IPC_RMID, NULL)
                                                       : semctl(object->system_id, 0, IPC_RMID);
    if (result == 0)
        return 0;
    return errno == EINVAL || errno == EIDRM ? -ENOENT : -errno;
}
