/* lock.h - ways to keep others out, to count and to meet, and the loops in which they are timed; for C and C++.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each way brings loops of its own, made by the macros below, so that its calls are direct ones: a call through a
 * pointer would cost a third of the cheapest lock. What crosses processes uses the compiler's builtins with explicit
 * orders here, since C++ does not know C's atomics.
 *
 * To add a way: one `const struct lock_way`, its declaration at the end, and a line in the rows that it is for. One
 * that this build does not have is declared all the same, with the reason: rows name it as missing. */
#ifndef BENCH_LOCK_H
#define BENCH_LOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where one way's lock lies: one for each contestant. */
struct lock_site {
    void *memory; /* zeroed, shared, at a cache line; as large as the way asks for */
    const char *name; /* nobody else's: for kernel objects, segment objects */
    const char *directory; /* for files; main.c empties it */
    const char *segment;
    unsigned processes; /* that will use it */
    void *handle; /* of this process */
};

enum { GUARDED_WORDS = 8 };

/* One process's part of a block. */
struct turn {
    uint64_t *guarded; /* GUARDED_WORDS, which only who holds the lock may touch */
    uint64_t *last_round; /* of those who meet: after which round all stop */
    const uint32_t *phase; /* of the block, enum turn_phase */
    uint32_t seen; /* what it was when last looked at */
    uint64_t random; /* never 0; what a process does outside of the lock */
    uint64_t wrong; /* a call failed, or somebody else was inside */
    uint64_t changes; /* of what the lock guards, by this process */
    uint64_t handovers; /* how many of them came after another's */
    uint64_t self; /* 1 + its number */
    uint64_t count_before, handovers_before, waited_before; /* when measuring began */
};

enum turn_phase {
    TURN_GATHERING, /* until each has had the lock once */
    TURN_MEASURED,
    TURN_OVER,
    TURN_NEW /* of `seen`: it has not had the lock yet */
};

struct lock_way {
    const char *name;
    const char *missing; /* why this build lacks it; NULL: it does not */
    size_t bytes; /* of shared memory */
    int (*make)(struct lock_site *site); /* before the processes begin. 0, or -errno: it is left out. NULL: nothing */
    void (*enter)(struct lock_site *site); /* in each process: sets `handle`. NULL: it is the memory */
    uint64_t (*alone)(void *handle, uint64_t count); /* so many, with nothing inside; returns 0 if all was well */
    uint64_t (*work)(void *handle, struct turn *turn); /* until the turn is over; returns how many */
    uint64_t (*sum)(void *handle); /* what all have changed so far. NULL: guarded[0] has it */
    void (*leave)(struct lock_site *site); /* in each process. NULL: nothing */
};

/* ---- what happens in a turn ---- */

/* Looks at the clock and moves the block on to its next phase where it is time (crowd.c). Is the turn over? */
int turn_look(struct turn *turn, uint64_t count);

static inline int turn_is_over(struct turn *turn, uint64_t count)
{
    enum { STRIDE = 64 }; /* a look costs 25 ns */

    /* relaxed: turn_look looks again. */
    return (__atomic_load_n(turn->phase, __ATOMIC_RELAXED) != turn->seen || count % STRIDE == 0) &&
           turn_look(turn, count);
}

/* Relaxed: the lock orders them. Atomic, so that a lock that does not keep others out is found, not undefined. */
static inline uint64_t word_get(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void word_set(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Some nanoseconds under the lock: words 0 and 1 differ only while somebody is at work between them. */
static inline void work_inside(struct turn *turn)
{
    uint64_t *words = turn->guarded, value = word_get(&words[0]);

    turn->wrong |= value ^ word_get(&words[1]);
    word_set(&words[0], value + 1);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    turn->handovers += word_get(&words[2]) != turn->self;
    word_set(&words[2], turn->self);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    word_set(&words[1], value + 1);
    turn->changes++;
}

/* Some nanoseconds of reading under it. */
static inline void look_inside(struct turn *turn)
{
    turn->wrong |= word_get(&turn->guarded[0]) ^ word_get(&turn->guarded[1]);
}

/* Some nanoseconds elsewhere: steps of a generator, each of which needs the one before. */
static inline void work_outside(struct turn *turn)
{
    uint64_t random = turn->random;

    for (int i = 0; i < 4; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
    }
    turn->random = random;
}

/* ---- loops. `lock` and `unlock` are expressions about `handle`, 0 where they did it. ---- */

#define LOOP_ALONE(prefix, type, lock, unlock)               \
    static uint64_t prefix##_alone(void *at, uint64_t count) \
    {                                                        \
        type *handle = (type *)at;                           \
        uint64_t wrong = 0;                                  \
                                                             \
        while (count--) {                                    \
            wrong |= (uint64_t)(lock);                       \
            wrong |= (uint64_t)(unlock);                     \
        }                                                    \
        (void)handle;                                        \
        return wrong;                                        \
    }

/* Who holds it changes what it guards. */
#define LOCK_LOOPS(prefix, type, lock, unlock)                 \
    LOOP_ALONE(prefix, type, lock, unlock)                     \
    static uint64_t prefix##_work(void *at, struct turn *turn) \
    {                                                          \
        type *handle = (type *)at;                             \
        uint64_t count = 0;                                    \
                                                               \
        do {                                                   \
            turn->wrong |= (uint64_t)(lock);                   \
            work_inside(turn);                                 \
            turn->wrong |= (uint64_t)(unlock);                 \
            work_outside(turn);                                \
        } while (!turn_is_over(turn, ++count));                \
        (void)handle;                                          \
        return count;                                          \
    }

/* Who holds it reads what it guards; again at once, as what lets many read is asked most. */
#define READ_LOOPS(prefix, type, lock, unlock)                 \
    LOOP_ALONE(prefix, type, lock, unlock)                     \
    static uint64_t prefix##_work(void *at, struct turn *turn) \
    {                                                          \
        type *handle = (type *)at;                             \
        uint64_t count = 0;                                    \
                                                               \
        do {                                                   \
            turn->wrong |= (uint64_t)(lock);                   \
            look_inside(turn);                                 \
            turn->wrong |= (uint64_t)(unlock);                 \
        } while (!turn_is_over(turn, ++count));                \
        (void)handle;                                          \
        return count;                                          \
    }

/* One in 16 changes it, the others read. */
#define MIXED_LOOP(prefix, type, lock, unlock, lock_shared, unlock_shared) \
    static uint64_t prefix##_work(void *at, struct turn *turn)             \
    {                                                                      \
        type *handle = (type *)at;                                         \
        uint64_t count = 0;                                                \
                                                                           \
        do {                                                               \
            if (turn->random % 16 == 0) {                                  \
                turn->wrong |= (uint64_t)(lock);                           \
                work_inside(turn);                                         \
                turn->wrong |= (uint64_t)(unlock);                         \
            } else {                                                       \
                turn->wrong |= (uint64_t)(lock_shared);                    \
                look_inside(turn);                                         \
                turn->wrong |= (uint64_t)(unlock_shared);                  \
            }                                                              \
            work_outside(turn);                                            \
        } while (!turn_is_over(turn, ++count));                            \
        (void)handle;                                                      \
        return count;                                                      \
    }

/* ---- the ways. In lock_libc.c, limits first: */

extern const struct lock_way way_word, way_own_flag; /* the least that keeps others out; that lets many read */
extern const struct lock_way way_mutex_plain, way_mutex_robust, way_semaphore, way_semaphore_named, way_system_v,
    way_flock;
extern const struct lock_way way_rwlock_read, way_rwlock_write, way_rwlock_mixed, way_flock_read;

/* In lock_cove.c. */
extern const struct lock_way way_cove_mutex, way_cove_fair, way_cove_read, way_cove_write, way_cove_mixed,
    way_cove_owned, way_cove_plain;

/* In lock_boost.cpp and lock_qt.cpp, or lock_missing.c. */
extern const struct lock_way way_boost_mutex, way_boost_named_mutex, way_boost_semaphore, way_boost_named_semaphore,
    way_boost_upgradable, way_boost_named_upgradable, way_boost_read, way_boost_named_read, way_boost_mixed;
extern const struct lock_way way_qt;

/* In meet.c: counting, meeting, moving money. */
extern const struct lock_way way_atomic_add, way_cove_add, way_cove_add_spread;
extern const struct lock_way way_barrier, way_cove_barrier;
extern const struct lock_way way_bank_robust, way_cove_bank;

#ifdef __cplusplus
}
#endif
#endif
