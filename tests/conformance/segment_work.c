/* segment_work.c - segments: members, locks, transactions, memory, death.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "conformance.h"

#include <signal.h>
#include <unistd.h>

#define ROUNDS 500

struct account {
    cove_mutex lock;
    uint64_t cents[2];
    uint64_t total;
};
static const struct cove_type account_type = {.name = "account", .version = 1, .size_bytes = sizeof(struct account)};

static struct account *account_in(cove_segment *segment)
{
    void *object = NULL;
    GOOD(cove_object_open(&object, segment, "account", &account_type, 0));
    return object;
}

/* ---- members */

static void stay_a_member(struct subject *s, void *context)
{
    (void)context;
    cove_segment *segment = segment_open(s, 0);
    reach(STEP_READY);
    await(STEP_GO);
    EQUAL(0, cove_close(segment));
}

static void members(struct subject *s)
{
    struct cove_member_info list[4];
    struct cove_segment_info info;
    cove_segment *segment = segment_make(s);
    pid_t other = start(stay_a_member, s, NULL);
    await(STEP_READY);
    EQUAL(2, cove_segment_members(segment, list, 4));
    CHECK((list[0].pid == getpid() && list[1].pid == other) || (list[1].pid == getpid() && list[0].pid == other));
    for (unsigned i = 0; i < 2; i++)
        CHECK(list[i].alive && list[i].uid == geteuid() && strcmp(list[i].command, program_invocation_short_name) == 0);
    reach(STEP_GO);
    join(other);
    EQUAL(1, cove_segment_members(segment, list, 4));
    EQUAL(0, cove_segment_stat(segment, &info));
    CHECK(info.members_alive == 1 && info.members_dead == 0);
    segment_leave(s, segment);
}

/* ---- locks */

static void count_up(struct subject *s, void *context)
{
    (void)context;
    cove_segment *segment = segment_open(s, 0);
    struct account *account = account_in(segment);
    for (int i = 0; i < ROUNDS; i++) {
        GOOD(cove_mutex_lock(segment, &account->lock, PATIENCE_NS));
        account->total++; /* a plain addition: two at once would lose some */
        EQUAL(0, cove_mutex_unlock(segment, &account->lock));
    }
    EQUAL(0, cove_close(segment));
}

static void mutex(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    pid_t other = start(count_up, s, NULL);
    count_up(s, NULL);
    join(other);
    CHECK(account_in(segment)->total == UINT64_C(2) * ROUNDS);
    segment_leave(s, segment);
}

static void die_holding(struct subject *s, void *context)
{
    cove_segment *segment = segment_open(s, 0);
    struct account *account = account_in(segment);
    bool in_transaction = context != NULL;
    if (in_transaction)
        EQUAL(0, cove_begin(segment));
    EQUAL(0, cove_mutex_lock(segment, &account->lock, COVE_NOWAIT));
    if (in_transaction) {
        EQUAL(0, cove_save(segment, account->cents, sizeof account->cents));
        account->cents[0] -= 100; /* and the other half of it never comes */
        CHECK(cove_alloc(segment, 5000) != 0);
    }
    reach(STEP_READY);
    wait_for_death();
}

static void killed_holder(struct subject *s)
{
    struct cove_member_info holder;
    cove_segment *segment = segment_make(s);
    struct account *account = account_in(segment);
    pid_t other = start(die_holding, s, NULL);
    await(STEP_READY);
    EQUAL(-EBUSY, cove_mutex_lock(segment, &account->lock, COVE_NOWAIT));
    EQUAL(1, cove_mutex_holder(segment, &account->lock, &holder));
    CHECK(holder.pid == other);
    killed(other);
    EQUAL(COVE_RECOVERED, cove_mutex_lock(segment, &account->lock, PATIENCE_NS));
    EQUAL(0, cove_mutex_unlock(segment, &account->lock));
    segment_leave(s, segment);
}

static uint64_t free_bytes(cove_segment *segment)
{
    struct cove_segment_info info;
    EQUAL(0, cove_segment_stat(segment, &info));
    return info.heap_free_bytes;
}

static void transaction(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    struct account *account = account_in(segment);
    account->cents[0] = account->cents[1] = 500;
    uint64_t free_before = free_bytes(segment);
    pid_t other = start(die_holding, s, s);
    await(STEP_READY);
    CHECK(account->cents[0] == 400);
    killed(other);
    EQUAL(COVE_RECOVERED, cove_mutex_lock(segment, &account->lock, PATIENCE_NS));
    CHECK(account->cents[0] == 500 && account->cents[1] == 500);
    EQUAL(0, cove_mutex_unlock(segment, &account->lock));
    CHECK(free_bytes(segment) == free_before);
    segment_leave(s, segment);
}

static void recovered_by_hand(struct subject *s)
{
    struct cove_segment_info info;
    cove_segment *segment = segment_make(s);
    pid_t other = start(die_holding, s, s);
    await(STEP_READY);
    killed(other);
    EQUAL(1, cove_recover(segment));
    EQUAL(0, cove_segment_stat(segment, &info));
    CHECK(info.members_dead == 0 && info.members_alive == 1);
    EQUAL(COVE_RECOVERED, cove_mutex_lock(segment, &account_in(segment)->lock, COVE_NOWAIT));
    EQUAL(0, cove_mutex_unlock(segment, &account_in(segment)->lock));
    segment_leave(s, segment);
}

/* ---- memory */

static void heap(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    cove_ref refs[20];
    uint64_t free_before = free_bytes(segment);
    for (unsigned i = 0; i < 20; i++) {
        refs[i] = cove_alloc(segment, 100 + 40 * i);
        CHECK(refs[i] && cove_at(segment, refs[i], 100 + 40 * i));
        memset(cove_at(segment, refs[i], 100 + 40 * i), (int)i, 100 + 40 * i);
    }
    for (unsigned i = 0; i < 20; i++)
        CHECK(((uint8_t *)cove_at(segment, refs[i], 1))[0] == i);
    for (unsigned i = 0; i < 20; i++)
        EQUAL(0, cove_free(segment, refs[i]));
    EQUAL(-EINVAL, cove_free(segment, refs[3]));
    CHECK(free_bytes(segment) == free_before);
    segment_leave(s, segment);
}

#define BIG_BYTES (size_t)(3 << 20)

/* In a child: uses memory that the segment did not have when it attached. */
static void use_new_memory(struct subject *s, void *context)
{
    (void)context;
    cove_segment *segment = segment_open(s, 0);
    struct account *account = account_in(segment);
    reach(STEP_READY);
    await(STEP_GO);
    uint8_t *bytes = cove_at(segment, account->total, BIG_BYTES);
    CHECK(bytes && bytes[0] == 1 && bytes[BIG_BYTES - 1] == 2);
    bytes[1] = 3;
    EQUAL(0, cove_close(segment));
}

static void grow(struct subject *s)
{
    struct cove_segment_info before, after;
    cove_segment *segment = segment_make(s);
    struct account *account = account_in(segment);
    EQUAL(0, cove_segment_stat(segment, &before));
    pid_t other = start(use_new_memory, s, NULL);
    await(STEP_READY);
    errno = 0;
    cove_ref ref = cove_alloc(segment, BIG_BYTES);
    if (!ref)
        killed(other);
    TRY(ref ? 0 : -errno);
    account->total = ref;
    uint8_t *bytes = cove_at(segment, ref, BIG_BYTES);
    bytes[0] = 1;
    bytes[BIG_BYTES - 1] = 2;
    reach(STEP_GO);
    join(other);
    CHECK(bytes[1] == 3);
    EQUAL(0, cove_segment_stat(segment, &after));
    bool has_grown = after.size_bytes > before.size_bytes && after.size_bytes <= after.max_size_bytes;
    CHECK(has_grown || after.size_bytes == after.max_size_bytes);
    segment_leave(s, segment);
    if (!has_grown)
        IT_DOES_NOT(); /* it had all its memory from the start */
}

/* What does not fit is refused, by those that grow and those that do not, and everybody goes on. */
static void too_much(struct subject *s)
{
    cove_segment *segment = segment_make(s);
    errno = 0;
    CHECK(cove_alloc(segment, (size_t)1 << 30) == 0 && errno == ENOSPC && *cove_last_error());
    cove_ref ref = cove_alloc(segment, 1000);
    CHECK(ref);
    EQUAL(0, cove_free(segment, ref));
    segment_leave(s, segment);
}

/* ---- fork */

static void child_opens_anew(struct subject *s, void *inherited)
{
    struct cove_member_info list[4];
    cove_segment *segment = inherited, *own = NULL;
    EQUAL(COVE_EFORKED, cove_begin(segment));
    EQUAL(COVE_EFORKED, cove_mutex_lock(segment, cove_at(segment, 8192, 8), COVE_NOWAIT));
    EQUAL(0, cove_open(&own, s->other, &(struct cove_options){.flags = COVE_EXISTING}));
    EQUAL(2, cove_segment_members(own, list, 4));
    account_in(own)->total = 9;
    EQUAL(0, cove_close(own));
    EQUAL(0, cove_close(segment));
}

static void forked(struct subject *s)
{
    struct cove_member_info list[4];
    cove_segment *segment = segment_make(s);
    struct account *account = account_in(segment);
    join(start(child_opens_anew, s, segment));
    CHECK(account->total == 9);
    EQUAL(1, cove_segment_members(segment, list, 4));
    segment_leave(s, segment);
}

static const struct row table[] = {
    {"segment.members", members, NO_FEATURE},
    {"segment.mutex", mutex, NO_FEATURE},
    {"segment.killed-holder", killed_holder, NO_FEATURE},
    {"segment.transaction", transaction, NO_FEATURE},
    {"segment.recovered-by-hand", recovered_by_hand, NO_FEATURE},
    {"segment.heap", heap, NO_FEATURE},
    {"segment.grow", grow, COVE_CAN_GROW},
    {"segment.too-much", too_much, NO_FEATURE},
    {"segment.forked", forked, NO_FEATURE},
};
const struct rows segment_work_rows = ROWS(table);
