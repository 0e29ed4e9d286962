/* stream.c - one end of a stream: opening, claiming, closing.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Layout: stream_shm.h.
 *
 * I1  writer_claim and reader_claim name the member that has the end, by row and generation: one CAS takes an end,
 *     one store of 0 gives it back, so each end has one user or none.
 * I2  The header at the tail is 0, and so is the ring from there to the writer's `zeroed`. Records from head to the
 *     tail are whole.
 * I3  A session is what one writer wrote. It ends with END (it closed) or DIED (recovery found it dead), written
 *     before the claim goes.
 * I4  head <= cursor.position <= tail <= head + capacity - COVEI_STREAM_SPARE; END and DIED may use the spare but for
 *     the header behind them.
 * I5  Who goes says so to the other end (END, GONE), and wakes it, before its claim goes: so a kill in between is
 *     found by the claim.
 *
 * Edges   P  record's bytes, then header, release -> header, acquire, bytes
 *         H  reader's last look at bytes, then head, release -> head, acquire, bytes overwritten
 *         S  sleeper: bit, membarrier, look again, sleep | sender: store, look at the bit, wake (proof:
 *            stream_wait.c)
 * May run together   writer||reader yes   writer||writer no   reader||reader no   stat||any yes   recovery||the other
 * end yes
 * Progress: wait-free while there is room, and bytes.
 * Crash: a writer dead before P leaves bytes behind a header of 0, unseen; the next writer begins there. A reader
 * dead before the store of `turn` has consumed nothing. */
#include "channel/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CAPACITY (UINT64_C(1) << 20)
#define CLAIM_PATIENCE_NS INT64_C(2000000000) /* for somebody else who recovers the dead one that has the end */
#define RECOVERY_PATIENCE_NS INT64_C(10000000) /* for each lock of the library's in that */
#define NAP_NS INT64_C(200000)

int covei_stream_usable(const struct cove_stream *stream, enum cove_end end)
{
    if (!stream)
        return covei_error(-EINVAL, "the stream is NULL");
    if (!stream->segment)
        return covei_error(COVE_ECLOSED, "%s: the segment was closed under the stream", stream->name);
    int result = covei_segment_usable(stream->segment);
    if (result < 0)
        return result;
    if (stream->end != end)
        return covei_error(-EPERM, "%s: it was opened for %s; open the other end for that", stream->name,
                           stream->end == COVE_WRITER ? "writing" : "reading");
    return 0;
}

/* ---- claims */

static _Atomic uint64_t *claim_of(struct covei_stream_shm *shm, enum cove_end end)
{
    return end == COVE_WRITER ? &shm->writer_claim : &shm->reader_claim;
}

static int explain_taken(const struct cove_stream *stream, uint64_t claim)
{
    struct cove_member_info member = {0};
    if (COVEI_CLAIM_ROW(claim) < stream->segment->max_members)
        covei_row_describe(stream->segment, COVEI_CLAIM_ROW(claim), &member);
    return covei_error(-EBUSY, "%s: it has a %s already: %s (pid %" PRId32 "); a stream has one writer and one reader",
                       stream->name, stream->end == COVE_WRITER ? "writer" : "reader", member.command, member.pid);
}

/* Under the directory's lock: take the end, unless somebody has it. -EAGAIN: he is dead, and stands in `holder`. */
static int take_end(const struct covei_object *object, void *context)
{
    struct cove_stream *stream = context;
    cove_segment *segment = stream->segment;
    stream->shm = object->memory;
    stream->ring = (unsigned char *)object->memory + sizeof *stream->shm;
    stream->capacity = object->size_bytes - sizeof *stream->shm; /* `sound` has compared the two */
    stream->mask = stream->capacity - 1;
    uint64_t holder = 0;
    /* acquire: pairs with the release of who gave it back. */
    if (atomic_compare_exchange_strong_explicit(claim_of(stream->shm, stream->end), &holder, stream->claim,
                                                memory_order_acq_rel, memory_order_acquire))
        return 0;
    uint32_t row = COVEI_CLAIM_ROW(holder);
    stream->holder = holder;
    if (row == segment->row || !covei_member_gone(segment, row, COVEI_CLAIM_GENERATION(holder)))
        return explain_taken(stream, holder);
    return -EAGAIN;
}

static void give_end(struct cove_stream *stream)
{
    atomic_store_explicit(claim_of(stream->shm, stream->end), 0, memory_order_release); /* I1: what we did is seen */
}

/* The claim of a member that there is not: somebody scribbled. Under the directory's lock, as recovery is. */
static int bury_stray(struct cove_stream *stream, struct covei_lane *lane, uint32_t row, uint32_t generation,
                      int64_t patience_ns)
{
    struct covei_directory_shm *directory = covei_directory(stream->segment);
    int result = covei_lock_take(lane, &directory->lock, patience_ns);
    if (result < 0)
        return result;
    covei_type_stream.recover(stream->segment, stream->shm, sizeof *stream->shm + stream->capacity, row, generation);
    covei_lock_drop(lane, &directory->lock);
    return 1;
}

int covei_stream_bury(struct cove_stream *stream, struct covei_lane *lane, uint64_t claim, int64_t patience_ns)
{
    cove_segment *segment = stream->segment;
    uint32_t row = COVEI_CLAIM_ROW(claim), generation = COVEI_CLAIM_GENERATION(claim);
    if (claim == 0 || !covei_member_gone(segment, row, generation))
        return 0;
    int result = covei_recover_row(lane, row, patience_ns);
    if (result != 0)
        return result;
    uint64_t word = row < segment->max_members ? atomic_load_explicit(&segment->states[row], memory_order_acquire) : 0;
    if (covei_row_used(word) && COVEI_GENERATION_OF(word) == generation)
        return 0; /* somebody else is recovering it */
    return bury_stray(stream, lane, row, generation, patience_ns);
}

/* ---- beginning */

static int begin_writing(struct cove_stream *stream)
{
    struct covei_stream_shm *shm = stream->shm;
    uint64_t last = 0, bytes = 0;
    stream->session = atomic_load_explicit(&shm->session, memory_order_relaxed) + 1; /* relaxed: the claim is ours */
    atomic_store_explicit(&shm->session, stream->session, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire); /* edge H */
    if (!covei_stream_find_tail(shm, head, &stream->tail, &last, &bytes))
        return covei_error(COVE_ECORRUPT, "%s: its ring makes no sense: somebody wrote over it; remove it (cove rm)",
                           stream->name);
    stream->zeroed = stream->tail + COVEI_STREAM_HEADER; /* I2 */
    stream->head_seen = head;
    /* A reader that left before we came is no news, also where its departure is only now being finished. */
    if (atomic_load_explicit(&shm->reader_claim, memory_order_acquire) == 0)
        stream->told_reader = atomic_load_explicit(&shm->reader_session, memory_order_relaxed);
    atomic_fetch_and_explicit(&shm->to_writer, ~COVEI_STREAM_GONE, memory_order_relaxed);
    atomic_store_explicit(&shm->tail, stream->tail, memory_order_relaxed); /* for people */
    return 0;
}

static int begin_reading(struct cove_stream *stream)
{
    struct covei_stream_shm *shm = stream->shm;
    uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire);
    stream->at = shm->cursor[atomic_load_explicit(&shm->turn, memory_order_acquire) & 1];
    stream->published = head;
    /* relaxed: the claim is ours. */
    stream->session = atomic_load_explicit(&shm->reader_session, memory_order_relaxed) + 1;
    atomic_store_explicit(&shm->reader_session, stream->session, memory_order_relaxed);
    if (stream->at.position % 8 != 0 || stream->at.position < head || stream->at.position - head > stream->capacity ||
        stream->at.skip > stream->capacity)
        return covei_error(COVE_ECORRUPT,
                           "%s: its reader's place makes no sense: somebody wrote over it; remove it (cove rm)",
                           stream->name);
    return 0;
}

/* The end is ours. */
static int begin(struct cove_stream *stream, struct covei_lane *lane)
{
    bool writer = stream->end == COVE_WRITER;
    /* relaxed: hints; the other end looks at them when it waits. */
    atomic_store_explicit(writer ? &stream->shm->writer_lane : &stream->shm->reader_lane, lane->id - 1,
                          memory_order_relaxed);
    covei_stream_note_cpu(stream);
    int result = writer ? begin_writing(stream) : begin_reading(stream);
    if (result < 0)
        give_end(stream);
    return result;
}

/* ---- ending */

static void leave_writing(struct cove_stream *stream, enum covei_departure how)
{
    struct covei_stream_shm *shm = stream->shm;
    if (how == COVEI_CLOSED)
        covei_stream_end(stream, COVEI_STREAM_END, 0);
    else {
        covei_stream_depart(&shm->writer_departed, stream->segment, stream->segment->row, stream->session, how);
        covei_stream_end(stream, COVEI_STREAM_DIED, shm->writer_departed.pid);
    }
    covei_stream_wake(&shm->to_writer);
}

static void leave_reading(struct cove_stream *stream, enum covei_departure how)
{
    struct covei_stream_shm *shm = stream->shm;
    covei_stream_publish(stream);
    covei_stream_depart(&shm->reader_departed, stream->segment, stream->segment->row, stream->session, how);
    /* release: the note was written before. */
    atomic_fetch_or_explicit(&shm->to_writer, COVEI_STREAM_GONE, memory_order_release);
    covei_stream_wake(&shm->to_reader);
}

/* I5. */
static void leave(struct cove_stream *stream, enum covei_departure how)
{
    if (stream->end == COVE_WRITER)
        leave_writing(stream, how);
    else
        leave_reading(stream, how);
    covei_order();
    give_end(stream);
}

/* The segment is closing under the stream. */
static void close_under(struct covei_child *child)
{
    struct cove_stream *stream = (struct cove_stream *)(void *)child; /* its first member */
    leave(stream, COVEI_CLOSED);
    stream->segment = NULL;
}

static void forget_under(struct covei_child *child)
{
    ((struct cove_stream *)(void *)child)->segment = NULL;
}

static int close_end(cove_stream *stream, enum covei_departure how)
{
    if (!stream)
        return 0;
    cove_segment *segment = stream->segment;
    bool owns = stream->owns_segment;
    int result = segment ? covei_segment_usable(segment) : 0;
    if (segment && result == 0) {
        covei_child_remove(segment, &stream->child);
        leave(stream, how);
        struct covei_lane *lane = NULL;
        if (covei_lane_get(&lane, segment) == 0)
            covei_recover_debts(lane);
    }
    bool lost = result == COVE_EFORKED || result == COVE_ETRUNCATED; /* the parent's; or private memory by now */
    if (lost)
        covei_child_drop(segment, &stream->child);
    free(stream);
    if (segment && owns && (result == 0 || lost))
        return cove_close(segment); /* in a forked child: its copy of the parent's handle */
    return lost ? 0 : result;
}

int cove_stream_close(cove_stream *stream)
{
    return close_end(stream, COVEI_CLOSED);
}

int cove_stream_abandon(cove_stream *stream)
{
    return close_end(stream, COVEI_GAVE_UP);
}

/* ---- opening */

static int open_object(struct cove_stream *stream, struct covei_lane *lane, const char *name,
                       const struct cove_stream_options *options)
{
    uint64_t capacity = options->capacity_bytes ? options->capacity_bytes : DEFAULT_CAPACITY;
    struct covei_object_wish wish = {.name = name,
                                     .type = &covei_type_stream,
                                     .type_name = "",
                                     .size_bytes = sizeof(struct covei_stream_shm) + capacity,
                                     .parameters = &capacity,
                                     .flags = options->flags & (COVE_EXISTING | COVE_EXCLUSIVE),
                                     .take = take_end,
                                     .context = stream};
    struct covei_object object;
    stream->claim = covei_claim_word(stream->segment->row, stream->segment->generation);
    return covei_object_open(lane, &wish, &object);
}

/* Where a dead member has the end it is recovered first; if somebody else is at that, we wait for him. */
static int open_and_claim(struct cove_stream *stream, struct covei_lane *lane, const char *name,
                          const struct cove_stream_options *options)
{
    int64_t deadline = covei_wait_begin(CLAIM_PATIENCE_NS);
    for (;;) {
        int result = open_object(stream, lane, name, options);
        if (result != -EAGAIN)
            return result;
        result = covei_stream_bury(stream, lane, stream->holder, RECOVERY_PATIENCE_NS);
        if (result <= 0 && covei_wait_left(deadline) == 0)
            return explain_taken(stream, stream->holder);
        if (result <= 0)
            covei_os->nap(NAP_NS);
    }
}

static int open_end(struct cove_stream *stream, const char *name, const struct cove_stream_options *options)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, stream->segment);
    if (result < 0)
        return result;
    int opened = open_and_claim(stream, lane, name, options);
    if (opened < 0)
        return opened;
    stream->child.close = close_under;
    stream->child.forget = forget_under;
    result = begin(stream, lane);
    if (result < 0)
        return result;
    covei_child_add(stream->segment, &stream->child);
    covei_recover_debts(lane);
    return opened;
}

/* Before anything is made. */
static int check_request(cove_stream **out, const char *name, enum cove_end end,
                         const struct cove_stream_options *options)
{
    const uint32_t known = COVE_EXISTING | COVE_EXCLUSIVE | COVE_STREAM_STAY | COVE_STREAM_NOSPIN | COVE_STREAM_SPIN;
    uint64_t capacity = options->capacity_bytes ? options->capacity_bytes : DEFAULT_CAPACITY;
    if (!out || (end != COVE_WRITER && end != COVE_READER) || (options->flags & ~known) != 0)
        return covei_error(
            -EINVAL, "%s: a stream's end is COVE_WRITER or COVE_READER, its flags are those of cove/stream.h", name);
    if (capacity < COVEI_STREAM_MIN || capacity > COVEI_STREAM_MAX || (capacity & (capacity - 1)) != 0)
        return covei_error(
            -EINVAL, "%s: a capacity of %" PRIu64 " bytes is impossible; give a power of two from 4096 to 2147483648",
            name, capacity);
    return 0;
}

static const struct cove_stream_options default_options;

int cove_stream_open_in(cove_stream **out, cove_segment *segment, const char *name, enum cove_end end,
                        const struct cove_stream_options *given)
{
    const struct cove_stream_options *options = given ? given : &default_options;
    int result = covei_segment_usable(segment);
    if (result == 0)
        result = check_request(out, segment->name, end, options);
    if (result < 0)
        return result;
    struct cove_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return covei_error(-ENOMEM, "%s: no memory for a handle", segment->name);
    stream->segment = segment;
    stream->end = end;
    stream->flags = options->flags;
    (void)snprintf(stream->name, sizeof stream->name, "%s%s%.*s", segment->name,
                   strchr(segment->name, '/') ? "//" : "/", COVEI_NAME_MAX, name ? name : "");
    result = open_end(stream, name, options);
    if (result < 0) {
        free(stream);
        return result;
    }
    *out = stream;
    return result;
}

int cove_stream_open(cove_stream **out, const char *name, enum cove_end end, const struct cove_stream_options *options)
{
    char segment_name[COVEI_FULL_NAME_MAX + 1];
    const char *object = covei_name_split(segment_name, name);
    if (!object)
        return COVE_ENAME;
    int result = covei_name_check_object(object);
    if (result == 0)
        result = check_request(out, segment_name, end, options ? options : &default_options);
    if (result < 0)
        return result;
    cove_segment *segment = NULL;
    result = cove_open(&segment, segment_name,
                       &(struct cove_options){.flags = options ? options->flags & COVE_EXISTING : 0});
    if (result < 0)
        return result;
    result = cove_stream_open_in(out, segment, object, end, options);
    if (result < 0)
        (void)cove_close(segment);
    else
        (*out)->owns_segment = true;
    return result;
}

int cove_stream_stat(cove_stream *stream, struct cove_stream_info *info)
{
    int result = covei_stream_usable(stream, stream ? stream->end : COVE_READER);
    if (result < 0)
        return result;
    const struct covei_stream_shm *shm = stream->shm;
    struct covei_cursor_shm cursor;
    covei_stream_read_cursor(shm, &cursor);
    *info = (struct cove_stream_info){.capacity_bytes = stream->capacity,
                                      .bytes_read = cursor.bytes,
                                      .bytes_unread = covei_stream_unread(shm, &cursor)};
    struct cove_member_info member;
    uint64_t writer = atomic_load_explicit(&shm->writer_claim, memory_order_acquire);
    if (writer != 0 && COVEI_CLAIM_ROW(writer) < stream->segment->max_members) {
        covei_row_describe(stream->segment, COVEI_CLAIM_ROW(writer), &member);
        info->writer_pid = member.pid;
        memcpy(info->writer_command, member.command, sizeof info->writer_command);
    }
    uint64_t reader = atomic_load_explicit(&shm->reader_claim, memory_order_acquire);
    if (reader != 0 && COVEI_CLAIM_ROW(reader) < stream->segment->max_members) {
        covei_row_describe(stream->segment, COVEI_CLAIM_ROW(reader), &member);
        info->reader_pid = member.pid;
        memcpy(info->reader_command, member.command, sizeof info->reader_command);
    }
    return 0;
}
