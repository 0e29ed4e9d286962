/* meet.c - ways to count together, to meet, and to move money under two locks.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Counting: the sum is what all have added. Meeting: each says which round it is in before it waits; afterwards
 * nobody may be in an earlier one. Moving money: the sum of all accounts is 0 at all times, and each counts its moves.
 * */
#include "bench.h"
#include "cove_site.h"
#include "lock.h"

#include <cove.h>
#include <errno.h>
#include <pthread.h>

/* ---- counting ---- */

#define COUNT_LOOPS(prefix, type, add)                         \
    LOOP_ALONE(prefix, type, add, 0)                           \
    static uint64_t prefix##_work(void *at, struct turn *turn) \
    {                                                          \
        type *handle = at;                                     \
        uint64_t count = 0;                                    \
                                                               \
        do {                                                   \
            turn->wrong |= (uint64_t)(add);                    \
            work_outside(turn);                                \
        } while (!turn_is_over(turn, ++count));                \
        turn->changes += count;                                \
        return count;                                          \
    }

static inline int bare_add(_Atomic uint64_t *number)
{
    atomic_fetch_add_explicit(number, 1, memory_order_relaxed); /* a number alone orders nothing */
    return 0;
}

static uint64_t bare_sum(void *handle)
{
    return atomic_load_explicit((_Atomic uint64_t *)handle, memory_order_relaxed); /* when nobody adds any more */
}

COUNT_LOOPS(bare, _Atomic uint64_t, bare_add(handle))
const struct lock_way way_atomic_add = {
    .name = "atomic add", .bytes = sizeof(uint64_t), .alone = bare_alone, .work = bare_work, .sum = bare_sum};

static void spread_enter(struct lock_site *site)
{
    struct cove_sync_options options = {.lines = 8};
    cove_counter *counter;

    site_open(site);
    site_check(cove_counter_open_in(&counter, site_segment, site->name, &options), "cove_counter_open_in");
    site->handle = counter;
}

static int spread_make(struct lock_site *site)
{
    spread_enter(site);
    site_close(site);
    return 0;
}

static int plain_make(struct lock_site *site)
{
    site_enter(site);
    site_close(site);
    return 0;
}

static uint64_t counter_sum(void *handle)
{
    int64_t value = -1;

    site_check(cove_counter_get(site_segment, handle, &value), "cove_counter_get");
    return (uint64_t)value;
}

COUNT_LOOPS(counter, cove_counter, cove_counter_add(site_segment, handle, 1, NULL))
#define COUNTER .alone = counter_alone, .work = counter_work, .sum = counter_sum, .leave = site_close
const struct lock_way way_cove_add = {.name = "cove", .make = plain_make, .enter = site_enter, COUNTER};
const struct lock_way way_cove_add_spread = {
    .name = "cove spread", .make = spread_make, .enter = spread_enter, COUNTER};

/* ---- meeting ---- */

static uint32_t parties;

/* The first of them decides which round is the last, before any other can be through it. */
#define BARRIER_LOOP(prefix, type, wait)                       \
    static uint64_t prefix##_work(void *at, struct turn *turn) \
    {                                                          \
        type *handle = at;                                     \
        uint64_t round = 0;                                    \
        uint64_t *next = &turn->guarded[turn->self % parties]; \
                                                               \
        do {                                                   \
            word_set(&turn->guarded[turn->self - 1], ++round); \
            if (turn_is_over(turn, round) && turn->self == 1)  \
                word_set(turn->last_round, round);             \
            turn->wrong |= (uint64_t)(wait);                   \
            turn->wrong |= word_get(next) < round;             \
        } while (word_get(turn->last_round) != round);         \
        return round;                                          \
    }

static uint64_t nothing(void *handle)
{
    (void)handle;
    return 0;
}

static int pthread_make(struct lock_site *site)
{
    pthread_barrierattr_t attributes;
    int result = pthread_barrierattr_init(&attributes);

    if (!result)
        result = pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!result)
        result = pthread_barrier_init(site->memory, &attributes, site->processes);
    return -result;
}

static void pthread_enter(struct lock_site *site)
{
    parties = site->processes;
    site->handle = site->memory;
}

static inline int pthread_meet(pthread_barrier_t *barrier)
{
    int result = pthread_barrier_wait(barrier);
    return result == PTHREAD_BARRIER_SERIAL_THREAD ? 0 : result;
}

BARRIER_LOOP(pthread, pthread_barrier_t, pthread_meet(handle))
const struct lock_way way_barrier = {.name = "pthread barrier",
                                     .bytes = sizeof(pthread_barrier_t),
                                     .make = pthread_make,
                                     .enter = pthread_enter,
                                     .work = pthread_work,
                                     .sum = nothing};

static void barrier_enter(struct lock_site *site)
{
    parties = site->processes;
    site_enter(site);
}

/* Nobody leaves while others may still wait: they are all told at the same time. */
static void barrier_leave(struct lock_site *site)
{
    int result = cove_barrier_leave(site_segment, site->handle);

    if (result != -EPERM) /* it was never met at */
        site_check(result, "cove_barrier_leave");
    site_close(site);
}

static inline int barrier_meet(cove_barrier *barrier)
{
    int result = cove_barrier_wait(site_segment, barrier, parties, COVE_FOREVER);
    return result == COVE_LEADER ? 0 : result;
}

BARRIER_LOOP(barrier, cove_barrier, barrier_meet(handle))
const struct lock_way way_cove_barrier = {.name = "cove",
                                          .make = plain_make,
                                          .enter = barrier_enter,
                                          .work = barrier_work,
                                          .sum = nothing,
                                          .leave = barrier_leave};

/* ---- moving money ---- */

enum { ACCOUNTS = SITE_LINES };

struct money {
    int64_t cents;
    uint64_t moves;
};

/* The locks are taken in the order of their numbers. */
static inline void choose(uint64_t random, unsigned *first, unsigned *second)
{
    *first = (unsigned)(random >> 8) % (ACCOUNTS - 1);
    *second = *first + 1 + (unsigned)(random >> 40) % (ACCOUNTS - 1 - *first);
}

static inline void move(struct money *from, struct money *to, uint64_t random)
{
    int64_t cents = (int64_t)(random % 1000) - 500;

    from->cents -= cents;
    from->moves++;
    to->cents += cents;
    to->moves++;
}

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    return *random ^= *random << 17;
}

#define BANK_LOOPS(prefix, type, transfer)                                                            \
    static uint64_t prefix##_sum(void *at)                                                            \
    {                                                                                                 \
        type *accounts = at;                                                                          \
        uint64_t cents = 0, moves = 0;                                                                \
                                                                                                      \
        for (unsigned i = 0; i < ACCOUNTS; i++) {                                                     \
            cents += (uint64_t)accounts[i].money.cents;                                               \
            moves += accounts[i].money.moves;                                                         \
        }                                                                                             \
        return cents ? UINT64_MAX : moves / 2;                                                        \
    }                                                                                                 \
    static uint64_t prefix##_alone(void *at, uint64_t count)                                          \
    {                                                                                                 \
        static uint64_t random = UINT64_C(0x9e3779b97f4a7c15);                                        \
        uint64_t wrong = 0;                                                                           \
        unsigned first, second;                                                                       \
                                                                                                      \
        while (count--) {                                                                             \
            choose(next_random(&random), &first, &second);                                            \
            wrong |= (uint64_t)transfer((type *)at + first, (type *)at + second, random);             \
        }                                                                                             \
        return wrong;                                                                                 \
    }                                                                                                 \
    static uint64_t prefix##_work(void *at, struct turn *turn)                                        \
    {                                                                                                 \
        uint64_t count = 0;                                                                           \
        unsigned first, second;                                                                       \
                                                                                                      \
        do {                                                                                          \
            choose(next_random(&turn->random), &first, &second);                                      \
            turn->wrong |= (uint64_t)transfer((type *)at + first, (type *)at + second, turn->random); \
        } while (!turn_is_over(turn, ++count));                                                       \
        turn->changes += count;                                                                       \
        return count;                                                                                 \
    }

struct cove_account {
    _Alignas(SITE_LINE) cove_mutex lock;
    struct money money;
};

static inline int cove_transfer(struct cove_account *from, struct cove_account *to, uint64_t random)
{
    int wrong = cove_begin(site_segment);

    wrong |= cove_mutex_lock(site_segment, &from->lock, COVE_FOREVER);
    wrong |= cove_mutex_lock(site_segment, &to->lock, COVE_FOREVER);
    wrong |= cove_save(site_segment, &from->money, sizeof from->money);
    wrong |= cove_save(site_segment, &to->money, sizeof to->money);
    move(&from->money, &to->money, random);
    return wrong | cove_commit(site_segment);
}

BANK_LOOPS(cove_bank, struct cove_account, cove_transfer)
const struct lock_way way_cove_bank = {.name = "cove",
                                       .make = plain_make,
                                       .enter = site_enter,
                                       .alone = cove_bank_alone,
                                       .work = cove_bank_work,
                                       .sum = cove_bank_sum,
                                       .leave = site_close};

/* Two locks alone: whoever dies in the middle leaves half of a transfer. */
struct pthread_account {
    _Alignas(SITE_LINE) pthread_mutex_t lock;
    struct money money;
};

static int pthread_bank_make(struct lock_site *site)
{
    struct pthread_account *accounts = site->memory;
    struct lock_site one = *site;
    int result = 0;

    for (unsigned i = 0; i < ACCOUNTS && result == 0; i++) {
        one.memory = &accounts[i].lock;
        result = way_mutex_robust.make(&one);
    }
    return result;
}

static inline int pthread_transfer(struct pthread_account *from, struct pthread_account *to, uint64_t random)
{
    int wrong = pthread_mutex_lock(&from->lock) | pthread_mutex_lock(&to->lock);

    move(&from->money, &to->money, random);
    return wrong | pthread_mutex_unlock(&to->lock) | pthread_mutex_unlock(&from->lock);
}

BANK_LOOPS(pthread_bank, struct pthread_account, pthread_transfer)
const struct lock_way way_bank_robust = {.name = "2 pthread robust",
                                         .bytes = ACCOUNTS * sizeof(struct pthread_account),
                                         .make = pthread_bank_make,
                                         .alone = pthread_bank_alone,
                                         .work = pthread_bank_work,
                                         .sum = pthread_bank_sum};
