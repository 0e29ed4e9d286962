/* rwlock.pml - many read, or one writes: marks of readers, the writer's word, and the processors' store buffers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
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

/* ---- marks. A lane's stores go round: marks + 1, the place filled, the place emptied, marks - 1. What others see is after
 * `seen` of them; `late` more are in its processor's store buffer. */
#define MARKED 2
byte seen[LANES + 1];
byte late[LANES + 1];
#define AFTER(lane) ((seen[lane] + late[lane]) % 4)

/* ---- what the lock guards: 0: as when a change was acknowledged last; and the writer's journal */
bit first, second;
byte saved;

/* ---- the kernel */
byte alive = (1 << (LANES + 1)) - 2;
byte asleep; /* on `drain` */
byte recoverer[LANES + 1];

/* ---- ghosts */
byte reads, writes; /* who has the lock, in the users' eyes */
byte drains; /* has the word, and waits for readers */
bit owed; /* a writer died: the next is to be told */

inline fence(lane)
{
    seen[lane] = AFTER(lane); late[lane] = 0
}
#define STORE(lane) late[lane]++

inline enter_to_read(is_told)
{
    assert((writes & alive) == 0);
    assert(!owed || is_told);
    owed = 0; ADD(reads, id)
}
inline enter_to_write(is_told)
{
    assert((writes & alive) == 0 && (reads & alive) == 0);
    assert(!owed || is_told);
    assert(!first && !second);
    owed = 0; writes = BIT(id)
}

inline tell_writer()
{
    if
    :: drain_waits ->
        d_step { fence(id); drain_news = 1 };
        asleep = 0
    :: !drain_waits
    fi
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
    byte target;
    bit told, to_write, draining;

born:
    {
        atomic { told = 0; to_write = 0 };
        if
        :: goto read
        :: to_write = 1; goto take
#ifdef RESTS
        :: late[id] == 0 -> goto rest
#endif
        fi;

read: /* try_read */
#ifdef LATE_MARK
        if
        :: owner == NOBODY && !recovered
        :: !(owner == NOBODY && !recovered) -> goto take
        fi;
        STORE(id);
        STORE(id);
        atomic { fence(id); enter_to_read(0); goto reading };
#endif
        STORE(id);
        STORE(id);
#ifndef READER_NO_FENCE
        d_step { fence(id) };
#endif
        atomic {
            if
            :: owner == NOBODY IS_QUIET -> enter_to_read(0); goto reading
            :: true /* taken, or WAITERS is set */
            fi
        };
        STORE(id);
        STORE(id);
        tell_writer();

take: /* covei_lock_take, and whoever died with the word */
        if
        :: atomic { owner == NOBODY -> owner = id; told = recovered; recovered = 0; fence(id) }
        :: atomic { owner != NOBODY && !IN(alive, owner) -> target = owner; goto recover }
        fi;
        if
        :: to_write -> goto write
        :: else
        fi;

        /* read_in_turn */
#ifdef DROPS_BEFORE_MARK
        atomic { fence(id); owner = NOBODY };
#endif
        STORE(id);
        STORE(id);
        atomic {
            fence(id); /* the addition that gives the word back */
#ifndef DROPS_BEFORE_MARK
            owner = NOBODY;
#endif
            enter_to_read(told); told = 0
        };

reading:
        assert(!first);
        assert(!second);
        REMOVE(reads, id);
        STORE(id); /* covei_mark_clear */
        STORE(id);
        tell_writer();
        goto born;

write: /* wait_for_readers */
        if :: seen[1] != MARKED || id == 1 :: seen[1] == MARKED && id != 1 -> goto drain fi;
        if :: seen[2] != MARKED || id == 2 :: seen[2] == MARKED && id != 2 -> goto drain fi;
        if :: seen[3] != MARKED || id == 3 :: seen[3] == MARKED && id != 3 -> goto drain fi;
        goto drained;

drain: /* drain_in_slices */
        atomic { draining = 1; ADD(drains, id) };
        do
        :: drain_waits = 1;
#ifndef READS_DRAIN_LATE
            drain_news = 0;
#endif
#ifdef TIMELY
            d_step { fence(1); fence(2); fence(3) };
#endif
            if :: seen[1] != MARKED || id == 1 :: seen[1] == MARKED && id != 1 -> target = 1; goto sleep fi;
            if :: seen[2] != MARKED || id == 2 :: seen[2] == MARKED && id != 2 -> target = 2; goto sleep fi;
            if :: seen[3] != MARKED || id == 3 :: seen[3] == MARKED && id != 3 -> target = 3; goto sleep fi;
            break;
sleep:
#ifdef READS_DRAIN_LATE
            drain_news = 0;
#endif
            if
            :: atomic { !IN(alive, target) -> goto recover } /* covei_marks_bury */
            :: IN(alive, target) -> target = 0
            fi;
#ifdef TIMEOUTS
            if
            :: break
            :: true
            fi;
#endif
#ifndef POLLS
            d_step { if :: drain_news :: else -> ADD(asleep, id) fi };
            if
            :: !IN(asleep, id)
#ifndef NO_SLICES
            :: REMOVE(asleep, id)
#endif
            fi
#endif
        od;
drained:
        skip
    } unless { !IN(alive, id) };
rest:
end_rest:
    false
}
