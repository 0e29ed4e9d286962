/* target.c - inputs to begin with, and mutations that mean something. Contract: target.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "target.h"

#include "ground.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- seeds: TARGET --seeds DIRECTORY */

static const char *seeds_in;
static uint32_t seed_count;

static void add_seed(const void *data, size_t size)
{
    char name[300];
    (void)snprintf(name, sizeof name, "%s/seed-%05u", seeds_in, seed_count++);
    FILE *file = fopen(name, "w");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(name);
        exit(1);
    }
}

/* The word as it is: the place is what matters. */
static void add_words(const struct image *image, unsigned which)
{
    uint8_t input[64] = {0};
    for (uint32_t i = 0; i < image->word_count; i++) {
        uint32_t place = image->words[i];
        size_t size = image_patch(input + target.head_bytes, which, place, image_word(image, place));
        add_seed(input, target.head_bytes + size);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    target.begin();
    if (*argc != 3 || strcmp((*argv)[1], "--seeds") != 0)
        return 0;
    seeds_in = (*argv)[2];
    for (unsigned which = 0; which < 2; which++)
        if (target.images[which])
            add_words(target.images[which], which);
    if (target.seeds)
        target.seeds(add_seed);
    (void)fprintf(stderr, "%u inputs\n", seed_count);
    exit(0);
}

/* ---- mutations */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 27);
}

static uint32_t any_word(const struct image *image, uint64_t *random)
{
    return image->words[next_random(random) % image->word_count];
}

/* What might pass a check, and lead astray behind it. */
static uint64_t plausible(const struct image *image, uint64_t word, uint64_t *random)
{
    uint64_t choice = next_random(random), value = choice >> 16;
    switch (choice >> 8 & 7) {
    case 0:
        return word + (value & 0x3f) - 32;
    case 1:
        return word ^ UINT64_C(1) << (value & 63);
    case 2:
        return image_word(image, any_word(image, random));
    case 3:
        return value % image->size & ~UINT64_C(15);
    case 4:
        return image->size - (value & 0xff);
    case 5:
        return choice & 1 ? UINT64_MAX - (value & 0xff) : choice & 2 ? value & 3 : value & 0xff;
    case 6:
        return (word & 0xffffffff) | (value & (choice & 1 ? UINT64_MAX : 3)) << 32;
    default:
        return (word & ~UINT64_C(0xffffffff)) | (value & (choice & 1 ? 0xffffffff : 3));
    }
}

/* Half of the time one more plausible word, at a word that means something or beside one; else what the engine
 * likes. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint64_t random = seed;
    const struct image *image = target.images[0];
    uint32_t head = target.head_bytes;
    if (!image || size < head || next_random(&random) & 1 || size + IMAGE_PATCH_BYTES + 8 > most)
        return LLVMFuzzerMutate(data, size, most);
    if (head > 0 && next_random(&random) % 8 == 0) {
        data[next_random(&random) % head] ^= (uint8_t)(1u << next_random(&random) % 8);
        return size;
    }
    unsigned which = target.images[1] ? next_random(&random) & 1 : 0;
    image = target.images[which];
    uint32_t place = any_word(image, &random);
    if (next_random(&random) % 4 == 0)
        place = (uint32_t)(place + 8 * (next_random(&random) % 8)) % (image->size - 8);
    return size + image_patch(data + size, which, place, plausible(image, image_word(image, place), &random));
}
