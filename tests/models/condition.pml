/* condition.pml - wait, with a mutex given back meanwhile, until something may have changed.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What: lanes 1 and 2 take things out of a store, for ever, and wait for the condition where it is empty; lanes 3
 * and 4 put THINGS things into it together, each under the mutex, and signal (or broadcast) after that, without the
 * mutex. CRASHES of those that take are killed while they do not have the mutex, each at any step.
 * Of: src/sync/condition.c (cove_condition_wait, come, leave, come_back, cove_condition_signal,
 * cove_condition_broadcast, release_all), news.c (covei_news_wait).
 *
 * Left out: transactions; the mutex, but that one has it (mutex.pml). The kernel wakes in the order in which they
 * fell asleep (ANY_ORDER: in any, as it may where they have priorities). NO_SLICES as in mutex.pml; otherwise a
 * slice ends at any moment. The sequence is kept as the set of lanes whose own is the present one.
 * Memory: sequentially consistent: all steps on the word are atomic read-modify-writes, or follow the mutex.
 *
 * Properties. Where nothing happens any more, the store is empty or nobody lives to take from it: no signal is
 * lost. With slices that holds whoever is killed and in whatever order the kernel wakes; without a crash it holds
 * without slices.
 *
 * Bounds: 4 lanes, 3 things. */
#ifndef THINGS
#define THINGS 3
#endif
#ifndef CRASHES
#define CRASHES 0
#endif

#define NOBODY 0
#define BIT(lane) (1 << (lane))
#define IN(set, lane) (((set) & BIT(lane)) != 0)
#define ADD(set, lane) set = set | BIT(lane)
#define REMOVE(set, lane) set = set & ~BIT(lane)

/* ---- the word */
bit waiters;
byte present; /* whose sequence, as they saw it, is the present one */

byte owner; /* of the mutex */
byte things; /* in the store */
byte made;

/* ---- the kernel */
byte alive = 30;
byte asleep;
byte first_asleep; /* of two */

inline find_first()
{
    first_asleep = (IN(asleep, 1) -> 1 : (IN(asleep, 2) -> 2 : NOBODY))
}

inline wake_one()
{
    atomic {
        woken = (asleep != 0);
        if
        :: asleep == 0
#ifdef ANY_ORDER
        :: IN(asleep, 1) -> REMOVE(asleep, 1)
        :: IN(asleep, 2) -> REMOVE(asleep, 2)
#else
        :: asleep != 0 -> REMOVE(asleep, first_asleep)
#endif
        fi;
        find_first()
    }
}
/* The word is as this lane saw it, with WAITERS. */
inline release_all()
{
    d_step {
        if
        :: waiters && IN(present, id) -> present = 0; waiters = 0; released = 1
        :: else
        fi
    };
    if
    :: released -> d_step { asleep = 0; first_asleep = NOBODY }
    :: !released
    fi
}

proctype taker(byte id)
{
    {
        do
        :: atomic { owner == NOBODY -> owner = id };
again:
            if
            :: things > 0 ->
                things--;
                owner = NOBODY
            :: things == 0 ->
                goto wait
            fi
        od;
wait: /* cove_condition_wait */
#ifdef LEAVES_FIRST
        owner = NOBODY;
        atomic { waiters = 1; ADD(present, id) };
#else
        atomic { waiters = 1; ADD(present, id) };
        owner = NOBODY;
#endif
        do /* covei_news_wait */
        :: !IN(present, id) -> break
        :: d_step { IN(present, id) -> waiters = 1 };
            d_step {
                if
                :: IN(present, id) && waiters ->
                    ADD(asleep, id);
                    if :: first_asleep == NOBODY -> first_asleep = id :: else fi
                :: else
                fi
            };
end_asleep:
            if
            :: !IN(asleep, id)
#ifndef NO_SLICES
            :: d_step { IN(asleep, id) && !(IN(present, id) && waiters) -> REMOVE(asleep, id); find_first() }
#endif
            fi
        od;
        atomic { owner == NOBODY -> owner = id };
        goto again
    } unless { !IN(alive, id) };
end_dead:
    false
}

proctype maker(byte id)
{
    bit woken, released;

    do
    :: atomic { made < THINGS && owner == NOBODY -> owner = id; made++ };
        things++;
        owner = NOBODY;
        if
        :: !waiters
        :: waiters -> /* cove_condition_signal */
            present = BIT(id);
            wake_one();
            if
            :: !woken && waiters ->
#ifdef CLEARS_ALONE
                d_step { if :: IN(present, id) -> waiters = 0 :: else fi }
#else
                release_all()
#endif
            :: woken || !waiters
            fi
        :: d_step { waiters -> ADD(present, id) }; /* cove_condition_broadcast */
            do
            :: waiters ->
                release_all();
                if
                :: released -> break
                :: !released -> ADD(present, id)
                fi
            :: !waiters -> break
            od
        fi;
        atomic { woken = 0; released = 0; REMOVE(present, id) }
    :: made == THINGS -> break
    od
}

/* When nothing can happen any more. */
proctype monitor()
{
    timeout -> assert(things == 0 || !(IN(alive, 1) || IN(alive, 2)))
}

inline die(id)
{
    REMOVE(alive, id); REMOVE(asleep, id); REMOVE(present, id);
    find_first()
}

proctype killer()
{
    byte crashes;
end:
    do
    :: d_step { crashes < CRASHES && owner != 1 && IN(alive, 1) -> crashes++; die(1) }
    :: d_step { crashes > 0 && crashes < CRASHES && owner != 2 && IN(alive, 2) -> crashes++; die(2) }
    :: break
    od
}

init
{
    atomic {
        run taker(1);
        run taker(2);
        run maker(3);
        run maker(4);
        run monitor();
#if CRASHES > 0
        run killer()
#endif
    }
}
