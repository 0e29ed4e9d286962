/* directory.h - finding, making and removing named objects, for the library's own layers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_OBJECT_DIRECTORY_H
#define COVEI_OBJECT_DIRECTORY_H

#include "object/directory_shm.h"
#include "object/type.h"

static inline struct covei_directory_shm *covei_directory(const struct cove_segment *segment)
{
    return covei_address(segment, COVEI_DIRECTORY_ROOT_AT);
}

struct covei_object {
    void *memory;
    uint64_t size_bytes;
};

/* What is asked of the directory when an object is opened. */
struct covei_object_wish {
    const char *name;
    const struct covei_type *type;
    const char *type_name; /* of a user's type, else "" */
    uint32_t version;
    uint64_t size_bytes; /* of the memory, when it is made; compared for users' types */
    const void *parameters; /* for the type's format */
    uint32_t flags; /* COVE_EXISTING, COVE_EXCLUSIVE */
    /* Under the directory's lock, when the object is found or made: take a part of it. A negative result ends the
     * opening with it. */
    int (*take)(const struct covei_object *object, void *context);
    void *context;
};

/* Open or make. 0, COVE_CREATED, or an error with a sentence. */
int covei_object_open(struct covei_lane *lane, const struct covei_object_wish *wish, struct covei_object *object);

/* Look at every object: `visit` gets its entry (a verified copy) and its memory, NULL where that is not in the
 * segment. For the holder of the directory's lock, or for onlookers who may see a change in flight. False where the
 * directory contradicts itself. */
typedef void covei_object_visit(const struct covei_entry_shm *entry, void *memory, void *context);
bool covei_directory_each(const struct cove_segment *segment, covei_object_visit *visit, void *context);

void covei_directory_check(const struct cove_segment *segment, struct covei_findings *findings);
/* A word that names a lane must stand in that lane's list, unless it is just being given back (inspect.c). */
void covei_lock_check(const struct cove_segment *segment, const char *what, const _Atomic uint64_t *word,
                      struct covei_findings *findings);
/* Under the shut gate of a durable segment: 1, no object is being changed; 0, one is; or an error. */
int covei_objects_quiet(struct covei_lane *worker, int64_t patience_ns);
int covei_settle_objects(struct covei_lane *worker, uint32_t row, uint32_t generation);

#endif
