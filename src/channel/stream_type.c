/* stream_type.c - the stream in the table of types: format, check, recovery, description.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Recovery of a dead writer: note who it was, append DIED behind its last committed record (unless its session has
 * ended already), wake the reader, free the claim. Of a dead reader: note who it was, tell the writer (GONE), wake
 * it, free the claim. Each step can be repeated: DIED is found standing, notes and bits are the same, waking harms
 * nobody; the claim goes last (I5 of stream.c).
 *
 * The other end may be alive and at work. A living reader changes only its cursor and the head, never the ring; where
 * it has moved beyond the head that the walk began at, the records there are still whole, since the only one who
 * could overwrite them is dead. */
#include "channel/stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const _Atomic uint64_t *header_at(const struct covei_stream_shm *shm, uint64_t capacity, uint64_t position)
{
    const unsigned char *ring = (const unsigned char *)shm + sizeof *shm;
    return (const _Atomic uint64_t *)(const void *)(ring + (position & (capacity - 1)));
}

bool covei_stream_find_tail(const struct covei_stream_shm *shm, uint64_t from, uint64_t *tail, uint64_t *last,
                            uint64_t *bytes)
{
    uint64_t capacity = shm->capacity;
    *tail = from;
    *last = *bytes = 0;
    while (*tail - from < capacity) {
        uint64_t word = atomic_load_explicit(header_at(shm, capacity, *tail), memory_order_acquire); /* edge P */
        if (word == 0)
            return true;
        uint64_t record = covei_record_bytes(word, *tail, capacity);
        if (record == 0)
            return false;
        *last = word;
        *bytes += COVEI_HEADER_KIND(word) == COVEI_STREAM_DATA ? COVEI_HEADER_LENGTH(word) : 0;
        *tail += record;
    }
    return false;
}

uint64_t covei_stream_unread(const struct covei_stream_shm *shm, const struct covei_cursor_shm *cursor)
{
    uint64_t tail = 0, last = 0, bytes = 0;
    if (cursor->position % 8 == 0 && covei_stream_find_tail(shm, cursor->position, &tail, &last, &bytes))
        return bytes > cursor->skip ? bytes - cursor->skip : 0;
    tail = atomic_load_explicit(&shm->tail, memory_order_relaxed); /* for people */
    return tail > cursor->position ? covei_min(tail - cursor->position, shm->capacity) : 0;
}

void covei_stream_depart(struct covei_departed_shm *departed, const struct cove_segment *segment, uint32_t row,
                         uint32_t session, enum covei_departure how)
{
    struct cove_member_info member;
    covei_row_describe(segment, row, &member);
    departed->session = session;
    departed->how = how;
    departed->pid = member.pid;
    memcpy(departed->command, member.command, sizeof departed->command);
    covei_order();
}

/* ---- the table's functions */

static void format(struct cove_segment *segment, void *object, uint64_t size_bytes, const void *parameters)
{
    (void)segment;
    (void)size_bytes;
    struct covei_stream_shm *shm = object;
    shm->capacity = *(const uint64_t *)parameters; /* all else is 0, the ring too */
}

static bool sound(const struct cove_segment *segment, const void *object, uint64_t size_bytes)
{
    (void)segment;
    if (size_bytes < sizeof(struct covei_stream_shm) + COVEI_STREAM_MIN)
        return false;
    uint64_t capacity = ((const struct covei_stream_shm *)object)->capacity;
    return capacity == size_bytes - sizeof(struct covei_stream_shm) && (capacity & (capacity - 1)) == 0 &&
           capacity <= COVEI_STREAM_MAX;
}

/* Append DIED, unless the dead writer's session has its end already. In the dead writer's place: it is the only
 * writer there is. */
static void append_died(struct covei_stream_shm *shm, int32_t pid)
{
    uint64_t capacity = shm->capacity; /* once: `sound` has looked at it */
    uint64_t tail = 0, last = 0, bytes = 0;
    uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire);
    uint32_t session = atomic_load_explicit(&shm->session, memory_order_acquire);
    if (head % 8 != 0 || !covei_stream_find_tail(shm, head, &tail, &last, &bytes))
        return; /* somebody scribbled; the reader will find it */
    uint32_t kind = COVEI_HEADER_KIND(last);
    if ((kind == COVEI_STREAM_END || kind == COVEI_STREAM_DIED) && COVEI_HEADER_SESSION(last) == (session & 0xffff))
        return;
    /* acquire: stored before the head moved past the record that told it, which is why the walk may not have found
     * it. */
    if (atomic_load_explicit(&shm->told, memory_order_acquire) == session)
        return;
    if (tail + 2 * COVEI_STREAM_HEADER > head + capacity)
        return; /* a session without a byte, in a full ring */
    _Atomic uint64_t *next = (_Atomic uint64_t *)(uintptr_t)header_at(shm, capacity, tail + COVEI_STREAM_HEADER);
    _Atomic uint64_t *here = (_Atomic uint64_t *)(uintptr_t)header_at(shm, capacity, tail);
    atomic_store_explicit(next, 0, memory_order_relaxed); /* ordered by the release: I2 of stream.c */
    atomic_store_explicit(here, covei_header_word((uint32_t)pid, COVEI_STREAM_DIED, session),
                          memory_order_release); /* edge P */
    atomic_store_explicit(&shm->tail, tail + COVEI_STREAM_HEADER, memory_order_relaxed); /* for people */
}

static void recover_writer(struct cove_segment *segment, struct covei_stream_shm *shm, uint32_t row)
{
    covei_stream_depart(&shm->writer_departed, segment, row, atomic_load_explicit(&shm->session, memory_order_acquire),
                        COVEI_DIED);
    append_died(shm, shm->writer_departed.pid);
}

static void recover_reader(struct cove_segment *segment, struct covei_stream_shm *shm, uint32_t row)
{
    covei_stream_depart(&shm->reader_departed, segment, row,
                        atomic_load_explicit(&shm->reader_session, memory_order_acquire), COVEI_DIED);
    /* release: the note was written before. */
    atomic_fetch_or_explicit(&shm->to_writer, COVEI_STREAM_GONE, memory_order_release);
}

/* Wake whoever may sleep on the word, whether or not it says so: the dead may have cleared the bit and died before it
 * woke anybody. */
static void wake_anyway(_Atomic uint32_t *word)
{
    atomic_fetch_and_explicit(word, ~COVEI_STREAM_SLEEPS, memory_order_acq_rel);
    (void)covei_os->wake((void *)word, INT32_MAX);
}

static void recover(struct cove_segment *segment, void *object, uint64_t size_bytes, uint32_t row, uint32_t generation)
{
    (void)size_bytes;
    struct covei_stream_shm *shm = object;
    uint64_t claim = covei_claim_word(row, generation);
    if (atomic_load_explicit(&shm->writer_claim, memory_order_acquire) == claim) {
        recover_writer(segment, shm, row);
        atomic_store_explicit(&shm->writer_busy, 0, memory_order_relaxed); /* ordered by the claim's CAS */
        wake_anyway(&shm->to_writer);
        (void)atomic_compare_exchange_strong_explicit(&shm->writer_claim, &claim, 0, memory_order_acq_rel,
                                                      memory_order_relaxed);
        claim = covei_claim_word(row, generation);
    }
    if (atomic_load_explicit(&shm->reader_claim, memory_order_acquire) == claim) {
        recover_reader(segment, shm, row);
        atomic_store_explicit(&shm->reader_busy, 0, memory_order_relaxed); /* ordered by the claim's CAS */
        wake_anyway(&shm->to_reader);
        (void)atomic_compare_exchange_strong_explicit(&shm->reader_claim, &claim, 0, memory_order_acq_rel,
                                                      memory_order_relaxed);
    }
}

static bool claimed_by_living(const struct cove_segment *segment, uint64_t claim, struct cove_member_info *member)
{
    uint32_t row = COVEI_CLAIM_ROW(claim);
    if (claim == 0 || covei_member_gone(segment, row, COVEI_CLAIM_GENERATION(claim)))
        return false;
    covei_row_describe(segment, row, member);
    return true;
}

/* What a dead end was in the middle of is for recovery, in a copy as well. */
static bool busy(const struct cove_segment *segment, const void *object)
{
    const struct covei_stream_shm *shm = object;
    struct cove_member_info member;
    return (atomic_load_explicit(&shm->writer_busy, memory_order_acquire) != 0 &&
            claimed_by_living(segment, atomic_load_explicit(&shm->writer_claim, memory_order_acquire), &member)) ||
           (atomic_load_explicit(&shm->reader_busy, memory_order_acquire) != 0 &&
            claimed_by_living(segment, atomic_load_explicit(&shm->reader_claim, memory_order_acquire), &member));
}

static bool in_use(struct cove_segment *segment, void *object, uint64_t size_bytes, struct cove_member_info *member)
{
    (void)size_bytes;
    const struct covei_stream_shm *shm = object;
    return claimed_by_living(segment, atomic_load_explicit(&shm->writer_claim, memory_order_acquire), member) ||
           claimed_by_living(segment, atomic_load_explicit(&shm->reader_claim, memory_order_acquire), member);
}

static void describe_claim(const struct cove_segment *segment, uint64_t claim, char text[64])
{
    struct cove_member_info member;
    if (claim == 0 || COVEI_CLAIM_ROW(claim) >= segment->max_members) {
        (void)snprintf(text, 64, "none");
        return;
    }
    covei_row_describe(segment, COVEI_CLAIM_ROW(claim), &member);
    bool dead = covei_member_gone(segment, COVEI_CLAIM_ROW(claim), COVEI_CLAIM_GENERATION(claim));
    (void)snprintf(text, 64, "%.31s(%" PRId32 "%s)", member.command, member.pid, dead ? ",dead" : "");
}

static void describe(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                     size_t text_bytes)
{
    (void)size_bytes;
    const struct covei_stream_shm *shm = object;
    struct covei_cursor_shm cursor;
    char writer[64], reader[64];
    covei_stream_read_cursor(shm, &cursor);
    describe_claim(segment, atomic_load_explicit(&shm->writer_claim, memory_order_acquire), writer);
    describe_claim(segment, atomic_load_explicit(&shm->reader_claim, memory_order_acquire), reader);
    (void)snprintf(text, text_bytes, "capacity=%" PRIu64 " unread=%" PRIu64 " read=%" PRIu64 " writer=%s reader=%s",
                   shm->capacity, covei_stream_unread(shm, &cursor), cursor.bytes, writer, reader);
}

static void check_claim(const struct cove_segment *segment, const char *name, const char *which, uint64_t claim,
                        struct covei_findings *findings)
{
    uint32_t row = COVEI_CLAIM_ROW(claim);
    if (claim == 0)
        return;
    uint64_t word = row < segment->max_members ? atomic_load_explicit(&segment->states[row], memory_order_acquire) : 0;
    if (!covei_row_used(word) || COVEI_GENERATION_OF(word) != COVEI_CLAIM_GENERATION(claim))
        covei_found(findings, "%s: its %s is a member that there is not", name, which);
}

/* Walk the ring from the head: does a record begin at the reader's place, and where does the last one end? False
 * where the ring makes no sense. */
static bool walk_ring(const struct covei_stream_shm *shm, uint64_t head, uint64_t position, bool *passes,
                      uint64_t *tail)
{
    uint64_t capacity = shm->capacity;
    *passes = false;
    for (*tail = head; *tail - head <= capacity;) {
        *passes = *passes || *tail == position;
        uint64_t word = atomic_load_explicit(header_at(shm, capacity, *tail), memory_order_acquire); /* edge P */
        uint64_t record = word ? covei_record_bytes(word, *tail, capacity) : 0;
        if (word == 0)
            return true;
        if (record == 0)
            return false;
        *tail += record;
    }
    return false;
}

/* The head is looked at twice: where a living reader moved it meanwhile, what was seen in between says nothing. */
static void check_ring(const char *name, const struct covei_stream_shm *shm, struct covei_findings *findings)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire), tail = 0;
        uint64_t told_tail = atomic_load_explicit(&shm->tail, memory_order_acquire);
        struct covei_cursor_shm cursor;
        bool passes = false;
        covei_stream_read_cursor(shm, &cursor);
        bool sane = head % 8 == 0 && walk_ring(shm, head, cursor.position, &passes, &tail);
        if (atomic_load_explicit(&shm->head, memory_order_acquire) != head)
            continue;
        if (!sane)
            covei_found(findings, "%s: its ring has a record that makes no sense", name);
        else if (!passes)
            covei_found(findings, "%s: its reader is at %" PRIu64 ", where no record begins", name, cursor.position);
        else if (told_tail > tail)
            covei_found(findings, "%s: its writer was at %" PRIu64 ", but the records end at %" PRIu64, name, told_tail,
                        tail);
        if (cursor.begun > cursor.bytes || cursor.skip > shm->capacity)
            covei_found(findings, "%s: its reader has consumed impossible numbers of bytes", name);
        return;
    }
}

static void check(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                  struct covei_findings *findings)
{
    (void)size_bytes;
    const struct covei_stream_shm *shm = object;
    check_claim(segment, name, "writer", atomic_load_explicit(&shm->writer_claim, memory_order_acquire), findings);
    check_claim(segment, name, "reader", atomic_load_explicit(&shm->reader_claim, memory_order_acquire), findings);
    check_ring(name, shm, findings);
    if ((atomic_load_explicit(&shm->to_writer, memory_order_acquire) & ~(COVEI_STREAM_SLEEPS | COVEI_STREAM_GONE)) ||
        (atomic_load_explicit(&shm->to_reader, memory_order_acquire) & ~COVEI_STREAM_SLEEPS))
        covei_found(findings, "%s: impossible bits in its words for waking", name);
}

const struct covei_type covei_type_stream = {
    .id = COVEI_TYPE_STREAM,
    .name = "stream",
    .alignment = 64,
    .format = format,
    .sound = sound,
    .check = check,
    .recover = recover,
    .busy = busy,
    .describe = describe,
    .in_use = in_use,
};
