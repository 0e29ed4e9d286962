/* barrier.pml - a place where a number of threads wait for each other, round after round.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What: three lanes are the parties of a barrier and wait at it, for ever; who is told that it is broken resets it
 * and begins again. CRASHES of them are killed, each at any step, also while they reset it or recover somebody; the
 * lane of a dead one is claimed by a new thread, which becomes a party.
 * Of: src/sync/barrier.c (cove_barrier_wait, join, arrive, tell_broken, wait_for_round, cove_barrier_reset,
 * covei_barrier_mark_gone), marks.c (covei_marks_bury), src/segment/recovery.c (free_one_mark).
 *
 * Left out: cove_barrier_leave, COVE_NOWAIT; a copy of a durable segment (has_ghosts). NO_SLICES, POLLS, RESTS as
 * in mutex.pml. TIMEOUTS: waiters give up, and withdraw.
 * Memory: sequentially consistent: the word is changed by CAS alone; a mark is followed by a fence in `join`.
 *
 * Properties. A round is completed by three parties, each of which arrived in it once, and none of which was to be
 * told of a death. Who waited for a round and is told that it was completed was one of them. A lane that is claimed
 * anew has no mark. Without a crash nobody is left asleep. With one, each process being fair, rounds are completed
 * for ever.
 *
 * Bounds: 3 parties. */
#ifndef CRASHES
#define CRASHES 1
#endif

#define NOBODY 0
#define BIT(lane) (1 << (lane))
#define IN(set, lane) (((set) & BIT(lane)) != 0)
#define ADD(set, lane) set = set | BIT(lane)
#define REMOVE(set, lane) set = set & ~BIT(lane)
#define EVERYBODY 14

/* ---- the word */
byte epoch = 1;
byte arrived;
byte round;
bit waiters, broken;

/* ---- lanes: the epoch of the mark; 0: none */
byte mark[4];

/* ---- the kernel */
byte alive = EVERYBODY;
byte asleep;
byte recoverer[4];

/* ---- ghosts */
byte came; /* who has arrived in this round */
byte parties; /* who has joined */
byte untold; /* parties that lived when it was broken, and have not been told */

#define NEXT_ROUND(number) (((number) + 1) % 4)
#define AWAITED (epoch + broken) /* of those who need not be told */
#define TO_BURY(lane) (!IN(alive, lane) && mark[lane] != 0 && recoverer[lane] == NOBODY)
#ifdef TELLS_ONCE
#define COUNT_UP skip
#else
#define COUNT_UP epoch++
#endif
#ifdef NEVER_BREAKS
#define BREAKS 0
#else
#define BREAKS 1
#endif
#ifdef KEEPS_EPOCH
#define NEXT_EPOCH skip
#else
#define NEXT_EPOCH epoch++
#endif

inline tell_broken()
{
    mark[id] = AWAITED; REMOVE(untold, id)
}

inline die(lane)
{
    REMOVE(alive, lane); REMOVE(asleep, lane); REMOVE(untold, lane);
    if :: recoverer[1] == lane -> recoverer[1] = NOBODY :: else fi;
    if :: recoverer[2] == lane -> recoverer[2] = NOBODY :: else fi;
    if :: recoverer[3] == lane -> recoverer[3] = NOBODY :: else fi
}

proctype killer()
{
    byte crashes;
end:
    do
    :: d_step { crashes < CRASHES && IN(alive, 1) -> crashes++; die(1) }
    :: d_step { crashes > 0 && crashes < CRASHES && IN(alive, 2) -> crashes++; die(2) }
    :: d_step { crashes > 1 && crashes < CRASHES && IN(alive, 3) -> crashes++; die(3) }
    :: break
    od
}

proctype lane(byte id)
{
    byte mine, target, seen;
    bit resets;

born:
    {
        atomic { mine = 0; resets = 0 };
wait: /* cove_barrier_wait */
#ifdef RESTS
        if
        :: goto rest
        :: true
        fi;
#endif
        if
        :: mark[id] != 0 -> goto arrive
        :: mark[id] == 0
        fi;
        /* join */
bury:
#if CRASHES > 0
        if
        :: atomic { TO_BURY(1) -> target = 1; recoverer[1] = id; goto recover }
        :: atomic { TO_BURY(2) -> target = 2; recoverer[2] = id; goto recover }
        :: atomic { TO_BURY(3) -> target = 3; recoverer[3] = id; goto recover }
        :: else
        fi;
#endif
        if
        :: resets -> goto reset
        :: !resets && mark[id] != 0 -> goto await
        :: !resets && mark[id] == 0
        fi;
        seen = AWAITED;
        d_step { mark[id] = seen; seen = 0 };
        do
        :: d_step { mark[id] != AWAITED -> seen = AWAITED };
            d_step { mark[id] = seen; seen = 0 }
        :: d_step { mark[id] == AWAITED && !broken -> ADD(parties, id) }; break
        :: mark[id] == AWAITED && broken ->
            /* has_party_not_of, then the CAS */
            seen = epoch;
            if
            :: (id != 1 && mark[1] != 0 && mark[1] != seen + 1) || (id != 2 && mark[2] != 0 && mark[2] != seen + 1) ||
                (id != 3 && mark[3] != 0 && mark[3] != seen + 1) ->
                d_step { seen = 0; ADD(parties, id) };
                break
            :: else
            fi;
            atomic {
                if
                :: broken && epoch == seen ->
                    epoch++; broken = 0; arrived = 0; came = 0; seen = 0; ADD(parties, id);
                    break
                :: else -> seen = 0
                fi
            }
        od;

arrive:
        atomic {
            if
            :: broken || epoch != mark[id] -> tell_broken(); goto told
            :: else ->
                assert(!IN(came, id) && !IN(untold, id));
                ADD(came, id); mine = round;
                if
                :: arrived + 1 == 3 ->
                    assert(came == EVERYBODY);
                    round = NEXT_ROUND(round); arrived = 0; came = 0; seen = waiters; waiters = 0
                :: else -> arrived++; goto await
                fi
            fi
        };
        if
        :: seen -> d_step { asleep = 0; seen = 0 }
        :: !seen
        fi;
        goto done;

await: /* wait_for_round */
        if
        :: round != mine -> goto done
        :: round == mine && (broken || epoch != mark[id]) ->
            atomic { tell_broken(); goto told }
        :: else
        fi;
#if CRASHES > 0
        if
        :: TO_BURY(1) || TO_BURY(2) || TO_BURY(3) -> goto bury
        :: else
        fi;
#endif
#ifdef TIMEOUTS
        if
        :: atomic { /* withdraw */
                round == mine && !broken && epoch == mark[id] ->
                arrived--; REMOVE(came, id); mine = 0;
                goto wait
            }
        :: true
        fi;
#endif
#ifndef POLLS
        if
        :: !waiters ->
            d_step { if :: round == mine && !broken && epoch == mark[id] -> waiters = 1 :: else fi };
            goto await
        :: waiters
        fi;
        d_step { if :: round == mine && !broken && waiters -> ADD(asleep, id) :: else fi };
        if
        :: !IN(asleep, id)
#ifndef NO_SLICES
        :: REMOVE(asleep, id)
#endif
        fi;
#endif
        goto await;

told: /* cove_barrier_reset */
        resets = 1;
        goto bury;
reset:
        atomic {
            if
            :: broken -> NEXT_EPOCH; broken = 0; arrived = 0; came = 0; waiters = 0; asleep = 0
            :: else
            fi;
            seen = epoch
        };
        d_step { mark[id] = seen; seen = 0; resets = 0; REMOVE(untold, id) };
        goto wait;

done:
progress_done:
        mine = 0;
        goto wait;

#if CRASHES > 0
recover: /* free_one_mark, covei_barrier_mark_gone */
#ifdef MARK_FIRST
        atomic { seen = mark[target]; mark[target] = 0; REMOVE(parties, target) };
#else
        atomic { seen = mark[target] };
#endif
        d_step {
            if
            :: !broken -> broken = BREAKS; waiters = 0; asleep = 0; untold = alive & parties
            :: broken && seen == epoch + 1 -> COUNT_UP; asleep = 0; untold = alive & parties
            :: else
            fi;
            seen = 0
        };
        d_step { mark[target] = 0; REMOVE(parties, target) };
        d_step { recoverer[target] = NOBODY; target = 0 };
        goto bury
#endif
    } unless { !IN(alive, id) };
    d_step { mine = 0; target = 0; seen = 0; resets = 0 };
end_dead: /* a new thread */
    d_step {
        mark[id] == 0 && recoverer[id] == NOBODY -> ADD(alive, id)
    };
    goto born;
rest:
end_rest:
    false
}

init
{
    byte i;
    atomic {
        for (i : 1 .. 3) { run lane(i) }
        i = 0;
#if CRASHES > 0
        run killer()
#endif
    }
}
