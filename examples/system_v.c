/* system_v.c - memory shared with a program that has known shmget for thirty years, and knows nothing of Cove.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

/* That program. */
static int old_program(key_t key)
{
    int id = shmget(key, 0, 0);
    char *text = id < 0 ? (void *)-1 : shmat(id, NULL, 0);
    if (text == (void *)-1)
        return perror("old program"), 1;
    printf("the old program reads: %s\n", text);
    strcpy(text, "pong");
    return shmdt(text) < 0 || fflush(stdout) != 0;
}

int main(void)
{
    int status = 1;
    char name[32];
    cove_region *region, *again;
    key_t key = (key_t)(0x5e000000 | getpid()); /* any number that both know; "sysv:PATH:ID" means ftok(PATH, ID) */
    (void)snprintf(name, sizeof name, "sysv:0x%x", (unsigned)key);
    struct cove_region_options options = {.flags = COVE_EXCLUSIVE, .size_bytes = 100};
    if (cove_region_open(&region, name, &options) < 0) /* a key that somebody else has already is an error here */
        return cove_complain(name);
    strcpy(cove_region_data(region), "ping");

    pid_t old = fork();
    if (old == 0)
        return old_program(key);
    (void)waitpid(old, &status, 0);
    printf("and writes: %s\n", (char *)cove_region_data(region));

    int result = cove_region_open(&again, name, &(struct cove_region_options){.size_bytes = 5000000});
    printf("5000000 bytes of it: %s\n", cove_errname(result)); /* and the sentence says how many there are */
    int good = status == 0 && result < 0;
    return cove_region_close(region) < 0 || cove_region_unlink(name, 0) < 0 || !good;
}
