/* demo_lock.c - the demo's third chapter: holders of a lock are killed in the middle of a change.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Two accounts and a lock in shared memory. A transfer takes from one and gives to the other; whoever is killed between
 * must leave neither less nor more money than there was. */
#include "demo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EACH_HAS 1000
#define ROUNDS 100

struct bank {
    cove_mutex lock;
    int64_t alice, bob; /* guarded by lock */
};

static const struct cove_type bank_type = {.name = "bank", .version = 1, .size_bytes = sizeof(struct bank)};

static int actor_failed(struct demo_slot *slot, int result)
{
    (void)snprintf(slot->sentence, sizeof slot->sentence, "%s", cove_last_error());
    slot->result = result;
    return CLI_FAILED;
}

static int open_bank(const struct demo *demo, cove_segment **segment, struct bank **bank)
{
    struct cove_options existing = {.flags = COVE_EXISTING};
    int result = cove_open(segment, demo->segment_name, &existing);
    return result < 0 ? result : cove_object_open((void **)bank, *segment, "bank", &bank_type, COVE_EXISTING);
}

/* Move money, and stop in the middle where `middle` is given. Returns 0 or an error. */
static int transfer(cove_segment *segment, struct bank *bank, int64_t amount, struct demo_slot *middle)
{
    int result = cove_begin(segment);
    if (result < 0)
        return result;
    result = cove_mutex_lock(segment, &bank->lock, COVE_FOREVER);
    if (result < 0)
        goto fail;
    if ((result = cove_save(segment, &bank->alice, sizeof bank->alice)) < 0 ||
        (result = cove_save(segment, &bank->bob, sizeof bank->bob)) < 0)
        goto fail;
    bank->alice -= amount;
    /* Which half is made first is as written, whatever the compiler would like: that is what the story shows. */
    atomic_signal_fence(memory_order_seq_cst);
    if (middle) {
        middle->alice = bank->alice;
        middle->bob = bank->bob;
        middle->position = 1;
        for (;;)
            (void)pause();
    }
    bank->bob += amount;
    return cove_commit(segment);
fail:
    (void)cove_abort(segment);
    return result;
}

static int play_stuck_holder(const struct demo *demo, struct demo_slot *slot, const char *object)
{
    cove_segment *segment;
    struct bank *bank;
    (void)object;
    int result = open_bank(demo, &segment, &bank);
    if (result >= 0)
        result = transfer(segment, bank, 100, slot);
    return actor_failed(slot, result);
}

static int play_busy_holder(const struct demo *demo, struct demo_slot *slot, const char *object)
{
    cove_segment *segment;
    struct bank *bank;
    (void)object;
    int result = open_bank(demo, &segment, &bank);
    for (int64_t turn = 0; result >= 0; turn++) {
        result = transfer(segment, bank, turn % 2 ? 10 : -10, NULL);
        slot->position++;
    }
    return actor_failed(slot, result);
}

/* Waits for the lock before the holder is killed, and tells what it found. */
static int play_heir(const struct demo *demo, struct demo_slot *slot, const char *object)
{
    cove_segment *segment;
    struct bank *bank;
    (void)object;
    int result = open_bank(demo, &segment, &bank);
    if (result < 0)
        return actor_failed(slot, result);
    slot->position = 1;
    result = cove_mutex_lock(segment, &bank->lock, COVE_FOREVER);
    int64_t now = cli_now_ns();
    if (result < 0)
        return actor_failed(slot, result);
    slot->alice = bank->alice;
    slot->bob = bank->bob;
    slot->result = result;
    atomic_store_explicit(&slot->first_ns, now, memory_order_release);
    result = cove_mutex_unlock(segment, &bank->lock);
    return result < 0 || cove_close(segment) < 0 ? CLI_FAILED : CLI_DONE;
}

static bool has_position(const struct demo_slot *slot, uint64_t value)
{
    return slot->position >= value;
}

enum { HOLDER, HEIR };

static bool kill_one_in_the_middle(struct demo *demo)
{
    struct demo_slot *holder = &demo->board[HOLDER], *heir = &demo->board[HEIR];
    char span[16];
    if (!demo_cast(demo, HOLDER, play_stuck_holder, "bank") || !demo_until(has_position, holder, 1))
        return demo_broken("the lock's holder did not come to the middle: %s", holder->sentence);
    if (!demo_cast(demo, HEIR, play_heir, "bank") || !demo_until(has_position, heir, 1))
        return demo_broken("nobody came to wait for the lock: %s", heir->sentence);
    demo_tell("   kill -9 %-9d   the holder, with 100 taken from Alice and not given to Bob: %lld and %lld\n",
              (int)demo->actors[HOLDER], (long long)holder->alice, (long long)holder->bob);
    int64_t killed_ns = demo_kill(demo, HOLDER);
    (void)demo_await(demo, HOLDER);
    if (demo_await(demo, HEIR) != CLI_DONE)
        return demo_broken("the next one did not get the lock: %s", heir->sentence);
    demo_tell("   %9s later   the next one has the lock, is told %s, and sees %lld and %lld\n",
              cli_show_span(span, heir->first_ns - killed_ns), cove_errname(heir->result), (long long)heir->alice,
              (long long)heir->bob);
    return (heir->result == COVE_RECOVERED && heir->alice == EACH_HAS && heir->bob == EACH_HAS) ||
           demo_broken("the change was not rolled back");
}

static int by_length(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Kill a busy holder at a random moment and take the lock. Returns false where anything is not as it was. */
static bool kill_one_anywhere(struct demo *demo, struct bank *bank, unsigned *seed, int64_t *ns, unsigned *undone)
{
    if (!demo_cast(demo, HOLDER, play_busy_holder, "bank") || !demo_until(has_position, &demo->board[HOLDER], 1))
        return demo_broken("the lock's holder did not begin: %s", demo->board[HOLDER].sentence);
    struct timespec moment = {.tv_nsec = rand_r(seed) % 1000000};
    (void)nanosleep(&moment, NULL);
    int64_t killed_ns = demo_kill(demo, HOLDER);
    int result = cove_mutex_lock(demo->segment, &bank->lock, COVE_FOREVER);
    *ns = cli_now_ns() - killed_ns;
    if (result < 0)
        return demo_broken("%s", cove_last_error());
    *undone += result == COVE_RECOVERED;
    int64_t sum = bank->alice + bank->bob;
    result = cove_mutex_unlock(demo->segment, &bank->lock);
    (void)demo_await(demo, HOLDER);
    return (sum == 2 * EACH_HAS && result == 0) || demo_broken("the sum is %lld, not %d", (long long)sum, 2 * EACH_HAS);
}

static bool kill_many(struct demo *demo, struct bank *bank)
{
    int64_t spans[ROUNDS];
    char median[16], worst[16];
    unsigned undone = 0, seed = (unsigned)cli_now_ns();
    for (int round = 0; round < ROUNDS; round++)
        if (!kill_one_anywhere(demo, bank, &seed, &spans[round], &undone))
            return false;
    qsort(spans, ROUNDS, sizeof *spans, by_length);
    demo_tell("   %d more are killed at random moments: %u in the middle of a change, all of those rolled back;\n"
              "   the sum is %d every time, and the lock is had after %s (median; worst %s)\n\n",
              ROUNDS, undone, 2 * EACH_HAS, cli_show_span(median, spans[ROUNDS / 2]),
              cli_show_span(worst, spans[ROUNDS - 1]));
    return true;
}

bool demo_holder_dies(struct demo *demo)
{
    struct bank *bank;
    demo_tell("3. The holder of a lock is killed\n"
              "   Alice and Bob have %d each; a transfer is two changes, made under the lock\n",
              EACH_HAS);
    int result = cove_object_open((void **)&bank, demo->segment, "bank", &bank_type, COVE_EXCLUSIVE);
    if (result < 0)
        return demo_broken("%s", cove_last_error());
    bank->alice = bank->bob = EACH_HAS; /* nobody else knows of it yet */
    return kill_one_in_the_middle(demo) && kill_many(demo, bank);
}
