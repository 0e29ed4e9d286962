/* lane.c - one thread's place in a segment, and its sign of life.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A lane is claimed by one CAS in a dense array of owners (0 -> row + 1) and given back by one store of 0.
 *
 * Sign of life. Each lane holds a robust mutex of its owner's libc, locked by the thread while it has the lane. The
 * kernel marks the mutex's futex word (FUTEX_OWNER_DIED) and wakes a waiter when the thread ends, before it frees the
 * process's memory, so that word tells of a death of a huge process in the time that a small one takes. Which of the
 * mutex's words it is differs by libc, so the lane says where (life_at). The word is a fast path: the lock on the
 * row's byte is the truth.
 *
 * I1  owner == 0 implies I1 of lane_shm.h: the lane is clean.
 * I2  life_at != 0 only while the mutex is set up; a word of 0 says nothing.
 *
 * Crash: claimed and not used: recovery finds a clean lane of a dead row and frees it. Since a thread's robust list
 * runs through the mapping, a mapping stays until the last thread with a lane in it ended (see close.c). */
#include "segment/segment.h"

#include "region/region.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIFE_DIED 0x40000000u /* FUTEX_OWNER_DIED of linux/futex.h: the kernel's, the same for every libc */
#define LIFE_WAITERS 0x80000000u /* FUTEX_WAITERS */
#define LIFE_THREAD 0x3fffffffu

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(((struct covei_lane_shm *)0)->life),
               "a libc's mutex fits into a lane");

_Atomic uint32_t *covei_lane_life(struct covei_lane_shm *shm)
{
    /* acquire: the mutex was set up before its place was told. */
    uint32_t at = atomic_load_explicit(&shm->life_at, memory_order_acquire);
    if (at == 0 || at > sizeof shm->life - 3 || (at - 1) % 4 != 0)
        return NULL;
    return (_Atomic uint32_t *)(void *)((unsigned char *)shm->life + at - 1);
}

/* The word is libc's and the system's. A waiter that still looks for the lane's last owner may read it while the next one
 * sets its mutex up: what he sees then is about nobody, and his next look at the lock tells. Nothing of ours orders
 * the two, and a race detector would say so. */
COVEI_UNSYNCHRONISED bool covei_lane_died(struct covei_lane_shm *shm)
{
    _Atomic uint32_t *life = covei_lane_life(shm);
    /* acquire: pairs with the kernel's mark; what the thread stored before it ended is seen. */
    return life && (atomic_load_explicit(life, memory_order_acquire) & LIFE_DIED) != 0;
}

#define LIFE_WORDS 2 /* glibc: word 0; musl: word 1 */

static void copy_words(uint32_t words[LIFE_WORDS], const struct covei_lane_shm *shm)
{
    memcpy(words, shm->life, LIFE_WORDS * sizeof *words);
}

/* Where in the mutex does this libc keep the number of the thread that holds it? In a word that was 0 before: another
 * one may hold that number by chance, as the type of musl's (132) does in thread 132. */
static uint32_t find_life_word(const uint32_t before[LIFE_WORDS], const struct covei_lane_shm *shm)
{
    uint32_t words[LIFE_WORDS], thread = (uint32_t)covei_os->thread_id();
    copy_words(words, shm);
    for (uint32_t i = 0; i < LIFE_WORDS; i++)
        if (before[i] == 0 && (words[i] & LIFE_THREAD) == thread)
            return 1 + 4 * i;
    return 0;
}

/* Locks it, or leaves it as it is: a mutex whose word is not found must not stay in libc's list. Is it locked? */
static bool lock_life(struct covei_lane_shm *shm)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)(void *)shm->life;
    uint32_t before[LIFE_WORDS];
    copy_words(before, shm);
    if (pthread_mutex_lock(mutex) != 0)
        return false;
    uint32_t at = find_life_word(before, shm);
    if (at == 0)
        (void)pthread_mutex_unlock(mutex);
    atomic_store_explicit(&shm->life_at, at, memory_order_release);
    return at != 0;
}

static void begin_life(struct covei_lane *lane)
{
    struct covei_lane_shm *shm = lane->shm;
    atomic_store_explicit(&shm->thread_id, covei_os->thread_id(), memory_order_relaxed);
    atomic_store_explicit(&shm->life_at, 0, memory_order_relaxed); /* ordered by the fence below */
    covei_order();
    /* Word by word: who still waits for the lane's last owner may look at one of them. relaxed: life_at told him not to
     * believe it. */
    for (size_t i = 0; i < sizeof shm->life / (sizeof(uint32_t)); i++)
        atomic_store_explicit((_Atomic uint32_t *)(void *)shm->life + i, 0, memory_order_relaxed);
    /* A guarded mapping may be other memory from one instruction to the next, also inside libc's unlocking, which
     * follows pointers that lie in it. The byte tells of our death as well, only later. */
    if (atomic_load_explicit(&lane->segment->guarded, memory_order_acquire))
        return;
    if (lane->segment->flags & COVE_HELD_BY_CHILDREN) /* who outlive us: the byte alone tells of their end */
        return;
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0)
        return;
    (void)pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (pthread_mutex_init((pthread_mutex_t *)(void *)shm->life, &attributes) == 0)
        lane->lives = lock_life(shm);
    (void)pthread_mutexattr_destroy(&attributes);
}

/* Not by what life_at says, which somebody may have written over: the mutex would stay in libc's list. */
static void end_life(struct covei_lane *lane)
{
    if (!lane->lives)
        return;
    lane->lives = false;
    (void)pthread_mutex_unlock((pthread_mutex_t *)(void *)lane->shm->life);
    atomic_store_explicit(&lane->shm->life_at, 0, memory_order_release);
}

/* Memory for more lanes: again a hole at first. 1: there are more now, 0: no more fit, or an error. */
static int make_lanes_ready(struct cove_segment *segment, uint32_t ready)
{
    if (ready >= segment->max_lanes)
        return 0;
    uint32_t lanes_a_page = COVEI_PAGE / sizeof(struct covei_lane_shm);
    uint32_t wanted = (uint32_t)covei_min(ready + 4 * lanes_a_page, segment->max_lanes);
    uint64_t from = covei_offset(segment, &segment->lanes[ready]);
    int result = covei_segment_reserve(segment, from, (uint64_t)(wanted - ready) * sizeof *segment->lanes);
    if (result < 0)
        return result;
    while (ready < wanted && !atomic_compare_exchange_weak_explicit(&segment->header->lanes_ready, &ready, wanted,
                                                                    memory_order_release, memory_order_relaxed))
        ;
    return 1;
}

/* A free lane among those that have memory: its index, or max_lanes. */
static uint32_t take_free_lane(struct cove_segment *segment, uint32_t ready)
{
    for (uint32_t i = 0; i < ready; i++) {
        uint32_t owner = 0;
        /* acquire: the lane was clean before its owner word became 0. */
        if (atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&segment->owners[i], &owner, segment->row + 1, memory_order_acquire,
                                                    memory_order_relaxed))
            return i;
    }
    return segment->max_lanes;
}

static int find_lane(struct cove_segment *segment, uint32_t *index)
{
    for (;;) {
        uint32_t ready = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
        ready = (uint32_t)covei_min(ready, segment->max_lanes);
        *index = take_free_lane(segment, ready);
        if (*index < segment->max_lanes)
            return 0;
        int result = make_lanes_ready(segment, ready);
        if (result <= 0 && covei_recover_free_lanes(segment))
            continue; /* even where there is no memory for more lanes: those of the dead will do */
        if (result < 0)
            return result;
        if (result == 0)
            return covei_error(-EUSERS,
                               "%s: all of its %" PRIu32
                               " lanes are in use (one a thread); end some threads, or create "
                               "it with more max_members",
                               segment->name, segment->max_lanes);
    }
}

static struct covei_lane *known_lane(const struct cove_segment *segment)
{
    struct covei_lane *lane = covei_thread.lanes;
    while (lane && lane->segment != segment)
        lane = lane->next;
    return lane;
}

/* I1 says that a free lane is clean. Where somebody scribbled it is made so, or we would undo in our own name what
 * stands there. */
static void make_clean(struct covei_lane_shm *shm)
{
    atomic_store_explicit(&shm->tails, 0,
                          memory_order_relaxed); /* all: the claim is ours, nobody else looks for more than hints */
    atomic_store_explicit(&shm->waits_for, 0, memory_order_relaxed);
    atomic_store_explicit(&shm->marks, 0, memory_order_relaxed);
    atomic_store_explicit(&shm->inside, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
        atomic_store_explicit(&shm->held[i], 0, memory_order_relaxed);
    shm->journal_block = shm->journal_next = shm->journal_old = 0;
}

static struct covei_lane *new_lane(struct cove_segment *segment, uint32_t index)
{
    struct covei_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->shm = &segment->lanes[index];
    make_clean(lane->shm);
    lane->segment = segment;
    lane->id = index + 1;
    lane->places = 1;
    covei_outer_locate(lane);
    lane->next = covei_thread.lanes;
    covei_thread.lanes = lane;
    covei_handle_lane_begins(segment);
    begin_life(lane);
    covei_thread_begin();
    return lane;
}

int covei_lane_claim(struct covei_lane **out, struct cove_segment *segment)
{
    int result = covei_segment_usable(segment);
    if (result < 0)
        return result;
    if (segment->flags & COVE_READONLY)
        return covei_error(-EPERM, "%s: it was opened with COVE_READONLY; open it without to change it", segment->name);
    struct covei_lane *lane = known_lane(segment);
    if (!lane) {
        uint32_t index = 0;
        result = find_lane(segment, &index);
        if (result < 0)
            return result;
        lane = new_lane(segment, index);
        if (!lane) {
            atomic_store_explicit(&segment->owners[index], 0, memory_order_release);
            return covei_error(-ENOMEM, "%s: no memory for a thread's handle", segment->name);
        }
    }
    covei_thread.shm = lane->shm;
    covei_thread.id = lane->id;
    covei_thread.lane = lane;
    /* The short paths know nothing of the gate, and must not take this lane for that of another segment. */
    if (!covei_cache_is_shared())
        covei_thread.cache->segment = segment->durable ? NULL : segment;
    *out = lane;
    return 0;
}

static void unlink_lane(struct covei_lane *lane)
{
    struct covei_lane **at = &covei_thread.lanes;
    while (*at && *at != lane)
        at = &(*at)->next;
    if (*at)
        *at = lane->next;
    covei_cache_forget(lane);
}

void covei_lane_release(struct covei_lane *lane)
{
    struct cove_segment *segment = lane->segment;
    if (covei_segment_broken(segment)) {
        /* The mutex is gone with the memory it lay in, and libc's list leads through what is there now: leave it.
         * Some libcs walk that list with all signals blocked: where the lane's page is the file's still, and beyond
         * its end, this look has the handler put memory there while it can. */
        (void)covei_lane_died(lane->shm);
        unlink_lane(lane);
        free(lane);
        covei_handle_lane_ends(segment);
        return;
    }
    covei_lane_roll_back(lane);
    end_life(lane);
    /* release: the lane is clean before it is free. One that could not be cleaned stays taken, for the row's
     * recovery. */
    if (atomic_load_explicit(&lane->shm->tails, memory_order_relaxed) == 0)
        atomic_store_explicit(&segment->owners[lane->id - 1], 0, memory_order_release);
    unlink_lane(lane);
    free(lane);
    covei_handle_lane_ends(segment);
}

void covei_lane_forget(const struct cove_segment *segment)
{
    struct covei_lane *lane = known_lane(segment);
    if (lane) {
        unlink_lane(lane);
        free(lane);
    }
}

void covei_lanes_forget(void)
{
    while (covei_thread.lanes) {
        struct covei_lane *lane = covei_thread.lanes;
        covei_thread.lanes = lane->next;
        free(lane);
    }
    covei_cache_forget(NULL);
}

COVEI_UNSYNCHRONISED _Atomic uint32_t *covei_lane_watch(struct cove_segment *segment, uint32_t lane, uint32_t *value)
{
    if (lane >= segment->max_lanes)
        return NULL;
    _Atomic uint32_t *life = covei_lane_life(&segment->lanes[lane]);
    if (!life)
        return NULL;
    *value = atomic_load_explicit(life, memory_order_acquire);
    if ((*value & LIFE_DIED) || (*value & LIFE_THREAD) == 0)
        return NULL;
    if (!(*value & LIFE_WAITERS)) {
        /* relaxed: the mark orders nothing; the kernel looks at it when the thread ends. */
        if (!atomic_compare_exchange_strong_explicit(life, value, *value | LIFE_WAITERS, memory_order_relaxed,
                                                     memory_order_relaxed))
            return NULL;
        *value |= LIFE_WAITERS;
    }
    return life;
}
