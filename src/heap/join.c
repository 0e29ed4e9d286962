/* join.c - parts of a transaction that are undone by themselves.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The part is the records of the outer journal behind the length that it had at the beginning. It is undone in two
 * walks, both from the newest record to the oldest, in phase ACTIVE:
 *
 *     1  bytes are put back; no record is touched
 *     2  each record is taken off, in one step with its effect: a block allocated is freed, a doomed one spared, a
 *        revision that no older record is about becomes even
 *
 * P1  After 1 the bytes are those of the beginning, whatever records of the part are left: so recovery, which undoes
 *     what is left, and then the rest of the transaction, ends in the bytes of before the transaction (J2). A killed
 *     1 is done again by it, as all records are there.
 * P2  A block's memory is free for others once its record is off; no record that is left has bytes in it, since those
 *     are newer than its allocation. (A block that is freed inside the transaction is doomed only.)
 * P3  A revision becomes even when all bytes of the part are back (1), and while its own record is there still:
 *     killed between, it is made odd again, and even (J4, J5). Older records that hold its bytes get its new value
 *     first.
 *
 * Locks stay: they are the transaction's. The heap's lock is taken only where the part has records of blocks. */
#include "heap/join.h"

int covei_join_begin(struct covei_lane *lane, struct covei_join *join)
{
    bool own = lane->depth == 0;
    int result = own ? covei_begin(lane) : 0;
    if (result < 0)
        return result;
    /* One deeper, also where it is our own: then nothing inside ends it by the short way of cove_commit. */
    lane->depth++;
    *join = (struct covei_join){.outer = COVEI_TAILS_OUTER(covei_tails_load(lane->shm)),
                                .newest_revision = lane->newest_revision,
                                .effects = lane->effects,
                                .revisions = lane->revisions,
                                .floor = lane->floor,
                                .depth = lane->depth,
                                .own = own};
    lane->floor = lane->depth;
    return 0;
}

/* Where nothing is saved any more, locks that were given back are free: the short ways of unlocking look at nothing but
 * the journal's length. */
static void release_marked(struct covei_lane *lane)
{
    for (; lane->marked != 0; lane->marked &= lane->marked - 1)
        covei_held_release(lane, (uint32_t)__builtin_ctz(lane->marked));
}

static void undo_part(struct covei_lane *lane, const struct covei_join *join)
{
    bool has_blocks = lane->effects - lane->revisions != join->effects - join->revisions;
    (void)covei_outer_undo(lane->segment, lane->shm, join->outer);
    lane->patience_ns = COVE_FOREVER;
    if (has_blocks && covei_settle_lock(lane) < 0) {
        lane->spoilt = true; /* `effects` stays, so that the commit does not go the short way */
        return;
    }
    covei_settle_records(lane, lane->shm, join->outer);
    if (has_blocks)
        covei_lock_drop(lane, &covei_heap(lane->segment)->lock);
    lane->newest_revision = join->newest_revision;
    lane->effects = join->effects;
    lane->revisions = join->revisions;
    if (COVEI_TAILS_OUTER(covei_tails_load(lane->shm)) == 0)
        release_marked(lane);
}

int covei_join_end(struct covei_lane *lane, struct covei_join *join, int result)
{
    assert(lane->depth >= join->depth && lane->floor == join->depth);
    lane->depth = join->depth - 1; /* a callback may have begun and not committed */
    lane->floor = join->floor;
    if (result < 0) {
        char sentence[COVEI_ERROR_BYTES]; /* why it failed, not how the undoing went */
        covei_error_save(sentence);
        if (join->own)
            (void)covei_abort(lane);
        else
            undo_part(lane, join);
        covei_error_restore(sentence);
    } else if (join->own) {
        int ended = covei_commit(lane); /* below 0: a join inside of this one spoilt it */
        result = ended < 0 ? ended : result;
    }
    return result;
}
