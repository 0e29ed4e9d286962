/* scribble.c - one process flips bytes in a segment at random, while others look at it: they may say anything, and must not die.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Unlike the fuzz targets, what was checked may change before it is used: this finds what is read twice. */
#include "image.h"

#include <cove.h>

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ONLOOKERS = 2, MEMBERS = 4, OBJECTS = 8 };

struct shared {
    _Atomic uint64_t looks[ONLOOKERS];
    _Atomic uint64_t errors;
    _Atomic bool stop;
};
static struct shared *shared;

/* image.c was made for libFuzzer, which this program does without. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most)
{
    (void)data, (void)most;
    return size;
}

static uint64_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

/* Returns how many errors there were, which are as welcome as answers. */
static uint64_t look(void)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    struct cove_member_info members[MEMBERS];
    struct cove_object_info objects[OBJECTS];
    uint64_t errors = cove_stat(IMAGE_SEGMENT, &info) < 0;
    if (cove_open(&segment, IMAGE_SEGMENT, &(struct cove_options){.flags = COVE_READONLY}) == 0) {
        errors += cove_segment_members(segment, members, MEMBERS) < 0;
        errors += cove_objects(segment, objects, OBJECTS) < 0;
        errors += cove_segment_check(segment, NULL, NULL) != 0;
        (void)cove_close(segment);
    } else
        errors++;
    return errors;
}

static pid_t start_onlooker(uint32_t onlooker)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    while (!atomic_load(&shared->stop)) {
        atomic_fetch_add(&shared->errors, look());
        atomic_fetch_add(&shared->looks[onlooker], 1);
    }
    _exit(0);
}

static unsigned char *map_file(void)
{
    char path[200];
    (void)snprintf(path, sizeof path, "%s/" IMAGE_SEGMENT ".cove", cove_directory());
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *bytes = file < 0 ? MAP_FAILED : mmap(NULL, pristine.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    (void)close(file);
    return bytes;
}

/* Damage a few words, let the others look, mend them: so they get past the first checks again and again. */
static void scribble(unsigned char *bytes, uint64_t seconds)
{
    unsigned seed = (unsigned)time(NULL);
    uint64_t end = seconds_now() + seconds;
    printf("scribble: seed %u\n", seed);
    (void)fflush(stdout);
    srandom(seed);
    while (seconds_now() < end) {
        uint32_t place = (uint32_t)random() % pristine.size;
        if (random() % 4 != 0)
            place = pristine.words[(uint32_t)random() % pristine.word_count] + (uint32_t)random() % 8;
        bytes[place] = (unsigned char)random();
        uint32_t mended = (uint32_t)random() % (pristine.size - 64);
        if (random() % 8 == 0)
            memcpy(bytes, pristine.bytes, pristine.size);
        else
            memcpy(bytes + mended, pristine.bytes + mended, 64);
    }
}

static int join(const pid_t pids[ONLOOKERS])
{
    int bad = 0;
    uint64_t end = seconds_now() + 30;
    for (int i = 0; i < ONLOOKERS; i++) {
        int status = 0;
        pid_t ended;
        while ((ended = waitpid(pids[i], &status, WNOHANG)) == 0 && seconds_now() < end)
            (void)usleep(1000);
        if (ended == 0) {
            printf("scribble: an onlooker hangs\n");
            kill(pids[i], SIGKILL);
            (void)waitpid(pids[i], NULL, 0);
            bad = 1;
        } else if (status != 0) {
            printf("scribble: an onlooker ended with status 0x%x\n", (unsigned)status);
            bad = 1;
        }
    }
    return bad;
}

int main(int argc, char **argv)
{
    pid_t pids[ONLOOKERS];
    uint64_t looks = 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    image_begin();
    image_put(NULL, 0);
    unsigned char *bytes = map_file();
    for (uint32_t i = 0; i < ONLOOKERS; i++)
        pids[i] = start_onlooker(i);
    scribble(bytes, argc > 1 ? strtoull(argv[1], NULL, 10) : 5);
    atomic_store(&shared->stop, true);
    int bad = join(pids);
    for (int i = 0; i < ONLOOKERS; i++)
        looks += atomic_load(&shared->looks[i]);
    uint64_t errors = atomic_load(&shared->errors);
    printf("scribble: %llu looks, %llu errors and findings, %s\n", (unsigned long long)looks,
           (unsigned long long)errors, bad ? "FAILED" : "nobody died");
    return bad || looks == 0 || errors == 0; /* none at all: nobody saw what was scribbled */
}
