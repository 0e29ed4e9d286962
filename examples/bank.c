/* bank.c - a transfer that happens whole or not at all, whatever kills the process in the middle.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>

struct account {
    cove_mutex lock; /* all zero is unlocked, so a new object needs no setting up */
    int64_t cents;
};
struct bank {
    struct account alice, bob;
};
static const struct cove_type bank_type = {.name = "bank", .version = 1, .size_bytes = sizeof(struct bank)};

/* Locks taken inside the transaction are free when it ends, in whichever way. */
static int transfer(cove_segment *segment, struct account *from, struct account *to, int64_t cents)
{
    if (cove_begin(segment) < 0 || cove_mutex_lock(segment, &from->lock, COVE_FOREVER) < 0 ||
        cove_mutex_lock(segment, &to->lock, COVE_FOREVER) < 0 ||
        cove_save(segment, &from->cents, sizeof from->cents) < 0 ||
        cove_save(segment, &to->cents, sizeof to->cents) < 0)
        return cove_complain("transfer");
    from->cents -= cents;
    to->cents += cents; /* dead here: both are as they were */
    return from->cents < 0 ? cove_abort(segment) : cove_commit(segment);
}

int main(void)
{
    cove_segment *segment;
    void *object;
    if (cove_open(&segment, "example-bank", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&object, segment, "bank", &bank_type, 0) < 0)
        return cove_complain("open");
    struct bank *bank = object;
    bank->alice.cents = 1000;
    if (transfer(segment, &bank->alice, &bank->bob, 300) != 0 || transfer(segment, &bank->alice, &bank->bob, 5000) != 0)
        return 1;
    printf("Alice has %lld cents, Bob %lld\n", (long long)bank->alice.cents, (long long)bank->bob.cents);
    int good = bank->alice.cents == 700 && bank->bob.cents == 300;
    return cove_close(segment) < 0 || !good;
}
