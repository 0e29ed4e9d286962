/* scribble.c - one process flips bytes in a segment at random, while others look at it, use it, and run the command
 * on it: they may say anything, and must not die. scribble [SECONDS [COMMAND]]; COVE_SOAK=1: ten minutes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Unlike with the fuzz targets, what was checked may change before it is used: this finds what is read twice. Where
 * some are members, spared are, in each lane, the robust mutex (`life`), since the lists that libc and kernel keep
 * of a thread's mutexes run through it and no check of ours stands between; and the lengths of its journals
 * (`tails`), which their owner asserts. */
#include "crowd.h"
#include "ground.h"
#include "segment/lane_shm.h"
#include "segment/segment_shm.h"

#include <cove.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SHORT_S 5
#define LONG_S 600

static struct image image;
static unsigned char *bytes; /* of the segment, mapped */
static bool members; /* there are some */

static bool is_spared(uint32_t place)
{
    const uint32_t lanes_at = (uint32_t)COVEI_TABLES_AT + 3 * 4096; /* a page each for states, owners and rows */
    const uint32_t lane_bytes = sizeof(struct covei_lane_shm);
    const uint32_t life = offsetof(struct covei_lane_shm, life), tails = offsetof(struct covei_lane_shm, tails);
    if (!members || place < lanes_at || place >= lanes_at + 2 * COVEI_LANES_PER_MEMBER * lane_bytes)
        return false;
    uint32_t in_lane = (place - lanes_at) % lane_bytes;
    return (in_lane >= life && in_lane < life + sizeof((struct covei_lane_shm *)0)->life) ||
           (in_lane >= tails && in_lane < tails + sizeof(uint64_t));
}

static void put(uint32_t place, unsigned char byte)
{
    if (!is_spared(place))
        ((volatile unsigned char *)bytes)[place] = byte;
}

static void mend(uint32_t from, uint32_t count)
{
    for (uint32_t place = from; place < from + count; place++)
        put(place, image.bytes[place]);
}

/* What is scribbled may well say that the segment is to be removed: then there is a new one. */
static void map_file(void)
{
    if (bytes && access(image_path(), F_OK) == 0)
        return;
    if (bytes)
        (void)munmap(bytes, image.size);
    image_put(&image, 0, image_path(), NULL, 0);
    int file = open(image_path(), O_RDWR | O_CLOEXEC);
    bytes = file < 0 ? MAP_FAILED : mmap(NULL, image.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED) {
        perror(image_path());
        exit(1);
    }
    (void)close(file);
}

static void scribble(uint64_t until_s)
{
    while (crowd_goes_on(until_s)) {
        map_file();
        for (int i = 0; i < 64; i++) { /* then the others get past the first checks again and again */
            uint32_t place = (uint32_t)random() % image.size;
            if (random() % 4 != 0)
                place = image.words[(uint32_t)random() % image.word_count] + (uint32_t)random() % 8;
            put(place, (unsigned char)random());
            if (random() % 8 == 0)
                mend(0, image.size);
            else
                mend((uint32_t)random() % (image.size - 64), 64);
        }
    }
}

static int round_of(bool with_members, uint64_t seconds, const char *command)
{
    members = with_members;
    mend(0, image.size);
    crowd_begin(command);
    crowd_start(CROWD_LOOK, 0);
    crowd_start(CROWD_COMMAND, 0);
    if (members) {
        crowd_start(CROWD_USE, 0);
        crowd_start(CROWD_GC, 0); /* it recovers the dead, as a member */
    }
    scribble(crowd_seconds() + seconds);
    mend(0, image.size);
    return crowd_end(members ? "scribble, with members" : "scribble");
}

int main(int argc, char **argv)
{
    const char *soak = getenv("COVE_SOAK"), *command = argc > 2 ? argv[2] : NULL;
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : SHORT_S;
    unsigned seed = (unsigned)time(NULL);
    if (soak && strcmp(soak, "1") == 0)
        seconds = LONG_S;
    ground_begin();
    image_make(&image);
    map_file();
    printf("scribble: seed %u\n", seed);
    srandom(seed);
    int status = round_of(false, (seconds + 1) / 2, command);
    return status | round_of(true, (seconds + 1) / 2, command);
}
