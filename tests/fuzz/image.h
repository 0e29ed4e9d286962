/* image.h - small valid segments as bytes, and what patches make of them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A list of patches: each {place: 23 bits, little-endian, and one bit that says which of two images it is for;
 * length: 1 byte; bytes}, written over the image in order. The place counts modulo the image's size, the length
 * modulo 33. Length 0 cuts the file at the place, or lengthens it by the place's low 16 bits where it is odd. So
 * every input gets past the header, unless it damages just that, and each byte of the segment is a few mutations
 * away. */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <cove.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_SEGMENT "fuzzed"
#define IMAGE_STREAM "stream"
#define IMAGE_STRUCT "struct"
#define IMAGE_LARGEST (UINT32_C(1) << 17)
#define IMAGE_PATCH_BYTES 4u /* before the bytes of a patch */

struct image {
    unsigned char bytes[IMAGE_LARGEST];
    uint32_t size;
    uint32_t words[IMAGE_LARGEST / 8]; /* places of what is worth damaging: words that are not 0, and some that are */
    uint32_t word_count;
};

/* A segment of its kind, as it is while its member is alive and in the middle of a transaction; nobody holds its
 * row's byte in the copies, so that the member is dead. After ground_begin; the file that it was made in is gone. */
void image_make(struct image *image);
/* Likewise one that outlives the machine (a file), and the copy that cove_sync wrote of it a moment before. */
void image_make_durable(struct image *image, struct image *synced);
/* The steps: something of everything, and in the middle of a transaction; then the file's bytes. */
void image_fill(cove_segment *segment);
void image_take(struct image *image, const char *path);

/* Where they lie: that of image_make as IMAGE_SEGMENT, a durable one as file:PATH. */
const char *image_path(void);
const char *image_durable_name(void);
const char *image_durable_path(void);
const char *image_synced_path(void);

/* Write image `which` (0 or 1) to a file, after its patches among those of the input. */
void image_put(const struct image *image, unsigned which, const char *path, const uint8_t *data, size_t size);
/* A patch that makes the word at that place this one. Returns its length. */
size_t image_patch(uint8_t to[IMAGE_PATCH_BYTES + 8], unsigned which, uint32_t place, uint64_t word);
uint64_t image_word(const struct image *image, uint32_t place);

#endif
