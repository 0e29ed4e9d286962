/* fair.pml - the fair mutex: who waits longest is next.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What: LANES lanes take and give back one fair lock, ATTEMPTS times together. CRASHES of them are killed, each at
 * any step.
 * Of: src/segment/lock.c (covei_lock_slow, look_at_queue, give_turn, wake_first, wake_all_queued, keep_waiters,
 * try_fair, enqueue, see_to_first, sleep_fair, wait_and_take, pass_on, covei_lock_give), wait.c (covei_wait_note,
 * covei_wait_done, watch_waiters), recovery.c (covei_recover_locks, free_locks).
 *
 * Left out: what mutex.pml has (the journal, held[], RECOVERED, new threads in old lanes). The clock gives each who
 * registers a later time (TIES: or the same). A look at the queue is one step, unless SLOW_LOOK: a step for each
 * lane. Not modelled is the pass of F2 by time; PASSES: anybody registered may pass, and then no order is checked.
 * NO_LONG_SLICES: sleep ends by itself only where lock.c and wait.c make it short: nobody has the word, or who has
 * it, or is first, is dead. A death wakes one of those who watch the dead lane (the kernel wakes one). POLLS,
 * TIMEOUTS: as in mutex.pml.
 * Without a crash the lanes are alike, so they may be numbered as they come first.
 * Memory: sequentially consistent. What F1 needs of it: registered before WAITERS is looked at (fence in enqueue),
 * WAITERS taken off before the second look at the queue (seq_cst CAS and fence in keep_waiters and wake_first).
 *
 * Properties. Taking: nobody living has the lock; nobody living is passed who came before, has registered, and has
 * looked at the word since. Without a crash nobody is left asleep. With one, each process being fair, everybody
 * gets it.
 * What sleep is sliced for: who registers while another sleeps, but drew an earlier time, and is killed when it is
 * his turn.
 *
 * Bounds: 3 lanes, 3 attempts, 1 crash: 1.9 M states. 4 attempts, 2 crashes: with `make soak`. */
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

/* ---- the lock word, which is FAIR. Of the generation all that matters is which lanes have seen the present one. */
byte owner;
bit waiters;
byte fresh;

/* ---- lanes */
byte registered; /* whose waits_for is the lock */
byte since[LANES + 1]; /* waits_since */
byte clock;
byte given; /* whose turn has gone up since they read it */
byte dozing; /* whose turn says TURN_ASLEEP */

/* ---- the kernel */
byte alive = (1 << (LANES + 1)) - 2;
byte asleep; /* in a futex wait on their turn */
byte watches[LANES + 1]; /* on whose signs of life they sleep too */
byte recoverer[LANES + 1]; /* who has the recovery byte of the lane's member */

/* ---- ghosts */
byte attempts;
byte inside; /* who has the lock, in the users' eyes */
byte established; /* has registered, has looked at the word since, and waits */

#ifdef NEWCOMERS_PASS
#define NEWCOMER_LOOKS || true
#else
#define NEWCOMER_LOOKS
#endif
#ifdef FORGETS_OTHERS
#define KEEPS 0
#else
#define KEEPS (queue != NOBODY)
#endif
#ifdef GIVES_AS_IT_WAS
#define WAITERS_STAY had_waiters = waiters
#else
#define WAITERS_STAY waiters = 1
#endif
#ifdef PASSES
#define MAY_PASS || true
#else
#define MAY_PASS
#endif
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
    seen = NOBODY; seen_waiters = 0; queue = NOBODY; queue_since = 0; REMOVE(fresh, id)
}
#define UNCHANGED (owner == seen && waiters == seen_waiters && IN(fresh, id))

#define PASSED(lane) (lane != id && IN(alive & established, lane) && \
    !(IN(registered, id) && since[id] <= since[lane]))

inline take_word(flag)
{
    assert(inside == NOBODY || !IN(alive, inside));
#ifndef PASSES
    assert(!PASSED(1) && !PASSED(2) && !PASSED(3));
#endif
    cleared = waiters && !flag;
    owner = id; waiters = flag; inside = id; REMOVE(established, id);
    forget()
}

#ifdef SLOW_LOOK
#define WHOLE
#define EACH d_step
#else
#define WHOLE d_step
#define EACH
#endif
inline look_at_one(lane, except)
{
    EACH {
        if
        :: lane != except && IN(registered & alive, lane) && (queue == NOBODY || since[lane] < queue_since) ->
            queue = lane; queue_since = since[lane]
        :: else
        fi
    }
}
inline look_at_queue(except)
{
    WHOLE {
        queue = NOBODY; queue_since = 0;
        look_at_one(1, except);
        look_at_one(2, except);
        look_at_one(3, except)
#if LANES > 3
        ;look_at_one(4, except)
#endif
    }
}
#define IS_FIRST (queue == NOBODY || since[id] < queue_since || (since[id] == queue_since && id < queue))

#if CRASHES > 0
#define SHORT_SLICE (seen == NOBODY || !IN(alive, seen) || (queue != NOBODY && !IN(alive, queue)))
#else
#define SHORT_SLICE 0
#endif

#ifdef POLLS
#define give_turn(lane) skip
#else
inline give_turn(lane)
{
    d_step { ADD(given, lane); flag = IN(dozing, lane) };
    if
    :: flag -> d_step { REMOVE(asleep, lane); flag = 0 }
    :: else
    fi
}
#endif
inline nudge_one(lane)
{
    if
    :: IN(registered, lane) -> give_turn(lane)
    :: else
    fi
}

proctype lane(byte id)
{
    byte seen, queue, queue_since, target;
    bit seen_waiters, flag, had_waiters, cleared;

born:
    {
        atomic { forget() };
        if
        :: attempts == ATTEMPTS -> goto rest
        :: d_step { attempts < ATTEMPTS && attempts >= FIRST(id) -> attempts++ }
        fi;

        /* covei_lock_slow, spin_take: try_fair by who is not registered */
        atomic { look() };
        do
        :: seen != NOBODY -> break
        :: seen == NOBODY ->
            if
            :: seen_waiters -> look_at_queue(id)
            :: !seen_waiters
            fi;
            if
            :: queue == NOBODY NEWCOMER_LOOKS ->
                atomic { if :: UNCHANGED -> take_word(KEEPS); goto got :: else -> look() fi }
            :: queue != NOBODY -> break
            fi
        od;

        /* covei_wait_note, enqueue */
        atomic {
            since[id] = clock;
            if
            :: clock++
#ifdef TIES
            :: true
#endif
            fi;
        };
        ADD(registered, id);
        waiters = 1;

wait: /* wait_and_take */
#ifndef POLLS
        REMOVE(given, id);
#endif
        atomic { look() };
        do /* try_fair */
        :: seen != NOBODY -> break
        :: seen == NOBODY && !seen_waiters ->
            atomic { if :: UNCHANGED -> take_word(0); goto got :: else -> look() fi }
        :: seen == NOBODY && seen_waiters ->
            look_at_queue(id);
            if
            :: IS_FIRST MAY_PASS ->
                atomic { if :: UNCHANGED -> take_word(KEEPS); goto got :: else -> look() fi }
            :: !IS_FIRST -> break
            fi
        od;
        atomic {
            ADD(established, id);
#if CRASHES > 0
            if
            :: seen != NOBODY && !IN(alive, seen) -> target = seen; goto recover
            :: else
            fi
#else
            if :: seen != NOBODY -> forget(); seen = id :: else -> forget() fi
#endif
        };
#ifdef TIMEOUTS
        if
        :: atomic { REMOVE(registered, id); REMOVE(established, id); forget() };
            goto wake_first /* pass_on */
        :: true
        fi;
#endif

        /* sleep_fair */
#if CRASHES > 0 && !defined(POLLS)
        look_at_queue(id);
        watches[id] = BIT(seen) | BIT(queue) | (registered & ~BIT(id));
#endif
        if
        :: !waiters ->
            waiters = 1;
#ifndef SLEEPS_AT_ONCE
            goto wait
#endif
        :: waiters
        fi;
#if !defined(POLLS) || CRASHES > 0
        if
        :: seen == NOBODY -> /* see_to_first */
#if CRASHES == 0 || defined(POLLS)
            look_at_queue(id); /* a little later, which spares states: nobody is to be watched */
#endif
            if
            :: queue == NOBODY
#if CRASHES > 0
            :: queue != NOBODY && !IN(alive, queue) && recoverer[queue] == NOBODY -> target = queue; goto recover
#endif
            :: queue != NOBODY && (IN(alive, queue) || recoverer[queue] != NOBODY) -> give_turn(queue)
            fi
        :: else
        fi;
#endif
#ifndef POLLS
        atomic { if :: IN(given, id) -> forget(); goto wait :: else -> ADD(dozing, id) fi };
        d_step { if :: IN(given, id) :: else -> ADD(asleep, id) fi; flag = SHORT_SLICE; forget() };
        if
        :: !IN(asleep, id)
#ifdef NO_LONG_SLICES
#if CRASHES > 0
        :: flag -> REMOVE(asleep, id)
#endif
#else
        :: REMOVE(asleep, id)
#endif
        fi;
        d_step { REMOVE(dozing, id); watches[id] = 0; flag = 0 };
#endif
        goto wait;

got:
progress_got:
        if
#ifndef ONE_LOOK
        :: cleared -> /* keep_waiters */
            cleared = 0;
            look_at_queue(id);
            if
            :: queue != NOBODY -> waiters = 1
            :: else
            fi
#endif
        :: else
        fi;
        d_step { queue = NOBODY; queue_since = 0; cleared = 0; REMOVE(registered, id) }; /* covei_wait_done */

        /* covei_lock_release, covei_lock_released */
        atomic {
            assert(owner == id && inside == id);
            had_waiters = waiters; owner = NOBODY; fresh = 0; inside = NOBODY
        };
        if
        :: had_waiters -> had_waiters = 0
        :: else -> goto born
        fi;

wake_first:
        atomic { look() };
wake_again:
        if
        :: seen != NOBODY || !seen_waiters -> goto born
        :: else
        fi;
        look_at_queue(NOBODY);
        if
        :: queue != NOBODY -> give_turn(queue) /* the next to do */
        :: else ->
            atomic { if :: UNCHANGED -> waiters = 0 :: else -> look(); goto wake_again fi };
#ifndef ONE_WAKING_LOOK
            look_at_queue(NOBODY);
            if
            :: queue != NOBODY -> give_turn(queue)
            :: else
            fi
#endif
        fi;
        goto born;

recover: /* covei_recover_locks, free_dead_lane */
        atomic { forget(); if :: recoverer[target] == NOBODY -> recoverer[target] = id :: else -> goto recovered fi };
        REMOVE(registered, target);
        d_step {
            had_waiters = 1;
            if
            :: owner == target ->
                WAITERS_STAY; owner = NOBODY; fresh = 0;
                if :: inside == target -> inside = NOBODY :: else fi
            :: else
            fi
        };
#ifdef POLLS
        skip;
#else
        if
        :: had_waiters -> /* wake_all_queued */
            nudge_one(1);
            nudge_one(2);
            nudge_one(3)
#if LANES > 3
            ;nudge_one(4)
#endif
        :: else
        fi;
#endif
        recoverer[target] = NOBODY;
recovered:
        atomic { had_waiters = 0; target = 0 };
        goto wait
    } unless { !IN(alive, id) };
rest:
    atomic {
        seen = 0; queue = 0; queue_since = 0; target = 0;
        seen_waiters = 0; flag = 0; had_waiters = 0; cleared = 0
    };
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
                REMOVE(alive, victim); REMOVE(asleep, victim); REMOVE(fresh, victim); REMOVE(established, victim);
                if :: recoverer[1] == victim -> recoverer[1] = NOBODY :: else fi;
                if :: recoverer[2] == victim -> recoverer[2] = NOBODY :: else fi;
                if :: recoverer[3] == victim -> recoverer[3] = NOBODY :: else fi;
                /* the kernel wakes one of those who watch its sign of life */
                if
                :: IN(watches[1], victim) && IN(asleep, 1) -> REMOVE(asleep, 1)
                :: IN(watches[2], victim) && IN(asleep, 2) -> REMOVE(asleep, 2)
                :: IN(watches[3], victim) && IN(asleep, 3) -> REMOVE(asleep, 3)
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
