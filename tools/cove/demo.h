/* demo.h - what the chapters of `cove demo` share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The actors are processes, forked by the teller. What they do is seen on a board: memory that the teller mapped
 * before it forked them, so that the measuring does not lean on what is measured. */
#ifndef COVE_TOOLS_DEMO_H
#define COVE_TOOLS_DEMO_H

#include "cli.h"

#include <stdatomic.h>
#include <sys/types.h>

/* What one actor tells. Every field but the first is written by the actor alone. */
struct demo_slot {
    bool doomed; /* it is to be killed in the middle; set before it is forked */
    _Atomic uint64_t position; /* of the next byte of the file; or how many transfers were committed */
    _Atomic uint64_t took_over_at;
    _Atomic int64_t first_ns; /* when it had its first byte, or the lock; 0: not yet */
    _Atomic int64_t told_ns; /* when it was told that the other one had died; 0: it was not */
    _Atomic int64_t alice, bob;
    _Atomic int result; /* of the call that it ended with */
    char sentence[256]; /* Cove's; stored before told_ns (release), or before the actor exits */
};

#define DEMO_SLOTS 4
#define DEMO_PATIENCE_NS INT64_C(30000000000) /* whatever takes longer is a failure */

struct demo {
    char segment_name[64];
    cove_segment *segment;
    struct demo_slot *board;
    pid_t actors[DEMO_SLOTS];
    int source, copy; /* nameless files */
    uint64_t size_bytes;
    uint32_t crc;
    bool watched; /* stdout is a terminal: leave time to read */
};

/* demo.c */
typedef int demo_role(const struct demo *demo, struct demo_slot *slot, const char *object);

/* Fork an actor into a slot; it plays `role` and exits with what that returns. Returns false when it cannot be had. */
bool demo_cast(struct demo *demo, int slot, demo_role *role, const char *object);
bool demo_cast_doomed(struct demo *demo, int slot, demo_role *role, const char *object);

/* SIGKILL. Returns when it was sent. */
int64_t demo_kill(struct demo *demo, int slot);

/* Wait for an actor's end. Returns its exit status; -1 for a death by signal, or when patience ends. */
int demo_await(struct demo *demo, int slot);

/* Poll until `ready` holds. Returns false at the end of patience, or when asked to stop. */
bool demo_until(bool (*ready)(const struct demo_slot *slot, uint64_t value), const struct demo_slot *slot,
                uint64_t value);

/* A line of the story. */
__attribute__((format(printf, 1, 2))) void demo_tell(const char *format, ...);

/* Something was not as promised: says so, returns false. */
__attribute__((format(printf, 1, 2))) bool demo_broken(const char *format, ...);
void demo_breathe(const struct demo *demo);

/* demo_file.c */
bool demo_make_files(struct demo *demo);
bool demo_clear_copy(struct demo *demo);
bool demo_compare(struct demo *demo, uint32_t *crc); /* byte for byte; and the copy's checksum */

/* The chapters. Each returns whether everything came out as promised. */
bool demo_reader_dies(struct demo *demo);
bool demo_writer_dies(struct demo *demo);
bool demo_holder_dies(struct demo *demo);

#endif
