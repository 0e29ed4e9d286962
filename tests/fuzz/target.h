/* target.h - what a fuzz target is, and the engine that runs it: libFuzzer, or AFL++ through its driver.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * An input is `head_bytes` bytes whose meaning is the target's, then whatever the target likes: patches of its
 * images (image.h) where it has some. */
#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

#include "image.h"

#include <stddef.h>
#include <stdint.h>

struct target {
    uint32_t head_bytes;
    const struct image *images[2]; /* NULL: the input is no list of patches */
    void (*begin)(void); /* once */
    /* Inputs to begin with, besides one for each word of the images. NULL: none. */
    void (*seeds)(void (*add)(const void *data, size_t size));
};
extern const struct target target;

/* The engine calls these. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size); /* the target's own */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

#endif
