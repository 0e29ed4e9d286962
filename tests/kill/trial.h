/* trial.h - plays a scenario of the kill table once, and says what came of it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef TRIAL_H
#define TRIAL_H

#include "stage.h"
#include "stepper.h"

#define NOT_KILLED SIZE_MAX

/* Everything that the trials of one scenario share. */
struct theatre {
    const struct scenario *scenario;
    struct ledger *ledger;
    char directory[256]; /* COVE_DIR of this run */
    char path[300]; /* of the segment in it */
    unsigned char *image; /* of its file; NULL where there is none (System V), and it is built anew for each trial */
    size_t image_bytes;
    unsigned char *copy; /* what cove_sync had made of it, or NULL */
    size_t copy_bytes;
    uint64_t used_bytes, block_count, object_count; /* in the image */
    int by_calls; /* points are the stops around system calls, which are found without single steps */
    struct stepper_trace trace; /* of the operation */
    uint64_t drifted;
    uint64_t missed; /* points that could not be reached: the operation took another way and was over before */
};

/* What one trial found. */
struct trial {
    size_t point; /* of the victim; NOT_KILLED */
    int stopped; /* it was not killed there, but went on */
    size_t recovery_point; /* of the recoverer, where recovery itself is killed */
    uint64_t address; /* of the next instruction of whoever was killed last */
    int slept; /* the sleeper was asleep in its call when the victim died */
    int64_t recovery_ns; /* from the kernel's word of the death until the others' calls had returned */
    uint32_t finding_count;
    int count[VERDICT_COUNT]; /* 1 where there was such a finding */
    struct finding finding[LEDGER_FINDINGS];
    int refused; /* ptrace is not allowed */
};

/* Builds the image. Returns 0 with a message on stderr when the library cannot even do that. */
int theatre_open(struct theatre *theatre, const struct scenario *scenario, struct ledger *ledger,
                 const char *directory);
void theatre_close(struct theatre *theatre);

/* The operation, not killed: fills theatre->trace where `record`, and must end well. */
void trial_whole(struct theatre *theatre, int record, struct trial *trial);

/* Killed at `point`; `seed` varies what the bystanders do. */
void trial_killed(struct theatre *theatre, size_t point, uint64_t seed, struct trial *trial);

/* Not killed: stands at `point` while the others do what they can, and then goes on to its end. */
void trial_stopped(struct theatre *theatre, size_t point, uint64_t seed, struct trial *trial);

/* Killed at `point`, and the recoverer after it. With `recovery_point` NOT_KILLED the recovery is whole, and `trace` is
 * filled with it. */
void trial_recovery_killed(struct theatre *theatre, size_t point, struct stepper_trace *trace, size_t recovery_point,
                           uint64_t seed, struct trial *trial);

#endif
