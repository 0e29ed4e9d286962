/* mutex.pml - the lock word as a mutex, and its recovery.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What: LANES lanes, each a thread of a member of its own, take one lock, change two words under it in a
 * transaction, and give it back, for ever. CRASHES of them are killed, each at any step: while they wait, hold,
 * commit, abort, release, recover somebody. A lane that was recovered is claimed by a new thread.
 * Of: src/segment/segment.h (covei_lock_try, covei_lock_release), lock.c (covei_lock_slow, try_plain, names_nobody,
 * sleep_plain, pass_on, covei_lock_released, covei_lock_give, covei_lock_nudge), recovery.c (covei_recover_locks,
 * covei_recover_row, free_dead_lane, free_locks, free_one_lock, covei_lane_undo, settle_lanes),
 * src/heap/transaction.c (covei_save, covei_commit, covei_abort).
 *
 * Left out: all but one place of held[]; a journal of more than one record, and the inner one; blocks of the heap;
 * the gate; the search for cycles; how long anything takes. covei_lock_try and spin_take are one, as they differ in
 * what words they dare. Recovery's claim is the kernel's byte: one has it, and its death drops it. A death is known
 * at once; what others do before they know of it they do as well while the victim is merely slow. A slice may end
 * at any moment (NO_SLICES: never).
 * POLLS: who would sleep looks again, and WAITERS is not modelled: for what is wrong with the lock, not with its
 * sleepers.
 * NO_DATA: nothing is changed under the lock. RESTS: lanes may stop for ever when they hold nothing, so that who is
 * left asleep is seen. TIMEOUTS: waiters give up.
 * Lanes are alike, so the first to die may be called 1, the second 1 or 2. Lane 1 alone aborts, and commits with
 * effects, unless ALL_ABORT.
 * Memory: sequentially consistent. The word is changed by atomic read-modify-writes alone, with acquire and release
 * (edge U); what the dead stored is seen in program order by who knows of the death through the kernel. The
 * generation, of which the word never sees the same twice, is kept as the set of lanes that have seen the present
 * one.
 *
 * Properties. Taking: nobody living has the lock; the guarded words are as when a change was acknowledged last (so
 * recovery undid what was not, and nobody's acknowledged change is undone later); RECOVERED is told exactly to the
 * first who takes the lock after somebody died with it (also one who had committed but not released). Holding: the
 * word names the holder, and nobody changed the words. Waiting: a word never names a lane that does not list it
 * (I1; COVE_ECORRUPT otherwise). A lane that is claimed anew is clean. Without a crash nobody is left asleep,
 * though nothing wakes by itself (no invalid end state). Each process being fair, there is no cycle in which nobody
 * takes the lock. (Who gets it is not promised: see fair.pml.)
 * What sleep is sliced for: NO_SLICES with a crash leaves somebody asleep, as a woken waiter is killed.
 *
 * Bounds: 3 lanes, 2 crashes: 3.1 M states. 3 crashes, 4 lanes: with `make soak`. Mutants: models.py. */
#ifndef LANES
#define LANES 3
#endif
#ifndef CRASHES
#define CRASHES 2
#endif

#define NOBODY 0
#define BIT(lane) (1 << (lane))
#define IN(set, lane) (((set) & BIT(lane)) != 0)
#define ADD(set, lane) set = set | BIT(lane)
#define REMOVE(set, lane) set = set & ~BIT(lane)

/* ---- the lock word. Of the generation all that matters is which lanes have seen the one that it has. */
byte owner;
bit waiters, recovered;
byte fresh;

/* ---- lanes */
byte held; /* whose held[] has the word's offset */
byte saved; /* whose journal covers its record */
byte stale; /* whose record is older than the last acknowledged change */
#define ACTIVE 0
#define UNDONE 1
#define COMMITTED 2
byte phase[LANES + 1];

/* ---- the two words that the lock guards: 0: as when a change was acknowledged last; 1: otherwise */
bit first, second;

/* ---- the kernel */
byte alive = (1 << (LANES + 1)) - 2;
byte asleep; /* in a futex wait on the word */
byte recoverer[LANES + 1]; /* who has the recovery byte of the lane's member */
byte unclaimed; /* lanes of the dead with which recovery is done */

/* ---- ghosts */
byte inside; /* who has the lock, in the users' eyes */
bit owed; /* somebody died with the lock, and the next is to be told */

inline look()
{
    seen = owner; seen_waiters = waiters; seen_recovered = recovered; ADD(fresh, id)
}
inline forget()
{
    seen = NOBODY; seen_waiters = 0; seen_recovered = 0; REMOVE(fresh, id)
}
#define UNCHANGED (owner == seen && waiters == seen_waiters && recovered == seen_recovered && IN(fresh, id))

inline take_word(flag)
{
    assert(inside == NOBODY || !IN(alive, inside));
    assert(recovered == owed);
    assert(!first && !second);
    owner = id; waiters = flag; recovered = 0; inside = id; owed = 0;
    forget()
}

#ifdef ALL_ABORT
#define ABORTS(lane) true
#else
#define ABORTS(lane) (lane == 1)
#endif
#ifdef FORGETS_PHASE
#define MAY_UNDO
#else
#define MAY_UNDO && phase[target] == ACTIVE
#endif
#ifdef BLIND_FREE
#define MAY_GIVE(lane) true
#else
#define MAY_GIVE(lane) (owner == lane)
#endif
/* covei_lock_give, whose CAS is tried again while others set WAITERS */
inline give_word(lane, flag)
{
    if
    :: MAY_GIVE(lane) ->
        had_waiters = waiters; owner = NOBODY; waiters = 0; recovered = flag; fresh = 0;
        if :: inside == lane -> inside = NOBODY :: else fi
    :: else
    fi
}

#ifdef POLLS
#define SET_WAITERS 0
#define wake_all() had_waiters = 0
#else
#define SET_WAITERS 1
#define wake_all() if :: had_waiters -> d_step { asleep = 0; had_waiters = 0 } :: else fi
inline wake_one()
{
    if
    :: asleep == 0
    :: IN(asleep, 1) -> REMOVE(asleep, 1)
    :: IN(asleep, 2) -> REMOVE(asleep, 2)
    :: IN(asleep, 3) -> REMOVE(asleep, 3)
#if LANES > 3
    :: IN(asleep, 4) -> REMOVE(asleep, 4)
#endif
    fi
}
#endif

inline acknowledge()
{
    REMOVE(stale, id); stale = saved & ~BIT(id); first = 0; second = 0
}

proctype lane(byte id)
{
    byte seen, target;
    bit seen_waiters, seen_recovered, had_waiters, settling, flag;

born:
    {
        atomic { target = 0; settling = 0; flag = 0; had_waiters = 0; forget() }
        if
        :: true -> ADD(held, id) /* covei_lock_try, covei_lock_slow */
#ifdef RESTS
        :: goto rest
#endif
        :: !IN(alive | unclaimed, 1) -> target = 1; settling = 1; goto recover
#if CRASHES > 1
        :: !IN(alive | unclaimed, 2) -> target = 2; settling = 1; goto recover
#endif
#if CRASHES > 2
        :: !IN(alive | unclaimed, 3) -> target = 3; settling = 1; goto recover
#endif
        fi;

#ifdef LATE_OWNER
        atomic { REMOVE(held, id); look() };
        atomic { if :: seen == NOBODY && UNCHANGED -> take_word(seen_waiters) :: else -> goto not_late fi };
        ADD(held, id);
        goto got;
not_late:
        ADD(held, id);
#endif
#ifndef POLLS
        /* covei_lock_try, spin_take */
        atomic { look() };
        do
        :: seen != NOBODY -> break
        :: else -> atomic { if :: UNCHANGED -> take_word(seen_waiters); goto got :: else -> look() fi }
        od;
#endif

wait: /* wait_and_take */
        atomic { look() };
        do
        :: seen != NOBODY -> break
        :: else -> atomic { if :: UNCHANGED -> take_word(SET_WAITERS); goto got :: else -> look() fi }
        od;
        /* names_nobody */
        if
        :: IN(held, seen)
        :: else -> assert(!(owner == seen && recovered == seen_recovered && IN(fresh, id)))
        fi;
        if
        :: atomic { !IN(alive, seen) -> target = seen; forget(); goto recover }
        :: IN(alive, seen)
        fi;
#ifdef TIMEOUTS
        if
        :: goto pass_on
        :: true
        fi;
#endif
#ifndef POLLS
        /* sleep_plain */
        if
        :: seen_waiters
        :: else -> atomic { if :: UNCHANGED -> waiters = 1; seen_waiters = 1 :: else -> goto wait fi }
        fi;
        atomic {
            if
            :: owner == seen && waiters && recovered == seen_recovered -> ADD(asleep, id); forget()
            :: else -> goto wait
            fi
        };
        if
        :: !IN(asleep, id)
#ifndef NO_SLICES
        :: REMOVE(asleep, id)
#endif
        fi;
#endif
        goto wait;

#ifdef TIMEOUTS
pass_on:
        atomic { look() };
#ifndef GIVES_UP_SILENTLY
        do
        :: seen != NOBODY && !seen_waiters ->
            atomic { if :: UNCHANGED -> waiters = 1; break :: else -> look() fi }
        :: seen == NOBODY -> atomic { wake_one() }; break
        :: seen != NOBODY && seen_waiters -> break
        od;
#endif
        REMOVE(held, id);
        goto born;
#endif

got:
progress_got:
#ifdef NO_DATA
        skip;
#else
        if
        :: goto release
        :: d_step { ADD(saved, id); REMOVE(stale, id) } /* J1 of journal.c */
        fi;
        first = 1;
        second = 1;
        if
        :: d_step { REMOVE(saved, id); acknowledge() }
        :: ABORTS(id) -> d_step { phase[id] = COMMITTED; acknowledge() }
        :: ABORTS(id) -> goto abort
        fi;
#endif

release: /* covei_lock_release, covei_lock_released */
#ifdef CLEARS_FIRST
        REMOVE(held, id);
#endif
        atomic {
            assert(owner == id && inside == id && !first && !second);
            had_waiters = waiters; owner = NOBODY; fresh = 0; inside = NOBODY
        };
        REMOVE(held, id);
#ifndef POLLS
        if
        :: had_waiters ->
            atomic { look() };
            do
            :: seen == NOBODY && seen_waiters ->
                atomic { if :: UNCHANGED -> waiters = 0; break :: else -> look() fi }
            :: else -> goto settle_own
            od;
            atomic { wake_one() }
        :: else
        fi;
#endif
settle_own:
        if
        :: phase[id] != ACTIVE -> d_step { REMOVE(saved, id); REMOVE(stale, id); phase[id] = ACTIVE }
        :: phase[id] == ACTIVE
        fi;
        goto born;

abort: /* covei_abort: covei_lane_undo */
        second = IN(stale, id);
        first = IN(stale, id);
        phase[id] = UNDONE;
        d_step { give_word(id, 0) };
        wake_all();
        REMOVE(held, id);
        goto settle_own;

recover: /* covei_recover_locks, or, settling, covei_recover_row */
        atomic { if :: recoverer[target] == NOBODY -> recoverer[target] = id :: else -> goto recovered_not fi };
#ifndef LAZY_CLAIM
        if
        :: IN(alive | unclaimed, target) -> recoverer[target] = NOBODY; goto recovered_not
        :: !IN(alive | unclaimed, target)
        fi;
#endif
        /* free_dead_lane */
#ifdef EARLY_FREE
        d_step { if :: IN(held, target) -> give_word(target, 1) :: else fi };
        wake_all();
        REMOVE(held, target);
#endif
#ifndef NAIVE_RECOVERY
        if
        :: IN(saved, target) MAY_UNDO ->
            second = IN(stale, target);
            first = IN(stale, target)
        :: else
        fi;
#endif
        if :: phase[target] == ACTIVE -> phase[target] = UNDONE :: else fi;
        if
        :: IN(held, target) ->
            d_step { had_waiters = 1; give_word(target, 1) };
            wake_all();
            REMOVE(held, target)
        :: else
        fi;
        if
        :: settling ->
            d_step { REMOVE(saved, target); REMOVE(stale, target); phase[target] = ACTIVE };
            ADD(unclaimed, target)
        :: else
        fi;
        recoverer[target] = NOBODY;
recovered_not:
        if
        :: settling -> goto born
        :: else -> target = 0; goto wait
        fi
    } unless { !IN(alive, id) };
    d_step { seen = 0; target = 0; seen_waiters = 0; seen_recovered = 0; had_waiters = 0; settling = 0 };
#ifndef NO_HEIRS
end_dead: /* find_lane, by a new thread */
    d_step {
        IN(unclaimed, id) ->
        assert(!IN(held, id) && !IN(saved, id) && phase[id] == ACTIVE && owner != id);
        REMOVE(unclaimed, id); ADD(alive, id)
    };
    goto born;
#endif
rest:
end_rest:
    false
}

proctype killer()
{
    byte crashes, victim;
end:
    do
    :: crashes < CRASHES ->
        atomic {
            if
            :: victim = 1
            :: crashes >= 1 -> victim = 2
            :: crashes >= 2 -> victim = 3
            fi;
            if
            :: IN(alive, victim) ->
                crashes++;
                REMOVE(alive, victim); REMOVE(asleep, victim); REMOVE(fresh, victim);
                if :: inside == victim -> owed = 1 :: else fi;
                if :: recoverer[1] == victim -> recoverer[1] = NOBODY :: else fi;
                if :: recoverer[2] == victim -> recoverer[2] = NOBODY :: else fi;
                if :: recoverer[3] == victim -> recoverer[3] = NOBODY :: else fi;
#if LANES > 3
                if :: recoverer[4] == victim -> recoverer[4] = NOBODY :: else fi;
#endif
            :: else
            fi;
            victim = 0
        }
    :: break
    od
}

init
{
    byte i;
    atomic {
        for (i : 1 .. LANES) { run lane(i) }
        i = 0;
#if CRASHES > 0
        run killer()
#endif
    }
}
