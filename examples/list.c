/* list.c - a linked list in shared memory. It lies at another address in each process, so its links are refs, not pointers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>

struct node {
    COVE_REF(struct node) next;
    int64_t value;
};
struct list {
    cove_mutex lock;
    COVE_REF(struct node) first;
};
static const struct cove_type list_type = {.name = "list", .version = 1, .size_bytes = sizeof(struct list)};

/* The block is taken and linked by one call, inside a transaction: no kill can leave it unlinked, or half filled. */
static int push(cove_segment *segment, struct list *list, int64_t value)
{
    if (cove_begin(segment) < 0 || cove_mutex_lock(segment, &list->lock, COVE_FOREVER) < 0)
        return cove_complain("push");
    cove_ref next = list->first.ref;
    if (cove_alloc_into(segment, &list->first.ref, sizeof(struct node)) < 0)
        return cove_complain("push"), cove_abort(segment), 1;
    struct node *node = COVE_AT(segment, list->first);
    node->next.ref = next;
    node->value = value;
    return cove_commit(segment);
}

int main(void)
{
    cove_segment *segment;
    void *object;
    if (cove_open(&segment, "example-list", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&object, segment, "list", &list_type, 0) < 0)
        return cove_complain("open");
    struct list *list = object;
    int64_t sum = 0;
    for (int64_t value = 1; value <= 10; value++)
        if (push(segment, list, value) != 0)
            return 1;
    for (struct node *node = COVE_AT(segment, list->first); node; node = COVE_AT(segment, node->next))
        printf("%lld ", (long long)node->value), sum += node->value;
    printf("make %lld\n", (long long)sum);
    return cove_close(segment) < 0 || sum != 55;
}
