/* waiters.c - three processes wait on one condition, and one of them is killed in its wait: each signal still wakes
 * somebody who lives. (With glibc's pthread_cond_t a signal goes to the dead one, and the next call never returns.)
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct shop {
    cove_mutex lock;
    cove_condition changed;
    cove_counter waiting, served;
    int32_t tickets;
};
static const struct cove_type shop_type = {.name = "shop", .version = 1, .size_bytes = sizeof(struct shop)};

static struct shop *shop_open(cove_segment **segment)
{
    void *shop = NULL;
    if (cove_open(segment, "example-waiters", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&shop, *segment, "shop", &shop_type, 0) < 0)
        (void)cove_complain("shop");
    return shop;
}

/* Wait for a ticket, and take it. */
static int take_ticket(void)
{
    cove_segment *segment;
    struct shop *shop = shop_open(&segment);
    int result = shop ? cove_mutex_lock(segment, &shop->lock, COVE_FOREVER) : -1;
    if (result >= 0)
        (void)cove_counter_add(segment, &shop->waiting, 1, NULL);
    while (result >= 0 && shop->tickets == 0)
        result = cove_condition_wait(segment, &shop->changed, &shop->lock, COVE_FOREVER);
    if (result < 0)
        return cove_complain("wait");
    shop->tickets--;
    (void)cove_counter_add(segment, &shop->served, 1, NULL);
    return cove_mutex_unlock(segment, &shop->lock) < 0 || cove_close(segment) < 0;
}

static int give_ticket(cove_segment *segment, struct shop *shop)
{
    if (cove_mutex_lock(segment, &shop->lock, COVE_FOREVER) < 0)
        return cove_complain("lock");
    shop->tickets++;
    (void)cove_condition_signal(segment, &shop->changed);
    return cove_mutex_unlock(segment, &shop->lock);
}

int main(void)
{
    cove_segment *segment;
    struct shop *shop = shop_open(&segment);
    if (!shop)
        return 1;
    pid_t waiters[3];
    for (int i = 0; i < 3; i++)
        if ((waiters[i] = fork()) == 0)
            return take_ticket();
    if (cove_counter_wait(segment, &shop->waiting, 3, NULL, COVE_FOREVER) < 0)
        return cove_complain("waiting");
    (void)kill(waiters[0], SIGKILL);
    (void)waitpid(waiters[0], NULL, 0);
    int64_t served = 0;
    for (int i = 1; i < 3; i++)
        if (give_ticket(segment, shop) < 0 || cove_counter_wait(segment, &shop->served, i, &served, COVE_FOREVER) < 0)
            return cove_complain("served");
    printf("three waited, one was killed, %lld signals served the other two\n", (long long)served);
    int failed = 0, status;
    while (wait(&status) > 0)
        failed |= status;
    return failed || cove_close(segment) < 0;
}
