/* types.c - locks and meeting points in the table of types: format, check, who uses them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * None of them has a `recover`: what a dead thread held of them stands in its lane, as the name of a lock word or as
 * a mark, wherever they lie; recovery goes by that (segment/recovery.c, marks.c), also for those inside users'
 * structs, which no directory knows. What does not stand there - an event's version, a counter's value, a plain
 * permit - is changed by one atomic step, which a death leaves done or not done. Nor has one a `busy`, likewise.
 *
 * The checks look at words that the living may be changing. A finding is what stands in one word, read once, or what
 * stands still for a while: a mark that is set a moment before its permit is taken is none. */
#include "sync/types.h"

#include <inttypes.h>

#define LOOKS 20 /* until what is suspicious is a finding */
#define BETWEEN_LOOKS_NS INT64_C(1000000)

static uint64_t load64(const void *word)
{
    return atomic_load_explicit((const _Atomic uint64_t *)word, memory_order_acquire);
}

static uint32_t lane_count(const struct cove_segment *segment)
{
    return (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                               segment->max_lanes);
}

/* ---- format */

static void format_mutex(struct cove_segment *segment, void *object, uint64_t size_bytes, const void *parameters)
{
    (void)segment;
    (void)size_bytes;
    cove_mutex *mutex = object;
    const struct cove_sync_options *options = parameters;
    mutex->word = options->fair ? COVEI_LOCK_FAIR : 0;
}

static void format_semaphore(struct cove_segment *segment, void *object, uint64_t size_bytes, const void *parameters)
{
    (void)segment;
    (void)size_bytes;
    cove_semaphore *semaphore = object;
    const struct cove_sync_options *options = parameters;
    semaphore->word = options->permits;
}

static void format_counter(struct cove_segment *segment, void *object, uint64_t size_bytes, const void *parameters)
{
    (void)segment;
    (void)size_bytes;
    cove_counter *counter = object;
    const struct cove_sync_options *options = parameters;
    counter->value = options->value;
    counter->lines = options->lines;
}

/* ---- sound: as large as the struct */

#define SOUND(noun)                                                                                       \
    static bool sound_##noun(const struct cove_segment *segment, const void *object, uint64_t size_bytes) \
    {                                                                                                     \
        (void)segment;                                                                                    \
        (void)object;                                                                                     \
        return size_bytes == sizeof(cove_##noun);                                                         \
    }

SOUND(mutex)
SOUND(rwlock)
SOUND(semaphore)
SOUND(event)
SOUND(condition)
SOUND(barrier)
SOUND(once)

static bool sound_counter(const struct cove_segment *segment, const void *object, uint64_t size_bytes)
{
    (void)segment;
    if (size_bytes < sizeof(cove_counter))
        return false;
    uint32_t lines = ((const cove_counter *)object)->lines;
    return lines <= COVEI_COUNTER_LINES_MAX && size_bytes == covei_counter_bytes(lines);
}

/* ---- check */

static void check_word(const struct cove_segment *segment, const char *name, const void *word, bool may_be_fair,
                       struct covei_findings *findings)
{
    uint64_t value = load64(word);
    covei_lock_check(segment, name, word, findings);
    if (value & COVEI_LOCK_OWNER && value & COVEI_LOCK_RECOVERED)
        covei_found(findings, "%s: it is held, and says that nobody was told yet of its last holder's death", name);
    if (value & COVEI_LOCK_FAIR && !may_be_fair)
        covei_found(findings, "%s: it is marked as a fair lock, which there is of mutexes only", name);
}

static void check_mutex(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                        struct covei_findings *findings)
{
    (void)size_bytes;
    check_word(segment, name, &((const cove_mutex *)object)->word, true, findings);
}

/* Readers' marks while a writer has the word are no finding: he waits for them, or they are about to go. */
static void check_rwlock(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                         struct covei_findings *findings)
{
    (void)size_bytes;
    const cove_rwlock *rwlock = object;
    check_word(segment, name, &rwlock->word, false, findings);
    if (rwlock->reserved != 0)
        covei_found(findings, "%s: what is reserved in it is not 0", name);
}

static void check_once(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                       struct covei_findings *findings)
{
    (void)size_bytes;
    const cove_once *once = object;
    uint64_t done = load64(&once->done);
    check_word(segment, name, &once->word, false, findings);
    if (done > 1)
        covei_found(findings, "%s: it is neither done nor not done, but %" PRIu64, name, done);
}

static void check_event(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                        struct covei_findings *findings)
{
    (void)segment;
    (void)size_bytes;
    if (((const cove_event *)object)->reserved != 0)
        covei_found(findings, "%s: what is reserved in it is not 0", name);
}

static bool lane_lives(const struct cove_segment *segment, uint32_t index)
{
    uint32_t owner = atomic_load_explicit(&segment->owners[index], memory_order_acquire);
    return owner != 0 && owner <= segment->max_members && !covei_lane_died(&segment->lanes[index]) &&
           !covei_row_dead(segment, owner - 1);
}

static uint32_t count_in_lane(const struct cove_segment *segment, uint32_t index, uint64_t held)
{
    const struct covei_lane_shm *shm = &segment->lanes[index];
    uint32_t count = 0;
    if (atomic_load_explicit(&shm->marks, memory_order_acquire) == 0)
        return 0;
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        count += atomic_load_explicit(&shm->held[place], memory_order_acquire) == held;
    return count;
}

/* A dead one's last mark may be one that never got its permit; recovery takes it. */
static bool owns_too_much(const struct cove_segment *segment, const cove_semaphore *semaphore, uint32_t *owned,
                          uint32_t *permits)
{
    uint64_t held = COVEI_HELD(COVEI_HELD_PERMIT, covei_offset(segment, semaphore));
    *permits = (uint32_t)(load64(&semaphore->word) & COVE_SEMAPHORE_MAX);
    *owned = 0;
    for (uint32_t i = 0, lanes = lane_count(segment); i < lanes; i++) {
        uint32_t count = count_in_lane(segment, i, held);
        *owned += count > 0 && lane_lives(segment, i) ? count : 0;
    }
    return *owned > *permits;
}

static void check_semaphore(const struct cove_segment *segment, const char *name, const void *object,
                            uint64_t size_bytes, struct covei_findings *findings)
{
    (void)size_bytes;
    uint32_t owned = 0, permits = 0;
    for (int look = 0; owns_too_much(segment, object, &owned, &permits); look++) {
        if (look == LOOKS) {
            covei_found(findings, "%s: %" PRIu32 " of its permits are owned, but it has %" PRIu32, name, owned,
                        permits);
            return;
        }
        /* with the check's locks: nearly never, as a mark without a permit is rare */
        covei_os->nap(BETWEEN_LOOKS_NS);
    }
}

static bool has_too_many(const struct cove_segment *segment, const cove_barrier *barrier, uint32_t *arrived,
                         uint32_t *parties)
{
    uint64_t word = load64(&barrier->word);
    uint64_t held = COVEI_HELD(COVEI_HELD_PARTY, covei_offset(segment, barrier)) | (uint64_t)COVEI_BARRIER_EPOCH(word)
                                                                                       << 48;
    *arrived = COVEI_BARRIER_ARRIVED(word);
    *parties = 0;
    if (word & COVEI_BARRIER_BROKEN)
        return false; /* who died has no mark any more, but is still counted */
    for (uint32_t i = 0, lanes = lane_count(segment); i < lanes; i++)
        *parties += count_in_lane(segment, i, held);
    return *arrived > *parties;
}

static void check_barrier(const struct cove_segment *segment, const char *name, const void *object, uint64_t size_bytes,
                          struct covei_findings *findings)
{
    (void)size_bytes;
    const cove_barrier *barrier = object;
    /* acquire: who arrives has fixed the number before. */
    uint32_t arrived = COVEI_BARRIER_ARRIVED(load64(&barrier->word)), marks = 0;
    uint32_t parties = atomic_load_explicit((const _Atomic uint32_t *)(const void *)&barrier->parties,
                                            memory_order_relaxed);
    if (parties > COVE_BARRIER_MAX)
        covei_found(findings, "%s: it is for %" PRIu32 " parties, of at most %d", name, parties, COVE_BARRIER_MAX);
    else if (arrived > 0 && arrived >= parties)
        covei_found(findings, "%s: %" PRIu32 " parties wait for each other, but it is for %" PRIu32, name, arrived,
                    parties);
    for (int look = 0; has_too_many(segment, barrier, &arrived, &marks); look++) {
        if (look == LOOKS) {
            covei_found(findings, "%s: %" PRIu32 " parties have arrived, but only %" PRIu32 " threads are parties",
                        name, arrived, marks);
            return;
        }
        covei_os->nap(BETWEEN_LOOKS_NS); /* as above */
    }
}

/* ---- who uses it */

/* Does that lane hold it, in whatever way, or wait for it? */
static bool uses(const struct cove_segment *segment, uint32_t index, uint64_t offset)
{
    const struct covei_lane_shm *shm = &segment->lanes[index];
    if (atomic_load_explicit(&segment->owners[index], memory_order_acquire) == 0)
        return false;
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        if (COVEI_HELD_OFFSET(atomic_load_explicit(&shm->held[place], memory_order_acquire)) == offset)
            return true;
    return COVEI_HELD_OFFSET(atomic_load_explicit(&shm->waits_for, memory_order_acquire)) == offset;
}

/* A dead one's locks are freed first: its lane must not name memory that is somebody else's by then. */
static bool in_use(struct cove_segment *segment, void *object, uint64_t size_bytes, struct cove_member_info *member)
{
    (void)size_bytes;
    struct covei_lane *lane = NULL;
    uint64_t offset = covei_offset(segment, object);
    bool can_recover = covei_lane_get(&lane, segment) == 0;
    for (uint32_t i = 0, lanes = lane_count(segment); i < lanes; i++) {
        if (!uses(segment, i, offset) || (can_recover && covei_recover_locks(lane, i)))
            continue;
        uint32_t owner = atomic_load_explicit(&segment->owners[i], memory_order_acquire);
        if (owner == 0 || owner > segment->max_members)
            continue; /* it has gone meanwhile */
        covei_row_describe(segment, owner - 1, member);
        return true;
    }
    return false;
}

/* ---- the rows */

const struct covei_type covei_type_mutex = {
    .id = COVEI_TYPE_MUTEX,
    .name = "mutex",
    .alignment = COVEI_CACHE_LINE,
    .format = format_mutex,
    .sound = sound_mutex,
    .check = check_mutex,
    .describe = covei_describe_mutex,
    .in_use = in_use,
};

const struct covei_type covei_type_rwlock = {
    .id = COVEI_TYPE_RWLOCK,
    .name = "rwlock",
    .alignment = COVEI_CACHE_LINE,
    .sound = sound_rwlock,
    .check = check_rwlock,
    .describe = covei_describe_rwlock,
    .in_use = in_use,
};

const struct covei_type covei_type_semaphore = {
    .id = COVEI_TYPE_SEMAPHORE,
    .name = "semaphore",
    .alignment = COVEI_CACHE_LINE,
    .format = format_semaphore,
    .sound = sound_semaphore,
    .check = check_semaphore,
    .describe = covei_describe_semaphore,
    .in_use = in_use,
};

const struct covei_type covei_type_event = {
    .id = COVEI_TYPE_EVENT,
    .name = "event",
    .alignment = COVEI_CACHE_LINE,
    .sound = sound_event,
    .check = check_event,
    .describe = covei_describe_event,
    .in_use = in_use,
};

const struct covei_type covei_type_condition = {
    .id = COVEI_TYPE_CONDITION,
    .name = "condition",
    .alignment = COVEI_CACHE_LINE,
    .sound = sound_condition, /* and no check: every word is possible */
    .describe = covei_describe_condition,
    .in_use = in_use,
};

const struct covei_type covei_type_barrier = {
    .id = COVEI_TYPE_BARRIER,
    .name = "barrier",
    .alignment = COVEI_CACHE_LINE,
    .sound = sound_barrier,
    .check = check_barrier,
    .describe = covei_describe_barrier,
    .in_use = in_use,
};

const struct covei_type covei_type_once = {
    .id = COVEI_TYPE_ONCE,
    .name = "once",
    .alignment = COVEI_CACHE_LINE,
    .sound = sound_once,
    .check = check_once,
    .describe = covei_describe_once,
    .in_use = in_use,
};

const struct covei_type covei_type_counter = {
    .id = COVEI_TYPE_COUNTER,
    .name = "counter",
    .alignment = COVEI_CACHE_LINE,
    .format = format_counter,
    .sound = sound_counter, /* and no check: every value is possible */
    .describe = covei_describe_counter,
    .in_use = in_use,
};
