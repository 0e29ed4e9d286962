/* directory_shm.h - the bytes of the directory of named objects. Layout only.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Chains of entries by the hash of their names. An entry and its object's memory are blocks of the heap. */
#ifndef COVEI_OBJECT_DIRECTORY_SHM_H
#define COVEI_OBJECT_DIRECTORY_SHM_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define COVEI_DIRECTORY_CHAINS 256u

struct covei_directory_shm {
    _Atomic uint64_t lock; /* a lock word; guards everything here and the entries */
    uint64_t reserved[7];
    uint64_t object_count;
    uint64_t reserved2[7];
    uint64_t chains[COVEI_DIRECTORY_CHAINS]; /* offsets of the first entries; 0: none */
};
_Static_assert(offsetof(struct covei_directory_shm, lock) == 0, "directory layout");
_Static_assert(offsetof(struct covei_directory_shm, reserved) == 8, "directory layout");
_Static_assert(offsetof(struct covei_directory_shm, object_count) == 64, "directory layout");
_Static_assert(offsetof(struct covei_directory_shm, reserved2) == 72, "directory layout");
_Static_assert(offsetof(struct covei_directory_shm, chains) == 128, "directory layout");
_Static_assert(sizeof(struct covei_directory_shm) == 2176, "directory layout");

struct covei_entry_shm {
    alignas(8) uint64_t next; /* in its chain; 0: last */
    uint64_t hash; /* of the name */
    uint64_t object; /* offset of the object's memory */
    uint64_t size_bytes; /* of it */
    uint32_t type_id; /* enum covei_type_id */
    uint32_t version; /* of a user's type */
    uint32_t name_length;
    uint32_t reserved;
    char type_name[32]; /* of a user's type, ending in 0 */
    char name[208]; /* ending in 0 */
};
_Static_assert(offsetof(struct covei_entry_shm, next) == 0, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, hash) == 8, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, object) == 16, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, size_bytes) == 24, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, type_id) == 32, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, version) == 36, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, name_length) == 40, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, reserved) == 44, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, type_name) == 48, "entry layout");
_Static_assert(offsetof(struct covei_entry_shm, name) == 80, "entry layout");
_Static_assert(sizeof(struct covei_entry_shm) == 288, "entry layout");

#endif
