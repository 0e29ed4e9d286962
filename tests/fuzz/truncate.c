/* truncate.c - one process makes a segment's file smaller and larger, while others look at it and use it with
 * COVE_GUARD, and run the command on it: nobody dies of SIGBUS. truncate [SECONDS [COMMAND]]; COVE_SOAK=1: ten
 * minutes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "crowd.h"
#include "ground.h"

#include <cove.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SHORT_S 5
#define LONG_S 600
#define WHOLE_US 1000 /* for so long it is whole at most: somebody shall get past the first look */
#define HALF_US 300 /* for so long it is not */

static struct image image;
static uint64_t truncations;

static void check(bool good)
{
    if (good)
        return;
    perror(image_path());
    exit(1);
}

/* Down to some length, of pages or not. */
static void shorten(int file)
{
    uint32_t length = (uint32_t)random() % image.size;
    if (random() % 2)
        length &= ~4095u;
    check(ftruncate(file, (off_t)length) == 0);
    truncations++;
}

/* Then the file gets its bytes again, or another file its name. */
static void squeeze(bool same_file)
{
    int file = open(image_path(), O_RDWR | O_CLOEXEC);
    if (file < 0) { /* it went just now: what was half of it may say that it is to be removed */
        image_put(&image, 0, image_path(), NULL, 0);
        return;
    }
    shorten(file);
    if (same_file)
        check(pwrite(file, image.bytes, image.size, 0) == (ssize_t)image.size);
    else {
        (void)usleep((useconds_t)random() % HALF_US);
        (void)unlink(image_path());
        image_put(&image, 0, image_path(), NULL, 0);
    }
    (void)close(file);
}

static int squeeze_on(bool same_file, uint64_t seconds, const char *command)
{
    crowd_begin(command);
    crowd_start(CROWD_LOOK, COVE_GUARD);
    crowd_start(CROWD_USE, COVE_GUARD);
    crowd_start(CROWD_COMMAND, 0);
    uint64_t until_s = crowd_seconds() + seconds;
    while (crowd_goes_on(until_s)) {
        squeeze(same_file);
        (void)usleep((useconds_t)random() % WHOLE_US);
    }
    return crowd_end(same_file ? "truncate, the same file again" : "truncate, another file then");
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
    image_put(&image, 0, image_path(), NULL, 0);
    printf("truncate: seed %u\n", seed);
    srandom(seed);
    int status = squeeze_on(true, (seconds + 1) / 2, command);
    status |= squeeze_on(false, (seconds + 1) / 2, command);
    printf("truncate: %llu times\n", (unsigned long long)truncations);
    return status;
}
