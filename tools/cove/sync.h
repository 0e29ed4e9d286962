/* sync.h - what the verbs of locks and meeting points share: lock, signal, wait, count, and create.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVE_TOOLS_SYNC_H
#define COVE_TOOLS_SYNC_H

#include "cli.h"

enum sync_type {
    SYNC_MUTEX,
    SYNC_RWLOCK,
    SYNC_SEMAPHORE,
    SYNC_EVENT,
    SYNC_CONDITION,
    SYNC_BARRIER,
    SYNC_ONCE,
    SYNC_COUNTER,
    SYNC_OTHER /* of an object: it is none of these */
};
#define SYNC_TYPE_COUNT SYNC_OTHER

const char *sync_type_name(enum sync_type type);
enum sync_type sync_type_of(const char *name); /* SYNC_OTHER */

/* Open the object in the segment, or make it. As cove_mutex_open_in and its like. */
int sync_open_in(enum sync_type type, void **address, cove_segment *segment, const char *object,
                 const struct cove_sync_options *options);

#define SYNC_MOST_LINES 64 /* of a counter: cove/sync.h */

/* Options that all these verbs have. Targets of popt, so plain ints and strings. */
struct sync_given {
    char *timeout;
    int existing, any_owner, json;
};

/* An object that is open. */
struct sync_thing {
    const char *name; /* as it was typed */
    struct cli_name parts;
    cove_segment *segment;
    enum sync_type type;
    void *address;
    bool is_new;
};

/* Which type a verb wants of an object that is of the type `found`, by name; NULL: to begin with, and where it is
 * missing. Says why where it wants none of it, and returns SYNC_OTHER. */
typedef enum sync_type sync_choose(const char *name, const char *found);

/* Open the object of that name, which `kind` ("lock") is said to be; make what is missing, and say so, or don't with
 * `existing`. The object's own type decides, where it is there. Returns a status to end with, or -1. */
int sync_open(struct sync_thing *thing, const char *name, const char *kind, const struct sync_given *given,
              uint32_t segment_flags, sync_choose *choose, const struct cove_sync_options *options);

/* Returns `status`, or CLI_FAILED after a sentence. */
int sync_close(struct sync_thing *thing, int status);

/* A wait, or another call, that did not succeed: say why, and return a status. A signal that ended it ends us. */
int sync_failed(struct sync_thing *thing, int result);

/* End by the signal that asked us to, where one did. */
void sync_heed_signal(struct sync_thing *thing);

/* Print what is known of an event, or of a counter: its version or value, or all as JSON. */
void sync_print_event(const struct sync_thing *thing, uint64_t version, bool is_set, bool json);
void sync_print_counter(const struct sync_thing *thing, int64_t value, bool json);

#endif
