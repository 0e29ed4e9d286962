/* symbols.h - the name of the function at an address of this process, statics included.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef SYMBOLS_H
#define SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* "covei_lock_slow+0x1c (libcove.so.0.1.0)", or the file and offset where there is no symbol. */
void symbol_name(uint64_t address, char *text, size_t size_bytes);

#endif
