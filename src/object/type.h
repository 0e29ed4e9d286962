/* type.h - what the library must know about a type of object: the hinge between the directory and the types.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Recovery, the check, the lister and removal walk the table and know no type by name. A new type is one file and one
 * row. */
#ifndef COVEI_OBJECT_TYPE_H
#define COVEI_OBJECT_TYPE_H

#include "heap/heap.h"

#include <cove/object.h>

/* Numbers are part of the layout: they stand in segments. Never used again for another type. */
enum covei_type_id {
    COVEI_TYPE_NONE = 0,
    COVEI_TYPE_USER = 1,
    COVEI_TYPE_STREAM = 2,
    COVEI_TYPE_MUTEX = 3,
    COVEI_TYPE_RWLOCK = 4,
    COVEI_TYPE_SEMAPHORE = 5,
    COVEI_TYPE_EVENT = 6,
    COVEI_TYPE_CONDITION = 7,
    COVEI_TYPE_BARRIER = 8,
    COVEI_TYPE_ONCE = 9,
    COVEI_TYPE_COUNTER = 10,
    COVEI_TYPE_COUNT
};

struct covei_type {
    uint32_t id;
    const char *name;
    uint64_t alignment; /* of its memory */
    /* Fill fresh memory, zeroed, that nobody else sees yet. `parameters` are the type's own. NULL: zeros are right.
     * */
    void (*format)(struct cove_segment *segment, void *object, uint64_t size_bytes, const void *parameters);
    /* Are its fixed fields believable in `size_bytes` of memory? NULL: anything is. */
    bool (*sound)(const struct cove_segment *segment, const void *object, uint64_t size_bytes);
    /* A read-only fsck; safe on any bytes. */
    void (*check)(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                  struct covei_findings *findings);
    /* The member {row, generation} is gone for good: take back what it held. Must not wait for anything. Idempotent.
     * */
    void (*recover)(struct cove_segment *segment, void *object, uint64_t size_bytes, uint32_t row, uint32_t generation);
    /* Is a living member in the middle of a change that no lane tells of? Asked where the gate of a durable segment
     * is shut (gate.c). NULL: never. */
    bool (*busy)(const struct cove_segment *segment, const void *object);
    /* "capacity=1048576 unread=17": what it says of itself; safe on any bytes. */
    void (*describe)(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                     size_t text_bytes);
    /* Does a living member have it open? Its name for the sentence goes to `member`. NULL: nobody can tell. */
    bool (*in_use)(struct cove_segment *segment, void *object, uint64_t size_bytes, struct cove_member_info *member);
};

extern const struct covei_type covei_type_user;
extern const struct covei_type covei_type_stream;
extern const struct covei_type covei_type_mutex;
extern const struct covei_type covei_type_rwlock;
extern const struct covei_type covei_type_semaphore;
extern const struct covei_type covei_type_event;
extern const struct covei_type covei_type_condition;
extern const struct covei_type covei_type_barrier;
extern const struct covei_type covei_type_once;
extern const struct covei_type covei_type_counter;

/* What marks in held[] mean (covei_upper): src/sync/marks.c. */
void covei_marks_gone(struct cove_segment *segment, uint64_t held, bool died);

/* The type with that number, or NULL. */
const struct covei_type *covei_type_find(uint32_t id);

#endif
