/* use.h - what a program does with a segment, of any bytes: objects, streams, blocks, a transaction.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Errors are right answers here; a crash, a step beside the mapping and a wait without end are not. */
#ifndef FUZZ_USE_H
#define FUZZ_USE_H

#include <cove.h>
#include <stdbool.h>
#include <stdint.h>

void use_look(cove_segment *segment, uint64_t place); /* stat, members, objects, check, a mutex's holder */
void use_segment(cove_segment *segment, uint64_t place);
/* Close, also where damage made lanes look like ours and busy, which refuses the close, rightly: the next input
 * wants a clean process. False where that was of no use. */
bool use_close(cove_segment *segment);
/* Offset that an input's first bytes stand for. */
uint64_t use_place(const uint8_t *data, size_t size);

#endif
