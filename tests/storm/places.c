/* places.c - where the segments of a storm lie, and whether their memory is gone.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

enum { KEYS = 8 }; /* System V keys of a run */

enum place storm_place = IN_POSIX;
static pid_t supervisor;

const char *place_word(enum place which)
{
    static const char *const words[PLACES] = {"posix", "file", "sysv", "fd"};
    return which < PLACES ? words[which] : "?";
}

/* Pids end at 4,194,304 = 2^22. */
static uint32_t key(uint32_t number)
{
    if (supervisor == 0)
        supervisor = getpid();
    return UINT32_C(0x74000000) | ((uint32_t)supervisor & 0x3fffff) << 3 | number;
}

void name_place(char name[200], enum place which, const char *plain, uint32_t number)
{
    uint32_t own = key(number); /* first asked for by the supervisor */
    if (which == IN_FILE)
        (void)snprintf(name, 200, "file:%s/%s.file", cove_directory(), plain);
    else if (which == IN_SYSV)
        (void)snprintf(name, 200, "sysv:0x%x", own);
    else
        (void)snprintf(name, 200, "%s", plain);
}

bool memory_left(void)
{
    bool left = false;
    for (uint32_t number = 0; number < KEYS; number++) {
        int id = shmget((key_t)key(number), 0, 0);
        if (id < 0)
            continue;
        printf("left: System V memory %d of key 0x%x\n", id, key(number));
        (void)shmctl(id, IPC_RMID, NULL);
        left = true;
    }
    return left;
}
