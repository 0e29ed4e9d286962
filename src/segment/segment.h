/* segment.h - one process's handle to a segment, and what the files of this layer offer each other and the layers
 * above.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Process-wide order of mutexes: covei_registry (all handles) before segment->mutex. Neither is held while waiting
 * for shared locks. */
#ifndef COVEI_SEGMENT_SEGMENT_H
#define COVEI_SEGMENT_SEGMENT_H

#include "base/base.h"
#include "base/error.h"
#include "os/os.h"
#include "region/region.h"
#include "segment/lane_shm.h"
#include "segment/segment_shm.h"

#include <cove/segment.h>
#include <pthread.h>

/* What is opened in a segment and must be closed before it: a stream's end, for instance. */
struct covei_child {
    struct covei_child *next, *previous;
    /* Called once, when the segment closes under it; the memory stays its owner's. */
    void (*close)(struct covei_child *child);
    void (*forget)(struct covei_child *child); /* likewise, in a forked child: the parent's end stays as it is */
};

#define COVEI_DEBTS 8

struct cove_segment {
    /* read in every call */
    unsigned char *base;
    _Atomic uint32_t epoch; /* of the process that opened it; covei_fork_word holds another in a forked child */
    uint32_t flags;
    _Atomic uint64_t known_size; /* header->size_bytes, as last looked at and verified */
    struct covei_header_shm *header;
    _Atomic uint64_t *states;
    _Atomic uint32_t *owners;
    struct covei_row_shm *rows;
    struct covei_lane_shm *lanes;
    uint32_t max_members, max_lanes;
    uint32_t row, generation;
    uint64_t heap_at; /* where the heap begins */
    uint64_t mapped_bytes;
    _Atomic bool closed; /* lingering: no more use, the mapping waits for the threads that have lanes */
    bool closing; /* the last close is under way; guarded by the registry */
    bool left_over; /* closing could not give back all: the row is left to recovery */
    bool may_fence; /* this process may fence all others (membarrier) */
    bool durable; /* header->durable: whoever changes something passes the gate first */

    struct covei_region region; /* mapped, grown, asked about locks */
    struct covei_place place; /* its name, and where that led when it was opened */
    struct covei_guarded *_Atomic guarded; /* with COVE_GUARD */
    int lock_file; /* holds our locks: a description of its own, never mapped, never passed on; -1: none */
    int alive_file; /* holds the lock on our row's byte: lock_file; with COVE_HELD_BY_CHILDREN one that is passed on */
    uint64_t device, inode; /* the region's, once others may find the handle; 0 before */
    uint32_t opens; /* guarded by the registry */
    uint32_t lane_count; /* threads of this process with a lane; guarded by the registry */
    struct cove_segment *next; /* in the registry */

    pthread_mutex_t mutex;
    struct covei_child *children; /* guarded by mutex */
    uint32_t recovering[COVEI_DEBTS]; /* rows + 1 that threads of this process are recovering; guarded by mutex */
    _Atomic uint32_t
        debts[COVEI_DEBTS]; /* rows + 1 whose locks were freed here, and the rest of which is still to be recovered */
    _Atomic bool has_debts;
    _Atomic int64_t debts_rest_until;
    const char *name; /* of place */
};

/* One thread's handle to its lane. */
struct covei_lane {
    struct covei_lane_shm *shm;
    struct cove_segment *segment;
    uint32_t id; /* owner field of lock words: index + 1 */
    uint32_t depth; /* of nested transactions */
    uint32_t before; /* bit n: held[n] was taken before the transaction, and is as `earlier[n]` says */
    uint32_t marked; /* bit n: held[n] was unlocked inside the transaction, and stays held until its end */
    uint32_t places; /* places of held[] below this may be taken; those above hold no lock */
    uint32_t effects; /* records in the outer journal that are not bytes, and how many of them are revisions */
    uint32_t revisions;
    uint32_t floor; /* at this depth a joined operation runs (heap/join.h): its transaction is not the user's to end */
    bool spoilt; /* a part of the transaction could not be undone: all of it has to be */
    uint64_t newest_revision; /* where the newest record of a revision ends in the outer journal; 0: there is none */
    uint64_t *outer; /* the outer journal's units, and how many there are: what covei_outer_of finds */
    uint64_t outer_capacity;
    struct {
        uint64_t offset;
        uint64_t generation;
    } earlier[COVEI_LANE_LOCKS];
    uint32_t settling_row; /* which, while `settling` */
    bool settling; /* inside the recovery of somebody: not to be entered again */
    bool lives; /* the mutex that is its sign of life is locked */
    int64_t patience_ns; /* how long settling waits for a lock of the library's */
    bool interruptible; /* the call under way is the user's wait, which cove_interrupt ends */
    uint32_t interrupts; /* covei_interrupts when it began */
    uint32_t waited; /* sleeps since sync's covei_enter, and the longest time that one holder was seen */
    int64_t saw_held_ns;
    struct covei_lane *next; /* of the same thread */
};

/* ---- process.c: threads, forks */

/* Which segment this thread used last. It lies in memory that the kernel zeroes in a forked child, however it was
 * forked, so that one comparison tells both whose segment it is and whose process. */
struct covei_cache {
    struct cove_segment *segment;
    unsigned char unused[COVEI_CACHE_LINE - sizeof(struct cove_segment *)];
};

/* `shm`, `id` and `lane` are about the segment that the cache names; they stand here, a load nearer, for the shortest
 * paths. */
struct covei_thread {
    struct covei_cache *cache;
    struct covei_lane_shm *shm;
    uint64_t id;
    struct covei_lane *lane;
    struct covei_lane *lanes; /* in all segments */
    void *robust_list; /* where libc keeps the robust mutexes of this thread, the lanes' among them */
};
extern _Thread_local struct covei_thread covei_thread;
extern uint32_t *covei_fork_word;

static inline bool covei_segment_current(const struct cove_segment *segment)
{
    /* relaxed: changes once, in the handler of a signal, as a hint to look at more. */
    return *covei_fork_word == atomic_load_explicit(&segment->epoch, memory_order_relaxed);
}

int covei_process_prepare(void); /* once a process, and again after a fork */
uint32_t covei_process_epoch(void);
void covei_thread_begin(void); /* have the lanes of this thread given back when it ends; give it a cache */
bool covei_cache_is_shared(void); /* this thread has none of its own: it always goes the longer way */
void covei_cache_forget(const struct covei_lane *lane); /* NULL: whatever lane it is about */
/* A thread that is cancelled while it holds the registry, or somebody's recovery, would hold it for ever. */
int covei_cancel_hold(void);
void covei_cancel_restore(int before);
void covei_registry_lock(void);
void covei_registry_unlock(void);
extern struct cove_segment *covei_registry; /* guarded by covei_registry_lock */

/* Is the handle usable in this process? 0, COVE_EFORKED, COVE_ECLOSED, with a sentence. */
int covei_segment_usable(const struct cove_segment *segment);

/* ---- handle.c: mapping, bounds */

uint64_t covei_heap_offset(uint32_t max_members);
uint32_t covei_layout_signature(void);
void covei_segment_locate(
    struct cove_segment *segment); /* set the pointers into the mapping from base and max_members */
int covei_segment_map(struct cove_segment *segment, uint64_t size_bytes, uint64_t max_size_bytes);
/* What flags of opening want of the mapping: to be guarded, to stay out of dumps. */
int covei_segment_protect(struct cove_segment *segment, uint32_t flags);
int covei_header_verify(const struct covei_header_shm *header, const char *name, uint64_t file_bytes);

/* Does [offset, offset + size) lie in the usable part? Looks at the header again where it has grown. */
bool covei_grown_to(struct cove_segment *segment, uint64_t end);
/* Is all of the segment mapped here? A process with little address space maps less than the segment may grow to; it
 * must not recover anybody then, as it could not undo what lies beyond. */
static inline bool covei_sees_all(const struct cove_segment *segment)
{
    return atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire) <= segment->mapped_bytes;
}
/* A file: segment that was in use when the machine stopped: its bytes are of no one moment. */
bool covei_segment_unclean(const struct cove_segment *segment);
bool covei_segment_broken(const struct cove_segment *segment); /* with COVE_GUARD: it was truncated under us */
/* Does that descriptor lead to the segment still, or did the program close it and open something else? */
bool covei_segment_owns(const struct cove_segment *segment, int file);
/* Memory for [offset, offset + size_bytes), or an error with a sentence. Repeating it changes nothing. */
int covei_segment_reserve(struct cove_segment *segment, uint64_t offset, uint64_t size_bytes);
int covei_sees_too_little(const struct cove_segment *segment); /* -ENOMEM with a sentence */

static inline bool covei_inside(const struct cove_segment *segment, uint64_t offset, uint64_t size_bytes)
{
    uint64_t end = offset + size_bytes;
    if (COVEI_UNLIKELY(end < offset))
        return false;
    /* relaxed: a stale size only sends us the slow way. */
    return COVEI_LIKELY(end <= atomic_load_explicit(&segment->known_size, memory_order_relaxed)) ||
           covei_grown_to((struct cove_segment *)segment, end);
}

/* Is [offset, offset + 8) inside and aligned, as far as we know without looking again? For the shortest paths. */
static inline bool covei_word_inside(const struct cove_segment *segment, uint64_t offset)
{
    /* relaxed: as above. */
    uint64_t words = (atomic_load_explicit(&segment->known_size, memory_order_relaxed) - segment->heap_at) / 8;
    uint64_t from_heap = offset - segment->heap_at;
    return (from_heap >> 3 | from_heap << 61) < words; /* rotated: what is not aligned, or below the heap, is huge */
}

static inline void *covei_address(const struct cove_segment *segment, uint64_t offset)
{
    return segment->base + offset;
}

static inline uint64_t covei_offset(const struct cove_segment *segment, const void *address)
{
    return (uint64_t)((const unsigned char *)address - segment->base);
}

/* Is it an aligned address of the part of the segment that users may have, at least `size_bytes` from its end? */
static inline bool covei_user_address(const struct cove_segment *segment, const void *address, uint64_t size_bytes,
                                      uint64_t alignment)
{
    uintptr_t at = (uintptr_t)address, base = (uintptr_t)segment->base;
    return at >= base + segment->heap_at && (at & (alignment - 1)) == 0 && covei_inside(segment, at - base, size_bytes);
}

/* ---- roster.c: members */

#define COVEI_STATE_OF(word) ((uint32_t)(word))
#define COVEI_GENERATION_OF(word) ((uint32_t)((word) >> 32))
#define COVEI_STATE_WORD(generation, state) ((uint64_t)(generation) << 32 | (uint32_t)(state))

int covei_roster_claim(struct cove_segment *segment);
void covei_roster_release(struct cove_segment *segment);
bool covei_row_used(uint64_t state_word);
/* Has the row's member died? False for our own. Asks the kernel. */
bool covei_row_dead(const struct cove_segment *segment, uint32_t row);
/* Has that member (row and generation) gone, by death or by closing? */
bool covei_member_gone(const struct cove_segment *segment, uint32_t row, uint32_t generation);
void covei_row_describe(const struct cove_segment *segment, uint32_t row, struct cove_member_info *info);
/* Living members other than this process. */
uint32_t covei_roster_others(const struct cove_segment *segment);

/* ---- lane.c */

/* This thread's lane, or an error: COVE_EFORKED, COVE_ECLOSED, -EPERM (read-only), -EUSERS. */
int covei_lane_claim(struct covei_lane **lane, struct cove_segment *segment);
/* Is covei_thread about that segment? */
static inline bool covei_cached(const cove_segment *segment)
{
    return COVEI_LIKELY(segment && covei_thread.cache->segment == segment);
}
static inline int covei_lane_get(struct covei_lane **lane, struct cove_segment *segment)
{
    /* relaxed: finds the plain mistakes. */
    if (covei_cached(segment) && !atomic_load_explicit(&segment->closed, memory_order_relaxed)) {
        *lane = covei_thread.lane;
        return 0;
    }
    return covei_lane_claim(lane, segment);
}
void covei_lane_release(struct covei_lane *lane); /* rolls back what it is in the middle of */
void covei_lane_forget(const struct cove_segment *segment); /* in a forked child: it is the parent's */
void covei_lanes_forget(void);

/* The futex word that the kernel marks when the lane's thread ends; NULL where there is none. */
_Atomic uint32_t *covei_lane_life(struct covei_lane_shm *shm);
bool covei_lane_died(struct covei_lane_shm *shm);
#define COVEI_NO_LANE UINT32_MAX
/* Ask the kernel to wake whoever sleeps on that thread's sign of life when the thread ends: it does so for a word that
 * is marked as waited for. Returns the word to sleep on and what it holds; NULL where there is none, or the thread has
 * ended already: then somebody else is recovering it, and will wake us. */
_Atomic uint32_t *covei_lane_watch(struct cove_segment *segment, uint32_t lane, uint32_t *value);

/* ---- wait.c: sleeping, in slices, until something changes, somebody dies, or cove_interrupt is called */

/* The time and the interrupts of one wait. */
struct covei_wait {
    const struct covei_lane *lane;
    int64_t begun, deadline;
    uint32_t interrupts; /* covei_interrupts when the public call began */
    bool interruptible;
};
/* Lanes whose death is to end a sleep: those that have what is waited for. */
struct covei_watch {
    uint32_t lanes[COVEI_PARKS_MAX - 2];
    uint32_t count;
    uint32_t hints; /* of these the last: whose death is good to know of, but not missed for long without */
    bool more; /* there are others, for which there was no place */
};
extern _Atomic uint32_t covei_interrupts;

void covei_wait_start(struct covei_wait *wait, const struct covei_lane *lane, int64_t timeout_ns);
/* -ETIMEDOUT; -EINTR, COVE_ETRUNCATED (with a sentence); or 0: go on. */
int covei_wait_over(const struct covei_wait *wait, const struct cove_segment *segment);
void covei_watch_add(struct covei_watch *watch, uint32_t lane);
/* Sleep while *word == expected, at most for a slice: an eighth of the time waited so far, between 10 and 250 ms, so that
 * a wake-up that was lost to a kill lengthens no wait by more; 10 ms at most where a death would not wake us. */
void covei_wait_sleep(struct cove_segment *segment, const struct covei_wait *wait, _Atomic uint32_t *word,
                      uint32_t expected, const struct covei_watch *watch, int64_t most_ns);
/* The same for a slice of the caller's. */
void covei_sleep(struct cove_segment *segment, _Atomic uint32_t *word, uint32_t expected,
                 const struct covei_watch *watch, int64_t slice_ns, uint32_t interrupts);
/* This lane waits for that from now on (enum covei_waits), or for nothing any more. */
void covei_wait_note(struct covei_lane *lane, uint64_t waits_for);
void covei_wait_done(struct covei_lane *lane);

/* ---- deadlock.c */

/* Does this lane wait in a cycle of owners that stood at one moment, and is it the one to be told? -EDEADLK, with a
 * sentence; 0: no. `waited_ns`: for how long it has waited. */
int covei_deadlock(struct covei_lane *lane, int64_t waited_ns);
#define COVEI_DEADLOCK_NS INT64_C(100000000) /* how long a wait lasts before it is looked at */

/* ---- lock.c: the lock word */

#define COVEI_LOCK_OWNER UINT64_C(0x1fffffff)
#define COVEI_LOCK_FAIR UINT64_C(0x20000000) /* of fair mutexes; part of the lock, never changes */
#define COVEI_LOCK_RECOVERED UINT64_C(0x40000000)
#define COVEI_LOCK_WAITERS UINT64_C(0x80000000)
#define COVEI_LOCK_GENERATION(word) ((word) >> 32)

int covei_lock_slow(struct covei_lane *lane, _Atomic uint64_t *word, int64_t timeout_ns);
/* Free a word that a lane holds, in recovery's name; `flags` is 0 or COVEI_LOCK_RECOVERED. Wakes all. */
void covei_lock_give(struct cove_segment *segment, _Atomic uint64_t *word, uint64_t held_value, uint64_t flags);
/* Wake whoever should look at the word: it is free, or may be. */
void covei_lock_nudge(struct cove_segment *segment, _Atomic uint64_t *word);
/* "name (pid 1, thread 2)" of who has a lane. */
#define COVEI_LANE_NAME_BYTES 80
void covei_lane_name(const struct cove_segment *segment, uint32_t lane, char text[COVEI_LANE_NAME_BYTES]);
/* Release whatever the place of held[] holds: a word, or a mark of the layers above. */
void covei_held_release(struct covei_lane *lane, uint32_t place);
/* An empty place of held[], or COVEI_LANE_LOCKS with a sentence. */
uint32_t covei_held_find(struct covei_lane *lane);
/* The place of that word in held[]; COVEI_LANE_LOCKS where there is none. */
uint32_t covei_lock_place(const struct covei_lane_shm *shm, uint64_t offset);
void covei_lock_forget(struct covei_lane_shm *shm, uint64_t offset);
bool covei_lane_holds(const struct covei_lane_shm *shm); /* anything */
bool covei_lane_holds_lock(const struct covei_lane_shm *shm); /* but memberships of barriers */
void covei_lane_leave_barriers(struct covei_lane_shm *shm);
uint32_t *covei_lock_futex(_Atomic uint64_t *word);

/* The shortest way to take a free word: false where it is not free, or the lane's first place is in use.
 * The place in held[] is filled before the word is taken and emptied after it is given back: whoever finds the word
 * naming a dead lane finds it there. */
static inline bool covei_lock_try(struct covei_lane_shm *shm, uint64_t id, uint64_t offset, _Atomic uint64_t *word)
{
    if (COVEI_UNLIKELY(atomic_load_explicit(&shm->held[0], memory_order_relaxed) !=
                       0)) /* written by this thread alone */
        return false;
#ifndef COVE_PLANT_LATE_OWNER
    atomic_store_explicit(&shm->held[0], offset, memory_order_relaxed);
    covei_order();
#endif
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed); /* relaxed: the CAS below acquires */
    bool taken =
        (uint32_t)old == 0 &&
        /* acquire, edge U: what the last holder did before it gave the word back is seen. release: whoever sees
                  * the word taken sees the place filled. */
        atomic_compare_exchange_strong_explicit(word, &old, old | id, memory_order_acq_rel, memory_order_relaxed);
#ifdef COVE_PLANT_LATE_OWNER
    atomic_store_explicit(&shm->held[0], offset, memory_order_relaxed);
#endif
    if (COVEI_LIKELY(taken))
        return true;
    atomic_store_explicit(&shm->held[0], 0, memory_order_relaxed);
    return false;
}

/* ---- gate.c: in durable segments, whoever begins to change something passes a gate, which who copies the segment
 * holds shut */

/* For a lane that holds nothing: about to take the word, whose offset stands in held[place]. 0, or as a lock that
 * cannot be had, and then held[place] is empty. */
int covei_gate_pass(struct covei_lane *lane, uint32_t place, uint64_t offset, int64_t timeout_ns);
void covei_gate_enter(struct covei_lane *lane); /* until covei_gate_leave; waits as long as it takes */
void covei_gate_leave(struct covei_lane *lane);
/* The same without waiting. 1: entered; 0: there is no gate, or the lane is in the middle of something anyway, and
 * there is nothing to leave; -EAGAIN: it is shut. And waiting until it is open: 0, or as a lock that cannot be had.
 * */
int covei_gate_try_enter(struct covei_lane *lane);
int covei_gate_wait_open(struct covei_lane *lane, int64_t timeout_ns);
/* For who has no lane: is it shut? Then wait until it is open. */
bool covei_gate_is_shut(const struct cove_segment *segment);
void covei_gate_wait(struct cove_segment *segment);
/* Nothing held, no transaction, no journal. */
bool covei_lane_idle(const struct covei_lane_shm *shm);

/* Take: 0, COVE_RECOVERED, -EBUSY, -ETIMEDOUT, -EDEADLK, -ENOLCK, COVE_ECORRUPT. */
static inline int covei_lock_take(struct covei_lane *lane, _Atomic uint64_t *word, int64_t timeout_ns)
{
    if (COVEI_LIKELY(!lane->segment->durable &&
                     covei_lock_try(lane->shm, lane->id, covei_offset(lane->segment, word), word)))
        return 0;
    return covei_lock_slow(lane, word, timeout_ns);
}

/* The word was given back, with the bit for waiters still on it, or its place in held[] is not the first. */
void covei_lock_released(struct covei_lane_shm *shm, uint64_t offset, _Atomic uint64_t *word, uint64_t old);

/* Release a word that this lane holds: one addition takes the owner off and makes the generation one more. */
static inline void covei_lock_release(struct covei_lane_shm *shm, uint64_t id, uint64_t offset, _Atomic uint64_t *word)
{
    /* release, edge U: pairs with the acquire of whoever takes it next. */
    uint64_t old = atomic_fetch_add_explicit(word, (UINT64_C(1) << 32) - id, memory_order_release);
    covei_order();
    if (COVEI_LIKELY(!(old & COVEI_LOCK_WAITERS) &&
                     atomic_load_explicit(&shm->held[0], memory_order_relaxed) == offset))
        atomic_store_explicit(&shm->held[0], 0, memory_order_release); /* not before the word is given back */
    else
        covei_lock_released(shm, offset, word, old);
}

/* Likewise one whose place is known to be the first. */
static inline void covei_lock_release_first(struct covei_lane_shm *shm, uint64_t id, uint64_t offset,
                                            _Atomic uint64_t *word)
{
    uint64_t old = atomic_fetch_add_explicit(word, (UINT64_C(1) << 32) - id, memory_order_release); /* as above */
    covei_order();
    if (COVEI_LIKELY(!(old & COVEI_LOCK_WAITERS)))
        atomic_store_explicit(&shm->held[0], 0, memory_order_release);
    else
        covei_lock_released(shm, offset, word, old);
}

static inline void covei_lock_drop(struct covei_lane *lane, _Atomic uint64_t *word)
{
    covei_lock_release(lane->shm, lane->id, covei_offset(lane->segment, word), word);
}

/* ---- journal.c; writing records is in journal.h */

void covei_inner_abort(struct covei_lane *lane);
/* A record of bytes at the end of the outer journal, which has room, leaving out lock words that the lane holds and that
 * lie among them. */
void covei_outer_write_around(struct covei_lane *lane, uint64_t offset, uint64_t size_bytes);
void covei_outer_locate(struct covei_lane *lane); /* the journal's block has changed */

struct covei_entry {
    uint32_t kind;
    uint64_t offset;
    uint64_t size_bytes;
    const void *bytes;
    uint64_t units; /* of the whole record */
};
/* The record that ends at unit `end` of a lane's outer journal. False: there is none, or it is not one. */
bool covei_outer_read(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t end,
                      struct covei_entry *entry);
/* Make a record of another lane say nothing, as part of this lane's inner change. */
void covei_outer_void(struct covei_lane *lane, const struct covei_entry *entry);
/* Where a record of bytes holds some of those at `offset`, have it hold these. */
void covei_outer_patch(const struct covei_entry *entry, uint64_t offset, const void *bytes, uint64_t size_bytes);
/* Put the bytes back; the journal's lengths and phase follow. Idempotent. For the owner of the lane, or of its
 * recovery. */
void covei_inner_undo(struct cove_segment *segment, struct covei_lane_shm *shm);
/* Of the outer journal's part behind unit `from`. Returns where the newest record of a revision there ends; 0: none. */
uint64_t covei_outer_undo(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t from);
/* The lane's transaction is over: undo it, unless it is committed; bring its revisions to rest. The phase is UNDONE or
 * COMMITTED then; locks and blocks are left. Waits for nothing; can be done again. */
void covei_outer_end(struct cove_segment *segment, struct covei_lane_shm *shm);
#define COVEI_REVISIONS_MAX 65536u /* records of revisions in a transaction: putting back each stretch looks at them */
/* The record of a revision that ends there. False: there is none. */
bool covei_revision_read(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t end,
                         struct covei_entry *entry);
/* Make a revision that is recorded odd, or even, unless it is. */
void covei_revision_step(const struct cove_segment *segment, uint64_t offset, bool odd);
/* Make all recorded ones even, from the newest one's record on. */
void covei_revisions_settle(const struct cove_segment *segment, const struct covei_lane_shm *shm, uint64_t newest);
void covei_tails_set_phase(struct covei_lane_shm *shm, enum covei_phase phase);
/* Check a lane's journals without changing them: NULL, or what is wrong. */
const char *covei_journal_check(const struct cove_segment *segment, const struct covei_lane_shm *shm);

/* ---- recovery.c */

/* End whatever this thread's lane is in the middle of, as if it had died. */
void covei_lane_roll_back(struct covei_lane *lane);
/* Put back what the outer journal holds and free the locks, except those whose places are in the mask `keep`; blocks
 * are left to settle_lane. */
void covei_lane_undo(struct covei_lane *lane, uint32_t keep, uint64_t flags);

/* Free the locks of a dead lane, after putting back what it had changed under them. Waits for nothing. Returns true
 * if it was dead and is done; the rest of its member is noted as a debt. */
bool covei_recover_locks(struct covei_lane *lane, uint32_t lane_index);
/* Recover a member that has died, and lanes whose thread has. Returns 1 if there was something to do, 0, or an error.
 * */
int covei_recover_row(struct covei_lane *worker, uint32_t row, int64_t patience_ns);
/* Recover what is left in the row that this process holds the byte of, but has not taken yet: who claims a row that
 * is not empty recovers it first. */
int covei_recover_inherited(struct covei_lane *worker);
/* Free lanes of the dead that hold nothing but locks. For a thread that finds no lane, and so cannot be a worker. */
bool covei_recover_free_lanes(struct cove_segment *segment);
/* Pay the debts, waiting for internal locks only briefly. Called at the end of public calls that hold no internal
 * lock. */
void covei_recover_debts(struct covei_lane *worker);
/* Look at up to `most` rows, going on where the last look of any member ended. */
void covei_recover_some(struct cove_segment *segment, uint32_t most);
int64_t covei_recover_all(struct cove_segment *segment, int64_t patience_ns); /* for each lock of the library's */
#define COVEI_PATIENCE_NS INT64_C(2000000000) /* of calls that were made to recover */

/* ---- grow.c */

/* Make the segment larger by at least `more_bytes`. 0, -ENOSPC with a sentence, ... The lane holds no internal lock.
 * */
int covei_segment_grow(struct covei_lane *lane, uint64_t more_bytes);

/* ---- what this layer needs of those above: heap and objects. Filled in by src/object/upper.c. */

struct covei_upper {
    uint32_t signature; /* of the layouts of heap and directory */
    uint64_t features; /* types that this library knows: bit n, type n */
    void (*format)(struct cove_segment *segment); /* roots of heap and directory in a segment that is being built */
    /* Perform what `target`'s outer journal says about blocks in its phase, and give its journal blocks back; its
     * tails are 0 then. 0 or an error (nothing is lost: it is done again). Takes the heap's lock in the worker's
     * name. */
    int (*settle_lane)(struct covei_lane *worker, struct covei_lane_shm *target);
    /* Free the blocks that belong to the row's member. */
    int (*settle_row)(struct covei_lane *worker, uint32_t row);
    /* Let every object take note that the member is gone. */
    int (*settle_objects)(struct covei_lane *worker, uint32_t row, uint32_t generation);
    /* Take back what a place of held[] holds that is no lock word: of a lane that gave it up, died, or whose thread
     * ended (`died`). Waits for nothing; idempotent; the place is emptied by the caller. */
    void (*mark_gone)(struct cove_segment *segment, uint64_t held, bool died);
    /* Is no object in the middle of a change that no lane tells of? Under the gate. */
    int (*objects_quiet)(struct covei_lane *worker, int64_t patience_ns);
};
extern const struct covei_upper covei_upper;

/* ---- open.c, close.c */

void covei_child_add(struct cove_segment *segment, struct covei_child *child);
void covei_child_remove(struct cove_segment *segment, struct covei_child *child);
void covei_child_drop(struct cove_segment *segment, struct covei_child *child); /* likewise, in a forked child */
/* Count a lane of this process in or out. The last one out of a segment that nobody has open ends the handle. */
void covei_handle_lane_begins(struct cove_segment *segment);
void covei_handle_lane_ends(struct cove_segment *segment);

#endif
