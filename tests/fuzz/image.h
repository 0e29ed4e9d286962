/* image.h - a small valid segment as bytes, damaged as a fuzzer's input says, and put where the library finds it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Input: a list of patches, each {place: 3 bytes, little-endian; length: 1 byte; bytes}, written over the image in order. The place counts modulo
 * the image's size, the length modulo 33. Length 0 cuts the file at the place, or lengthens it by the place's low 16 bits where it is odd. So
 * every input gets past the header, unless it damages just that, and each byte of the segment is a few mutations away. */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define IMAGE_SEGMENT "fuzzed"
#define IMAGE_STREAM "stream"
#define IMAGE_STRUCT "struct"
#define IMAGE_LARGEST (UINT32_C(1) << 17)

struct image {
    unsigned char bytes[IMAGE_LARGEST];
    uint32_t size;
    uint32_t words[IMAGE_LARGEST / 8]; /* places of the words that are not 0: what is worth damaging */
    uint32_t word_count;
};
extern struct image pristine;

/* Make the image, in a directory of its own that goes when the process ends, and set up the system's table of calls: mappings get
 * unreadable pages around them, sleeping takes no time, and waiting without end is a crash. */
void image_begin(void);
/* Write the damaged image to a fresh file under IMAGE_SEGMENT's name. */
void image_put(const uint8_t *data, size_t size);
void image_remove(void);
/* Write one input for each word of the image into that directory: the word as it is. Returns how many. */
uint32_t image_write_seeds(const char *directory);
/* How often this run was told to sleep since image_put. */
uint64_t image_sleeps(void);

/* For libFuzzer, which links these. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

#endif
