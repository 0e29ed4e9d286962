/* roster.c - the members of a segment: rows, and who of them lives.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A row's word of state and generation says whether it is taken; the lock on the row's byte says whether its member
 * lives. The kernel drops that lock when the process dies, however it dies, and in every PID namespace, and no number
 * in it can be used again by somebody else.
 *
 * I1  A row becomes ATTACHED only by a process that holds the row's byte.
 * I2  A row is used again only when it is FREE or RECOVERED and its byte is free.
 * I3  Each member that takes a row makes its generation one more, so {row, generation} names one member for ever
 *     (2^32 of them).
 *
 * Order of taking: find a row by its word (never by asking the kernel about each: that costs microseconds a row when
 * the file has a thousand locks), lock its byte, look at the word again, describe ourselves, store ATTACHED.
 * Edge A: description, state ATTACHED release -> state acquire, description. Edge R: row cleaned, state FREE or
 * RECOVERED release -> state acquire, row taken. (G, memory before the word that says it is there: grow.c.)
 * Crash: before that store the row was never taken; after it the row names a dead member, which is recovered. Leaving
 * is one store, FREE, before the byte is dropped.
 *
 * A process does not see its own locks through the description that holds them, so asking goes through `file`,
 * another description, which does.
 *
 * With COVE_HELD_BY_CHILDREN the byte's description is passed on to children, and the kernel drops the lock with the
 * last process that has it: the member lives as long. Its lanes have no sign of life then, or that would tell of its
 * own death (lane.c). */
#include "segment/segment.h"

#include "region/region.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

bool covei_row_used(uint64_t word)
{
    uint32_t state = COVEI_STATE_OF(word);
    return state == COVEI_ROW_ATTACHED || state == COVEI_ROW_LINGERING;
}

/* Memory for rows [0, count), which are holes of the file at first. Doing it again, or dying in between, changes
 * nothing. */
static int make_rows_ready(struct cove_segment *segment, uint32_t count)
{
    struct covei_header_shm *header = segment->header;
    /* acquire, edge G: who made rows ready reserved their memory before it said so. */
    uint32_t ready = atomic_load_explicit(&header->rows_ready, memory_order_acquire);
    if (ready >= count)
        return 0;
    uint32_t rows_a_page = COVEI_PAGE / sizeof(struct covei_row_shm);
    uint32_t wanted = (uint32_t)covei_min(covei_round_up(count, rows_a_page), segment->max_members);
    uint64_t from = covei_offset(segment, segment->rows) + (uint64_t)ready * sizeof *segment->rows;
    int result = covei_segment_reserve(segment, from, (uint64_t)(wanted - ready) * sizeof *segment->rows);
    if (result < 0)
        return result;
    while (ready < wanted && !atomic_compare_exchange_weak_explicit(&header->rows_ready, &ready, wanted,
                                                                    memory_order_release, memory_order_relaxed))
        ;
    return 0;
}

static void describe_self(struct covei_row_shm *row)
{
    struct covei_process self;
    covei_os->process_self(&self);
    row->pid = self.pid;
    row->uid = self.uid;
    row->start_ticks = self.start_ticks;
    row->pid_namespace = self.pid_namespace;
    row->attached_ns = covei_os->wall();
    memset(row->command, 0, sizeof row->command);
    memcpy(row->command, self.command, strnlen(self.command, sizeof row->command - 1));
}

static void take_row(struct cove_segment *segment, uint32_t row, uint64_t word)
{
    describe_self(&segment->rows[row]);
    segment->row = row;
    segment->generation = COVEI_GENERATION_OF(word) + 1;
    /* release, edge A: whoever sees the row taken sees who took it. */
    atomic_store_explicit(&segment->states[row], COVEI_STATE_WORD(segment->generation, COVEI_ROW_ATTACHED),
                          memory_order_release);
}

/* We hold the byte of a row whose member died: recover it in our own name, then take it. */
static int inherit_row(struct cove_segment *segment, uint32_t row, uint64_t word)
{
    segment->row = row;
    segment->generation = COVEI_GENERATION_OF(word);
    struct covei_lane *worker = NULL;
    int result = covei_lane_get(&worker, segment);
    if (result == 0)
        result = covei_recover_inherited(worker);
    if (result == 0)
        take_row(segment, row, word);
    return result;
}

/* A lane that a free row has is nobody's: somebody scribbled, and whoever waited for a lock in its name would wait
 * for ever. */
static bool has_lanes(const struct cove_segment *segment, uint32_t row)
{
    uint32_t lanes = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    lanes = (uint32_t)covei_min(lanes, segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        if (atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == row + 1) /* the row's byte is ours */
            return true;
    return false;
}

static void read_process(const struct cove_segment *segment, uint32_t row, struct covei_process *process)
{
    const struct covei_row_shm *shm = &segment->rows[row];
    *process = (struct covei_process){
        .pid = shm->pid, .uid = shm->uid, .start_ticks = shm->start_ticks, .pid_namespace = shm->pid_namespace};
}

/* A lane of the row whose thread is there still: its robust mutex is locked, and the system has not marked it. */
static bool has_living_lane(const struct cove_segment *segment, uint32_t row)
{
    uint32_t lanes = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    lanes = (uint32_t)covei_min(lanes, segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        /* relaxed: the system is asked below. */
        if (atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == row + 1 &&
            covei_lane_life(&segment->lanes[i]) && !covei_lane_died(&segment->lanes[i]))
            return true;
    return false;
}

/* Its byte is free. A program that closes all its descriptors (closefrom, to become a daemon) loses its byte and
 * lives; nothing is taken from the living. The system marks a dead thread's robust mutex before it closes files, at
 * an exec too, so a lane that looks alive is dead only if its process is gone. (Not so in a copy of the bytes, whose
 * members are those of the original.) */
static bool lost_its_byte(const struct cove_segment *segment, uint32_t row)
{
    struct covei_process process;
    if (segment->header->inode != segment->region.inode || !has_living_lane(segment, row))
        return false;
    read_process(segment, row, &process);
    return covei_os->process_ended(&process) == -1;
}

/* Try to take one row: 1 taken, 0 somebody has it, or an error. A dead member's row only if `inherit`. */
static int try_row(struct cove_segment *segment, uint32_t row, bool inherit)
{
    /* acquire, edge R: what recovery did to the row is seen before it is used again. */
    uint64_t word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
    if (covei_row_used(word) && !inherit)
        return 0;
    int result = make_rows_ready(segment, row + 1);
    if (result < 0)
        return result;
    result = covei_os->lock_try(segment->alive_file, COVEI_BYTE_ALIVE(row), true);
    if (result == -EAGAIN)
        return 0;
    if (result < 0)
        return covei_error(result, "%s: locking a byte of the file failed: %s%s", segment->name, cove_strerror(result),
                           result == -ENOSYS || result == -EPERM || result == -EINVAL
                               ? "; a sandbox (seccomp) forbids F_OFD_SETLK, or the system is older than Linux 3.15"
                               : "");
    word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
    bool clean = !covei_row_used(word) && !has_lanes(segment, row);
    if (clean) {
        take_row(segment, row, word);
        return 1;
    }
    /* The recovery byte keeps out whoever found the member dead before we had its byte. */
    if (inherit && covei_sees_all(segment) && !(covei_row_used(word) && lost_its_byte(segment, row)) &&
        covei_os->lock_try(segment->lock_file, COVEI_BYTE_RECOVERY(row), true) == 0) {
        result = inherit_row(segment, row, word);
        (void)covei_os->lock_drop(segment->lock_file, COVEI_BYTE_RECOVERY(row));
        return result < 0 ? result : 1; /* on an error the caller's closing of the description drops the byte */
    }
    (void)covei_os->lock_drop(segment->alive_file, COVEI_BYTE_ALIVE(row));
    return 0;
}

int covei_roster_claim(struct cove_segment *segment)
{
    int result = 0;
    for (int inherit = 0; inherit < 2 && result == 0; inherit++)
        for (uint32_t row = 0; row < segment->max_members && result == 0; row++)
            result = try_row(segment, row, inherit != 0);
    if (result == 0)
        return covei_error(-EUSERS,
                           "%s: its roster of %" PRIu32 " members is full; close some, or create it with more "
                           "max_members",
                           segment->name, segment->max_members);
    return result < 0 ? result : 0;
}

void covei_roster_release(struct cove_segment *segment)
{
    /* release, edge R: pairs with the next member's look at the row. */
    atomic_store_explicit(&segment->states[segment->row], COVEI_STATE_WORD(segment->generation, COVEI_ROW_FREE),
                          memory_order_release);
    (void)covei_os->lock_drop(segment->alive_file, COVEI_BYTE_ALIVE(segment->row));
}

/* A lane of the row whose thread has ended hints that the whole process is ending; then /proc is worth asking. */
static bool has_dead_lane(const struct cove_segment *segment, uint32_t row)
{
    uint32_t lanes = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    lanes = (uint32_t)covei_min(lanes, segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        /* relaxed: a hint. */
        if (atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == row + 1 &&
            covei_lane_died(&segment->lanes[i]))
            return true;
    return false;
}

bool covei_row_dead(const struct cove_segment *segment, uint32_t row)
{
    bool own = !(segment->flags & COVE_READONLY) && row == segment->row;
    if (own || !covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)))
        return false;
    int held = covei_os->lock_held(segment->region.file, COVEI_BYTE_ALIVE(row));
    if (held == 0) /* it left or died; if it left, its state says so by now */
        return covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)) &&
               !lost_its_byte(segment, row);
    if (!has_dead_lane(segment, row))
        return false;
    struct covei_process process;
    read_process(segment, row, &process);
    return covei_os->process_ended(&process) == 1;
}

bool covei_member_gone(const struct cove_segment *segment, uint32_t row, uint32_t generation)
{
    if (row >= segment->max_members)
        return true;
    uint64_t word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
    return !covei_row_used(word) || COVEI_GENERATION_OF(word) != generation || covei_row_dead(segment, row);
}

static uint32_t count_lanes(const struct cove_segment *segment, uint32_t row)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < segment->max_lanes; i++)
        count += atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == row + 1; /* relaxed: for people */
    return count;
}

void covei_row_describe(const struct cove_segment *segment, uint32_t row, struct cove_member_info *info)
{
    *info = (struct cove_member_info){.row = row};
    if (row >= segment->max_members)
        return; /* a claim that somebody scribbled */
    uint64_t word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
    *info = (struct cove_member_info){.row = row, .generation = COVEI_GENERATION_OF(word)};
    if (row >= atomic_load_explicit(&segment->header->rows_ready, memory_order_acquire))
        return; /* a hole of the file, which must not be read */
    const struct covei_row_shm *shm = &segment->rows[row];
    info->pid = shm->pid;
    info->uid = shm->uid;
    info->start_ticks = shm->start_ticks;
    info->pid_namespace = shm->pid_namespace;
    info->attached_ns = shm->attached_ns;
    memcpy(info->command, shm->command, sizeof info->command - 1);
    for (char *c = info->command; *c; c++) /* it goes to terminals */
        if ((unsigned char)*c < ' ' || (unsigned char)*c == 127)
            *c = '?';
    info->lanes = count_lanes(segment, row);
    info->alive = !covei_row_dead(segment, row);
}

uint32_t covei_roster_others(const struct cove_segment *segment)
{
    uint32_t count = 0;
    for (uint32_t row = 0; row < segment->max_members; row++) {
        bool own = !(segment->flags & COVE_READONLY) && row == segment->row;
        uint64_t word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
        count += !own && COVEI_STATE_OF(word) == COVEI_ROW_ATTACHED && !covei_row_dead(segment, row);
    }
    return count;
}
