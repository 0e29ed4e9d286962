/* fair.pml - the fair mutex: who waits longest is next.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef LANES
#define LANES 3
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 4
#endif
#ifndef CRASHES
#define CRASHES 1
#endif

#define NOBODY 0
#define BIT(lane) (1 << (lane))
#define IN(set, lane) (((set) & BIT(lane)) != 0)
#define ADD(set, lane) set = set | BIT(lane)
#define REMOVE(set, lane) set = set & ~BIT(lane)

/* ---- the lock word, which is FAIR */
byte owner;
bit waiters;
byte fresh;

/* ---- lanes */
byte registered; /* waits_for is the lock */
byte since[LANES + 1]; /* waits_since */
byte clock;
byte given; /* whose turn has been counted up since they read it */
byte dozing; /* whose turn says TURN_ASLEEP */

/* ---- the kernel */
byte alive = (1 << (LANES + 1)) - 2;
byte asleep; /* in a futex wait on their turn */
byte watch[LANES + 1]; /* whose signs of life they sleep on too */
byte recoverer[LANES + 1];
byte settled;

/* ---- ghosts */
byte attempts;
byte inside;
byte established; /* has registered, and has seen since that it has to wait */

#if CRASHES == 0
#define FIRST(lane) (lane - 1) /* in whatever order they come, they can be numbered so */
#else
#define FIRST(lane) 0
#endif

inline look()
{
    seen = owner; seen_waiters = waiters; ADD(fresh, id)
}
inline forget()
{
    seen = NOBODY; seen_waiters = 0; REMOVE(fresh, id)
}
#define UNCHANGED (owner == seen && waiters == seen_waiters && IN(fresh, id))

#define BEFORE(a, b) (since[a] < since[b] || (since[a] == since[b] && (a) < (b)))
#ifdef PASS_ANY
#define MAY_PASS || true
#else
#define MAY_PASS || !IN(alive, queue)
#endif
#define MAY_BE_LATE(lane) (!IN(alive & established, lane) || lane == id)

inline take_word(flag)
{
    assert(inside == NOBODY || !IN(alive, inside));
#ifndef PASS_ANY
    /* order: nobody who waits already, and could have taken it, is passed */
    assert(MAY_BE_LATE(1) || (IN(registered, id) && BEFORE(id, 1)));
    assert(MAY_BE_LATE(2) || (IN(registered, id) && BEFORE(id, 2)));
    assert(MAY_BE_LATE(3) || (IN(registered, id) && BEFORE(id, 3)));
#endif
    cleared = waiters && !flag;
    owner = id; waiters = flag; inside = id; REMOVE(established, id);
    forget()
}

#ifdef SLOW_LOOK
#define LOOK
#define LOOK_AT_ONE d_step
#else
#define LOOK_AT_ONE
#define LOOK d_step
#endif
/* look_at_queue: leaves the lane that waits longest in `queue` */
inline look_at_one(lane, except)
{
    LOOK_AT_ONE {
        if
        :: lane != except && IN(registered & ~settled, lane) && (queue == NOBODY || since[lane] < queue_since) ->
            queue = lane; queue_since = since[lane]
        :: else
        fi
    }
}
inline look_at_queue(except)
{
    LOOK {
        queue = NOBODY; queue_since = 0;
        look_at_one(1, except);
        look_at_one(2, except);
        look_at_one(3, except)
#if LANES > 3
        ;look_at_one(4, except)
#endif
    }
}

inline give_turn(lane)
{
    d_step { ADD(given, lane); flag = IN(dozing, lane) };
    if :: flag -> REMOVE(asleep, lane) :: else fi
}

inline wake_first()
{
    atomic { look() };
    do
    :: seen == NOBODY && seen_waiters ->
        look_at_queue(NOBODY);
        if
        :: queue != NOBODY -> give_turn(queue); break
        :: else -> atomic { if :: UNCHANGED -> waiters = 0 :: else fi; look() }
        fi
    :: else -> break
    od;
    atomic { queue = NOBODY; queue_since = 0; flag = 0; forget() }
}

inline nudge_one(lane)
{
    if :: IN(registered, lane) -> give_turn(lane) :: else fi
}
inline wake_all_queued()
{
    nudge_one(1);
    nudge_one(2);
    nudge_one(3)
#if LANES > 3
    ;nudge_one(4)
#endif
}

inline enqueue()
{
    /* seq_cst fence: registered before this look */
    waiters = 1
}

proctype lane(byte id)
{
    byte seen, queue, queue_since, target;
    bit seen_waiters, flag, settling, had_waiters, cleared;

born:
    {
        if
        :: attempts == ATTEMPTS -> goto rest
        :: d_step { attempts < ATTEMPTS && attempts >= FIRST(id) -> attempts++ }
#if CRASHES > 0
        :: !IN(alive | settled, 1) -> target = 1; settling = 1; goto recover
#endif
#if CRASHES > 1
        :: !IN(alive | settled, 2) -> target = 2; settling = 1; goto recover
#endif
        fi;

        /* covei_lock_try, spin_take */
        atomic { look() };
        do
        :: seen == NOBODY && !seen_waiters -> atomic { if :: UNCHANGED -> take_word(0); goto got :: else -> look() fi }
        :: else -> break
        od;

        /* covei_wait_note */
        atomic {
            since[id] = clock;
            if
            :: clock++
#ifdef TIES
            :: true
#endif
            fi
        };
        ADD(registered, id);
        enqueue();

wait:
        REMOVE(given, id); /* reads its turn */
        atomic { look() };
        do
        :: seen != NOBODY -> break
        :: seen == NOBODY && seen_waiters ->
            look_at_queue(id);
            if
            :: queue == NOBODY -> atomic { if :: UNCHANGED -> take_word(0); goto got :: else -> look() fi }
            :: queue != NOBODY && (!(queue_since < since[id] || (queue_since == since[id] && queue < id)) MAY_PASS) ->
                atomic { if :: UNCHANGED -> take_word(1); goto got :: else -> look() fi }
            :: queue != NOBODY && (queue_since < since[id] || (queue_since == since[id] && queue < id)) -> break
            fi
        :: seen == NOBODY && !seen_waiters -> atomic { if :: UNCHANGED -> take_word(0); goto got :: else -> look() fi }
        od;
        atomic { ADD(established, id); queue = NOBODY; queue_since = 0 };
#if CRASHES > 0
        if
        :: atomic { seen != NOBODY && !IN(alive, seen) -> target = seen; forget(); goto recover }
        :: seen == NOBODY || IN(alive, seen)
        fi;
#endif
#ifdef TIMEOUTS
        if
        :: d_step { REMOVE(registered, id); REMOVE(established, id); forget() };
            wake_first();
            goto born
        :: true
        fi;
#endif
#ifdef FIX4
        if
        :: seen == NOBODY -> look_at_queue(id); if :: queue != NOBODY -> give_turn(queue) :: else fi
        :: else
        fi;
#endif
        /* sleep_fair */
#if CRASHES > 0
        look_at_queue(id);
        d_step { watch[id] = BIT(seen) | BIT(queue); queue = NOBODY; queue_since = 0 };
#endif
        atomic { forget() };
        if
        :: !waiters ->
            enqueue();
#ifdef FIX1
            goto wait
#endif
        :: waiters
        fi;
        atomic { if :: IN(given, id) -> goto wait :: else -> ADD(dozing, id) fi };
        atomic {
            if
            :: IN(given, id)
            :: else -> ADD(asleep, id)
            fi
        };
        if
        :: !IN(asleep, id)
#ifndef NO_SLICES
        :: REMOVE(asleep, id)
#endif
        fi;
        REMOVE(dozing, id);
        watch[id] = 0;
        goto wait;

got:
progress_got:
        atomic { queue = NOBODY; queue_since = 0; seen = 0 };
#ifdef FIX2
        if
        :: cleared ->
            look_at_queue(id);
            if :: queue != NOBODY -> waiters = 1 :: else fi;
            atomic { cleared = 0; queue = NOBODY; queue_since = 0 }
        :: else
        fi;
#endif
        REMOVE(registered, id); /* covei_wait_done */

        /* covei_lock_release, covei_lock_released */
        atomic {
            assert(owner == id && inside == id);
            had_waiters = waiters; owner = NOBODY; fresh = 0; inside = NOBODY; cleared = 0
        };
        if
        :: had_waiters -> had_waiters = 0; wake_first()
        :: else
        fi;
        goto born;

recover:
        atomic { if :: recoverer[target] == NOBODY && !IN(settled, target) -> recoverer[target] = id :: else -> goto recovered_not fi };
        d_step {
            had_waiters = 1;
            if
            :: owner == target ->
                had_waiters = waiters; owner = NOBODY; fresh = 0;
                if :: inside == target -> inside = NOBODY :: else fi
            :: else
            fi
        };
        if :: had_waiters -> wake_all_queued() :: else fi;
        if :: settling -> ADD(settled, target) :: else fi;
        recoverer[target] = NOBODY;
recovered_not:
        atomic { had_waiters = 0; flag = 0; target = 0 };
        if
        :: settling -> settling = 0; goto born
        :: else -> goto wait
        fi
    } unless { !IN(alive, id) };
rest:
    atomic { seen = 0; queue = 0; queue_since = 0; target = 0; seen_waiters = 0; flag = 0; settling = 0; had_waiters = 0; cleared = 0 };
end_rest:
    false
}

proctype killer()
{
    byte crashes, victim, i;
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
                if :: recoverer[3] == victim -> recoverer[3] = NOBODY :: else fi;
                /* the kernel wakes one of those who watch its sign of life */
                if
                :: IN(watch[1], victim) && IN(asleep, 1) -> REMOVE(asleep, 1)
                :: IN(watch[2], victim) && IN(asleep, 2) -> REMOVE(asleep, 2)
                :: IN(watch[3], victim) && IN(asleep, 3) -> REMOVE(asleep, 3)
                :: else
                fi
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
