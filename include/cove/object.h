/* cove/object.h - named, typed objects in a segment.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * An object's name holds 1 to 200 of the characters of segment names, and '/' to group (not first, last or doubled).
 * Its full name is SEGMENT/OBJECT. */
#ifndef COVE_OBJECT_H
#define COVE_OBJECT_H

#include <cove/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A user's own struct as an object. The same type must be given by all who open the object. */
struct cove_type {
    const char *name; /* 1 to 31 bytes, "account" */
    uint32_t version; /* of the struct; a change of its layout wants a new one */
    uint32_t reserved; /* 0 */
    uint64_t size_bytes;
};

/* Open the object `name` of `segment`; where it is missing, make it, all bytes zero.
 *   object  gets its address, aligned to 16, valid until the segment is closed
 *   flags   0, COVE_EXISTING or COVE_EXCLUSIVE
 * Returns 0, COVE_CREATED, COVE_ENAME, -ENOENT, -EEXIST, COVE_ETYPE (it is of another type: the sentence says which),
 * -ENOSPC,
 * -EBUSY (creating inside a transaction: open objects before cove_begin). Crash: the object is there whole, or not at
 * all. */
COVE_API COVE_CHECKED
int cove_object_open(void **object, cove_segment *segment, const char *name, const struct cove_type *type,
                     uint32_t flags);

/* Remove the object and free its memory. Returns 0, COVE_ENAME, -ENOENT, or -EBUSY: a living member has it open, as
 * an end of a stream does, and would go on using the memory (or: inside a transaction). User objects cannot tell:
 * nobody may use them any more. */
COVE_API int cove_object_remove(cove_segment *segment, const char *name);

struct cove_object_info {
    char name[208];
    char type[32]; /* "stream", or the user's type name */
    uint32_t type_id; /* of Cove's types; 1 is a user's */
    uint32_t version;
    uint64_t size_bytes; /* of its memory */
    char figures[200]; /* "capacity=1048576 unread=17 ..." : what its type says of it */
};

/* Up to `capacity` objects. Returns how many there are (which may be more), or an error, -ETIMEDOUT among
 * them: a stopped process is in the middle of making one. On a read-only segment too, without waiting.
 * */
COVE_API int64_t cove_objects(cove_segment *segment, struct cove_object_info *objects, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
