/* rwlock.pml - many read, or one writes: readers' marks, the writer's word, and the processors' store buffers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What: LANES lanes lock to read or to write, read or change two words, and unlock, for ever. CRASHES of them are
 * killed, each at any step.
 * Of: src/sync/rwlock.c (cove_rwlock_lock_shared, mark_and_look, take_mark_back, read_in_turn, wait_for_readers,
 * drain_in_slices, give_up, cove_rwlock_lock, cove_rwlock_unlock, tell_writer, covei_rwlock_mark_gone), marks.c
 * (covei_mark_set, covei_marks_count, covei_marks_bury), src/segment/recovery.c (free_dead_lane, free_locks,
 * free_one_mark).
 *
 * Left out: waiting for the word (mutex.pml): who wants it waits until it is free or its owner dead. A reader may
 * find bits on the word at any time (WAITERS), and goes the long way. One mark to a lane; nothing of transactions
 * but one journal of a writer. A dead lane stays dead. ROLES: one lane only writes, one only reads. RESTS, POLLS,
 * NO_SLICES: as in mutex.pml. TIMEOUTS: who drains gives up, and who takes the shortest way to write and finds a
 * reader.
 * Memory: total store order for marks. What a lane stores stays in its processor's buffer for any time, in order,
 * while its loads go ahead; an exchange, addition, CAS or fence empties the buffer. What is guarded is read and
 * written in order (edges R and U). A death empties the buffer before anybody knows of it. TIMELY: a store that a
 * reader made before it looked at `drain` has left the buffer when the writer, having set DRAIN_WAITS, looks at the
 * marks, as rwlock.c takes it for granted but for a slice.
 * On processors that reorder more, what stands for the exchange and the load in mark_and_look is their seq_cst, and
 * the fence behind the writer's CAS, which changes nothing here.
 *
 * Properties. Nobody living writes when somebody locks to read; nobody living reads or writes when somebody locks
 * to write; the guarded words are then, and whenever they are read, as at the last commit. When a writer died with
 * the lock the next is told (others may be told too: a reader that dies with the word in order to mark). Without a
 * crash, and with one, nobody is left asleep by more than a store that is late. Each process being fair, a writer
 * that has the word gets in.
 *
 * Bounds: 3 lanes, 1 crash: 3.1 M states. 2 crashes: with `make soak`. */
#ifndef LANES
#define LANES 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif

#define NOBODY 0
#define BIT(lane) (1 << (lane))
#define IN(set, lane) (((set) & BIT(lane)) != 0)
#define ADD(set, lane) set = set | BIT(lane)
#define REMOVE(set, lane) set = set & ~BIT(lane)

/* ---- the lock word */
byte owner;
bit recovered;

/* ---- `drain` */
bit drain_waits; /* DRAIN_WAITS */
bit drain_news; /* it was counted up since the writer read it */

/* ---- marks. A lane's stores go round: `marks` up, the place filled, the place emptied, `marks` down. Others see the
 * state after `done` of them; `late` more are in its processor's store buffer. */
byte done[LANES + 1];
byte late[LANES + 1];
#define MARKED 2

/* ---- what the lock guards (0: as when a change was acknowledged last), and the writer's journal */
bit first, second;
byte saved;

/* ---- the kernel */
byte alive = (1 << (LANES + 1)) - 2;
byte asleep; /* who sleeps on `drain` */
byte watched; /* on whose signs of life it sleeps too */
byte recoverer[LANES + 1];

/* ---- ghosts */
byte reads, writes; /* who has the lock, in the users' eyes */
byte drains; /* who has the word, and waits for readers */
bit owed; /* a writer died: the next is to be told */

#ifdef ROLES
#define READS(lane) (lane != 2)
#define WRITES(lane) (lane != 3)
#else
#define READS(lane) true
#define WRITES(lane) true
#endif
#ifdef IGNORES_NEWS
#define NO_NEWS true
#else
#define NO_NEWS !recovered
#endif

inline fence(lane)
{
    done[lane] = (done[lane] + late[lane]) % 4; late[lane] = 0
}
inline store()
{
    d_step { late[id] < 4 -> late[id]++ }
}
inline enter_to_read(is_told)
{
    assert((writes & alive) == 0);
    assert(!owed || is_told);
    owed = 0; ADD(reads, id)
}
inline enter_to_write()
{
    assert((writes & alive) == 0 && (reads & alive) == 0);
    assert(!owed || told);
    assert(!first && !second);
    owed = 0; writes = BIT(id); told = 0
}
inline tell_writer(lane)
{
    if
    :: drain_waits ->
        d_step { fence(lane); drain_news = 1 };
        d_step { asleep = 0; watched = 0 }
    :: !drain_waits
    fi
}
inline look_at(lane)
{
    if
    :: id != lane && done[lane] == MARKED -> ADD(found, lane)
    :: id == lane || done[lane] != MARKED
    fi
}
inline look_at_marks()
{
    look_at(1);
    look_at(2);
    look_at(3)
#if LANES > 3
    ;look_at(4)
#endif
}
inline free_word()
{
    d_step {
        if
        :: owner == target -> owner = NOBODY; recovered = 1; REMOVE(writes, target)
        :: else
        fi
    }
}

proctype lane(byte id)
{
    byte target, found;
    bit told, to_write, draining;

born:
    {
        atomic { told = 0; to_write = 0 };
        if
        :: READS(id) -> goto read
        :: WRITES(id) -> to_write = 1; goto take
#ifdef RESTS
        :: goto rest
#endif
        fi;

read: /* mark_and_look */
#ifdef LOOK_FIRST
        if
        :: owner == NOBODY && !recovered
        :: owner != NOBODY || recovered -> goto take
        fi;
        store();
        store();
        atomic { fence(id); enter_to_read(0); goto reading };
#endif
        store();
#ifdef READER_NO_FENCE
        store();
#else
        d_step { late[id]++; fence(id) }; /* an exchange */
#endif
        atomic {
            if
            :: owner == NOBODY && NO_NEWS -> enter_to_read(0); goto reading
            :: true /* it is taken, or has bits */
            fi
        };
        store(); /* take_mark_back */
        store();
        tell_writer(id);

take: /* covei_lock_take */
        if
        :: d_step { owner == NOBODY -> owner = id; told = recovered; recovered = 0; fence(id) }
        :: atomic { owner != NOBODY && !IN(alive, owner) -> target = owner; goto recover }
        fi;
        if
        :: to_write -> goto write
        :: !to_write
        fi;

        /* read_in_turn */
#ifdef DROPS_BEFORE_MARK
        owner = NOBODY;
        store();
        store();
        atomic { fence(id); enter_to_read(told); told = 0 };
#else
        store();
        store();
        atomic { fence(id); owner = NOBODY; enter_to_read(told); told = 0 };
#endif

reading:
        assert(!first);
        assert(!second);
        REMOVE(reads, id);
        store(); /* take_mark_back */
        store();
        tell_writer(id);
        goto born;

write: /* wait_for_readers */
        look_at_marks();
        if
        :: found == 0 -> goto drained
        :: found != 0 -> atomic { found = 0; draining = 1; ADD(drains, id) }
#ifdef TIMEOUTS
        :: found != 0 && !told -> atomic { found = 0; owner = NOBODY }; goto take /* the shortest way to write */
#endif
        fi;

drain: /* drain_in_slices */
#ifdef TIMELY
        atomic { drain_waits = 1; fence(1); fence(2); fence(3) };
#else
        drain_waits = 1;
#endif
        drain_news = 0;
        look_at_marks();
        if
        :: found == 0 -> goto drained
        :: found != 0
        fi;
#ifdef READS_DRAIN_LATE
        drain_news = 0;
#endif
        if /* covei_marks_bury */
        :: atomic { IN(found & ~alive, 1) -> target = 1; goto recover }
        :: atomic { IN(found & ~alive, 2) -> target = 2; goto recover }
        :: atomic { IN(found & ~alive, 3) -> target = 3; goto recover }
        :: (found & ~alive) == 0
        fi;
#ifdef TIMEOUTS
        if
        :: goto give_up
        :: true
        fi;
#endif
#ifdef POLLS
        found = 0;
#else
        d_step { if :: drain_news || (found & ~alive) != 0 :: else -> asleep = id; watched = found fi; found = 0 };
        if
        :: asleep != id
#ifndef NO_SLICES
        :: d_step { asleep = 0; watched = 0 }
#endif
        fi;
#endif
        goto drain;

drained:
        if
        :: draining ->
            drain_waits = 0;
            d_step { draining = 0; REMOVE(drains, id) }
        :: !draining
        fi;
        atomic { enter_to_write() };
        ADD(saved, id);
        first = 1;
        second = 1;
        d_step { REMOVE(saved, id); first = 0; second = 0 };
        atomic { assert(owner == id && writes == BIT(id)); owner = NOBODY; REMOVE(writes, id) };
        goto born;

give_up:
        drain_waits = 0;
        atomic { draining = 0; REMOVE(drains, id); found = 0; owner = NOBODY; recovered = told; goto born };

recover: /* covei_recover_locks: free_dead_lane */
        atomic {
            found = 0;
            if
            :: recoverer[target] == NOBODY -> recoverer[target] = id
            :: else -> goto recovered_not
            fi
        };
#ifdef EARLY_FREE
        free_word();
#endif
#ifndef NAIVE_RECOVERY
        if
        :: IN(saved, target) ->
            second = 0;
            first = 0
        :: !IN(saved, target)
        fi;
#endif
        REMOVE(saved, target); /* the phase is UNDONE */
        free_word();
#ifndef KEEPS_MARK
        if
        :: done[target] != 0 ->
            done[target] = 0;
            tell_writer(id)
        :: done[target] == 0
        fi;
#endif
        recoverer[target] = NOBODY;
recovered_not:
        target = 0;
        if
        :: draining -> goto drain
        :: !draining -> goto take
        fi
    } unless { !IN(alive, id) };
rest:
    atomic { target = 0; found = 0; told = 0; to_write = 0; draining = 0 };
end_rest:
    false
}

/* What is in a lane's store buffer goes to memory some time. */
proctype buffer(byte id)
{
end:
    do
    :: d_step { late[id] > 0 -> late[id]--; done[id] = (done[id] + 1) % 4 }
    od
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
                fence(victim);
                REMOVE(alive, victim); REMOVE(reads, victim); REMOVE(drains, victim);
                if :: IN(writes, victim) -> owed = 1 :: else fi;
                if :: asleep == victim || IN(watched, victim) -> asleep = 0; watched = 0 :: else fi;
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
        for (i : 1 .. LANES) { run buffer(i) }
        i = 0;
#if CRASHES > 0
        run killer()
#endif
    }
}

#ifdef WRITER_GETS_IN
ltl writer_gets_in { [] <> (drains == 0) }
#endif
