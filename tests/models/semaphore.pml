/* semaphore.pml - a number of permits, owned or plain.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What: LANES lanes take one of PERMITS permits and give it back, for ever: owned ones, but lane PLAIN (0: none;
 * MIXED: all, at times) takes one for good, and posts it. CRASHES of those that own are killed, each at any step.
 * Of: src/sync/semaphore.c (take_owned, mark_and_confirm, take_plain, take, take_in_slices, pass_on, tell_of_one,
 * wake_some, cove_semaphore_post, covei_semaphore_mark_gone), src/segment/lock.c (covei_held_release), marks.c
 * (covei_marks_count, covei_marks_bury), recovery.c (free_one_mark).
 *
 * Left out: several permits of one lane. A count of marks is one step, unless SLOW_LOOK: a step for each lane. The
 * sequence is kept as the set of lanes that have seen the present one. RESTS, POLLS, NO_SLICES, TIMEOUTS: as in
 * mutex.pml.
 * Memory: sequentially consistent. A mark is followed by the CAS that confirms it, an emptied one by the fence in
 * tell_of_one.
 *
 * Properties. There are never more confirmed owners than permits. Without a crash nobody is left asleep. With one,
 * each process being fair, somebody always gets a permit.
 *
 * Bounds: 3 lanes, 2 crashes: 0.6 M states. */
#ifndef LANES
#define LANES 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef PERMITS
#define PERMITS 1
#endif

#ifndef PLAIN
#define PLAIN 0 /* which lane takes permits for good */
#endif

#define NOBODY 0
#define BIT(lane) (1 << (lane))
#define IN(set, lane) (((set) & BIT(lane)) != 0)
#define ADD(set, lane) set = set | BIT(lane)
#define REMOVE(set, lane) set = set & ~BIT(lane)
#define COUNT(set) (((set) >> 1 & 1) + ((set) >> 2 & 1) + ((set) >> 3 & 1))

/* ---- the word. Of the sequence all that matters is which lanes have seen the one that it has. */
byte permits = PERMITS;
bit waiters, owned;
byte fresh;

/* ---- lanes */
byte marks; /* whose held[] has a mark */

/* ---- the kernel */
byte alive = (1 << (LANES + 1)) - 2;
byte asleep; /* in a futex wait on the word */
byte recoverer[LANES + 1];

/* ---- ghosts */
byte owns; /* whose taking has succeeded */

inline look()
{
    seen = permits; seen_waiters = waiters; seen_owned = owned; ADD(fresh, id)
}
inline forget()
{
    seen = 0; seen_waiters = 0; seen_owned = 0; count = 0; REMOVE(fresh, id)
}
#define UNCHANGED (permits == seen && waiters == seen_waiters && owned == seen_owned && IN(fresh, id))

#ifdef MIXED
#define OWNS(lane) true
#define WAITS(lane) true
#else
#define OWNS(lane) (lane != PLAIN)
#define WAITS(lane) (lane == PLAIN)
#endif
#ifdef KEEPS_SEQUENCE
#define NEXT_SEQUENCE skip
#else
#define NEXT_SEQUENCE fresh = 0
#endif

/* covei_marks_count */
inline count_marks(any)
{
#ifdef SLOW_LOOK
    if
    :: any -> count = IN(marks, 1); count = count + IN(marks, 2); count = count + IN(marks, 3)
    :: !(any) -> count = 0
    fi
#else
    count = (any -> COUNT(marks) : 0)
#endif
}

#ifdef POLLS
#define wake_one() skip
#else
inline wake_one()
{
    atomic {
        if
        :: asleep == 0
        :: IN(asleep, 1) -> REMOVE(asleep, 1)
        :: IN(asleep, 2) -> REMOVE(asleep, 2)
        :: IN(asleep, 3) -> REMOVE(asleep, 3)
        fi
    }
}
#endif

#ifdef POLLS
#define tell_of_one() skip
#else
inline tell_of_one()
{
    if
    :: waiters ->
        d_step { flag = waiters; waiters = 0 };
        if
        :: flag -> flag = 0; wake_one()
        :: else
        fi
    :: !waiters
    fi
}
#endif

proctype lane(byte id)
{
    byte seen, count, target;
    bit seen_waiters, seen_owned, flag, to_own, slept;

born:
    {
        atomic { to_own = 0; slept = 0; flag = 0; forget() };
        if
        :: OWNS(id) -> to_own = 1
        :: WAITS(id)
#ifdef RESTS
        :: goto rest
#endif
        fi;

take:
        atomic { look() };
count_again:
        count_marks(seen_owned);
        if
        :: atomic { seen <= count -> count = 0; goto none }
        :: atomic { seen > count && to_own -> count = 0 }
        :: seen > count && !to_own ->
            atomic {
                if
                :: UNCHANGED ->
                    permits--; waiters = waiters || slept; assert(COUNT(owns) <= permits); forget(); goto taken
                :: else -> look(); goto count_again
                fi
            }
        fi;
        /* mark_and_confirm */
#ifndef MARKS_LATE
        ADD(marks, id);
#endif
confirm:
        atomic {
            if
            :: UNCHANGED ->
                owned = 1; waiters = waiters || slept;
                NEXT_SEQUENCE;
                ADD(owns, id); assert(COUNT(owns) <= permits); forget(); goto taken
            :: else -> look()
            fi
        };
#ifdef MARKS_LATE
        goto take;
#else
        count_marks(1);
        if
        :: seen >= count -> goto confirm
        :: else
        fi;
        REMOVE(marks, id);
        atomic { forget() };
        tell_of_one();
        goto take;
#endif

none: /* take_in_slices */
#ifndef POLLS
        if
        :: !slept -> slept = 1; goto take
        :: slept
        fi;
#endif
#if CRASHES > 0
        if /* covei_marks_bury */
        :: atomic { seen_owned && IN(marks & ~alive, 1) -> target = 1; forget(); goto recover }
        :: atomic { seen_owned && IN(marks & ~alive, 2) -> target = 2; forget(); goto recover }
        :: atomic { seen_owned && IN(marks & ~alive, 3) -> target = 3; forget(); goto recover }
        :: !seen_owned || (marks & ~alive) == 0
        fi;
#endif
#ifdef TIMEOUTS
        if
        :: goto pass_on
        :: true
        fi;
#endif
#ifndef POLLS
        if
        :: !seen_waiters ->
#ifdef SLEEPS_AT_ONCE
            atomic { if :: UNCHANGED -> waiters = 1 :: else -> forget(); goto take fi }
#else
            atomic { if :: UNCHANGED -> waiters = 1 :: else fi; forget() };
            goto take
#endif
        :: seen_waiters
        fi;
        atomic {
            if
            :: permits == seen && waiters && owned == seen_owned -> ADD(asleep, id); forget()
            :: else -> forget(); goto take
            fi
        };
        if
        :: !IN(asleep, id)
#ifndef NO_SLICES
        :: REMOVE(asleep, id)
#endif
        fi;
#endif
        goto take;

taken:
progress_taken:
#ifdef MARKS_LATE
        if :: to_own -> ADD(marks, id) :: else fi;
#endif
        if
        :: slept ->
            atomic { look() };
            count_marks(seen_owned);
            if
            :: seen > count && seen_waiters -> wake_one()
            :: else
            fi;
            atomic { slept = 0; forget() }
        :: !slept
        fi;
        if
        :: to_own -> /* cove_semaphore_release */
            REMOVE(owns, id);
            REMOVE(marks, id);
            tell_of_one()
        :: !to_own -> /* cove_semaphore_post */
            d_step { permits++; flag = waiters; waiters = 0 };
            if
            :: flag -> flag = 0; wake_one()
            :: !flag
            fi
        fi;
        goto born;

#ifdef TIMEOUTS
pass_on:
#ifndef NO_PASSING_ON
        atomic { look(); waiters = 1 };
#endif
        count_marks(seen_owned);
        if
#ifndef NO_PASSING_ON
        :: seen > count -> atomic { forget() }; tell_of_one()
#endif
        :: else
        fi;
        goto born;
#endif

#if CRASHES > 0
recover: /* free_one_mark */
        atomic { if :: recoverer[target] == NOBODY -> recoverer[target] = id :: else -> target = 0; goto take fi };
        if
        :: IN(marks, target) ->
            d_step { REMOVE(marks, target); REMOVE(owns, target) };
            tell_of_one();
            wake_one()
        :: else
        fi;
        recoverer[target] = NOBODY;
        target = 0;
        goto take
#endif
    } unless { !IN(alive, id) };
rest:
    atomic { seen = 0; count = 0; target = 0; seen_waiters = 0; seen_owned = 0; flag = 0; to_own = 0; slept = 0 };
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
                if :: recoverer[1] == victim -> recoverer[1] = NOBODY :: else fi;
                if :: recoverer[2] == victim -> recoverer[2] = NOBODY :: else fi;
                if :: recoverer[3] == victim -> recoverer[3] = NOBODY :: else fi
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
