/* chains.c - blocks in linked lists: taken, linked, unlinked and freed in transactions; and a spare block outside of any.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

static unsigned char pattern(uint32_t seed, uint32_t i)
{
    return (unsigned char)((seed + i) * 2654435761u >> 24);
}

static void fill_node(struct node *node, uint64_t next, uint32_t size_bytes, uint32_t seed)
{
    node->next.ref = next;
    node->size_bytes = size_bytes;
    node->seed = seed;
    for (uint32_t i = 0; i < size_bytes; i++)
        node->bytes[i] = pattern(seed, i);
}

static const struct node *check_node(const cove_segment *segment, cove_ref ref)
{
    const struct node *node = cove_at(segment, ref, sizeof *node);
    if (!node || !cove_at(segment, ref, sizeof *node + node->size_bytes))
        fault("a chain leads to 0x%llx, outside the segment", (unsigned long long)ref);
    for (uint32_t i = 0; i < node->size_bytes; i++)
        if (node->bytes[i] != pattern(node->seed, i))
            fault("byte %u of the block at 0x%llx (%u bytes) is not what was written", i, (unsigned long long)ref,
                  node->size_bytes);
    return node;
}

void check_chain(const cove_segment *segment, const struct chain *chain)
{
    uint64_t length = 0;
    for (cove_ref ref = chain->first.ref; ref != 0; length++) {
        if (length > LONGEST_CHAIN)
            fault("a chain of %llu blocks has no end", (unsigned long long)chain->length);
        ref = check_node(segment, ref)->next.ref;
    }
    if (length != chain->length)
        fault("a chain has %llu blocks and says %llu", (unsigned long long)length, (unsigned long long)chain->length);
}

static void change_length(struct worker *worker, struct chain *chain, uint64_t length)
{
    must(cove_save(worker->segment, &chain->length, sizeof chain->length), "save a length");
    chain->length = length;
}

/* One block in front: alloc_into stores the ref, or alloc and a saved field do. */
static void push(struct worker *worker, struct chain *chain)
{
    uint32_t size = (uint32_t)below(&worker->random, one_in(&worker->random, 20) ? 30000 : 1500);
    cove_ref next = chain->first.ref, ref = 0;
    if (one_in(&worker->random, 2)) {
        must(cove_alloc_into(worker->segment, &chain->first.ref, sizeof(struct node) + size), "alloc_into a chain");
        ref = chain->first.ref;
    } else {
        ref = cove_alloc(worker->segment, sizeof(struct node) + size);
        if (ref == 0)
            fault("alloc for a chain: %s", cove_last_error());
        must(cove_save(worker->segment, &chain->first, sizeof chain->first), "save a link");
        chain->first.ref = ref;
    }
    struct node *node = cove_at(worker->segment, ref, sizeof *node + size);
    if (!node)
        fault("a new block: %s", cove_last_error());
    fill_node(node, next, size, (uint32_t)next_random(&worker->random));
    change_length(worker, chain, chain->length + 1);
}

/* One block out, wherever it is. */
static void pop(struct worker *worker, struct chain *chain)
{
    cove_ref *link = &chain->first.ref;
    for (uint64_t steps = below(&worker->random, chain->length); steps > 0; steps--)
        link = &((struct node *)cove_at(worker->segment, *link, sizeof(struct node)))->next.ref;
    cove_ref ref = *link, next = check_node(worker->segment, ref)->next.ref;
    if (one_in(&worker->random, 2)) {
        must(cove_free_from(worker->segment, link), "free_from a chain");
    } else {
        must(cove_save(worker->segment, link, sizeof *link), "save a link");
        must(cove_free(worker->segment, ref), "free from a chain");
    }
    *link = next;
    change_length(worker, chain, chain->length - 1);
}

void do_chain(struct worker *worker)
{
    struct chain *chain = &worker->world->chains[below(&worker->random, CHAINS)];
    enum doing doing = one_in(&worker->random, 2) ? DOING_PUSH : DOING_POP;
    begin_doing(worker, doing);
    must(cove_begin(worker->segment), "begin");
    lock(worker, &chain->lock);
    if (one_in(&worker->random, 16))
        check_chain(worker->segment, chain);
    for (uint64_t i = 1 + below(&worker->random, 3); i > 0; i--)
        if (doing == DOING_PUSH && chain->length < LONGEST_CHAIN)
            push(worker, chain);
        else if (doing == DOING_POP && chain->length > 0)
            pop(worker, chain);
    must(one_in(&worker->random, 8) ? cove_abort(worker->segment) : cove_commit(worker->segment), "end a transaction");
    end_doing(worker, doing);
}

void do_spare(struct worker *worker)
{
    struct chain *chain = &worker->world->chains[below(&worker->random, CHAINS)];
    begin_doing(worker, DOING_SPARE);
    lock(worker, &chain->lock);
    if (chain->spare == 0)
        must(cove_alloc_into(worker->segment, &chain->spare, 1 + below(&worker->random, 5000)), "alloc_into a spare");
    else
        must(cove_free_from(worker->segment, &chain->spare), "free_from a spare");
    unlock(worker, &chain->lock);
    end_doing(worker, DOING_SPARE);
}

void free_chain(struct worker *worker, struct chain *chain)
{
    while (chain->first.ref != 0) {
        cove_ref ref = chain->first.ref;
        chain->first.ref = check_node(worker->segment, ref)->next.ref;
        must(cove_free(worker->segment, ref), "free a chain");
    }
    must(cove_free_from(worker->segment, &chain->spare), "free a spare");
}
