/* stream_wait.c - waiting for the other end: spinning, sleeping, and noticing its death.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Sleeping (edge S). The sleeper sets the bit, has every member's processor fence (membarrier), looks again, and
 * sleeps on the word. The sender stores its message, then looks at the bit, with only the compiler held back. Either
 * the sender's store was visible when the sleeper looked again, or the sender's look comes after the fence, and so
 * after the bit: in both cases somebody notices. Where membarrier is refused, the sleeper's fence is a plain one and
 * header.must_fence makes senders fence.
 *
 * A wake-up can still be lost to a kill (sender dead between store and wake), so sleep goes in slices, and on the
 * other end's sign of life as well.
 * The bit stays set from slice to slice, so that only the first one pays for the membarrier. */
#include "channel/stream.h"

#include <errno.h>
#include <inttypes.h>

#define SPINS 300 /* looks before sleeping, a pause between them: several microseconds */
#define OWNED_SLICE_NS INT64_C(10000000) /* 10 ms: while there is somebody at the other end */
#define NEAR_SLICE_NS INT64_C(1000000) /* 1 ms: where a wake-up could be missed, see doze */
#define WATCHED_SLICE_NS INT64_C(400000000) /* likewise, where its death would wake us */
#define LONGEST_SLICE_NS INT64_C(100000000) /* 100 ms: while there is nobody */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void covei_stream_wake(_Atomic uint32_t *word)
{
    /* acq_rel: what we stored before is seen by the sleeper, which clears nothing itself before it looks. */
    uint32_t old = atomic_fetch_and_explicit(word, ~COVEI_STREAM_SLEEPS, memory_order_acq_rel);
    if (old & COVEI_STREAM_SLEEPS)
        (void)covei_os->wake((void *)word, INT32_MAX);
}

/* ---- the gate of durable segments */

static _Atomic uint32_t *busy_word(const struct cove_stream *stream)
{
    return stream->end == COVE_WRITER ? &stream->shm->writer_busy : &stream->shm->reader_busy;
}

/* Who is in the middle of something already, with a lock or inside a transaction, goes on: the copier waits for him.
 * */
static bool is_inside(const struct cove_stream *stream)
{
    struct covei_lane *lane = NULL;
    return covei_lane_get(&lane, stream->segment) == 0 && !covei_lane_idle(lane->shm);
}

void covei_stream_enter(struct cove_stream *stream)
{
    if (stream->inside++ > 0)
        return;
    atomic_store_explicit(busy_word(stream), 1, memory_order_release); /* edge Q of gate.c */
    while (covei_gate_is_shut(stream->segment) && !is_inside(stream)) {
        atomic_store_explicit(busy_word(stream), 0, memory_order_release);
        covei_gate_wait(stream->segment);
        atomic_store_explicit(busy_word(stream), 1, memory_order_release);
    }
}

void covei_stream_leave(struct cove_stream *stream)
{
    if (--stream->inside == 0)
        atomic_store_explicit(busy_word(stream), 0, memory_order_release); /* what was changed comes before */
}

/* ---- the other end */

struct peer {
    uint64_t claim;
    uint32_t lane;
};

static struct peer find_peer(const struct cove_stream *stream)
{
    const struct covei_stream_shm *shm = stream->shm;
    bool writer = stream->end == COVE_WRITER;
    uint64_t claim = atomic_load_explicit(writer ? &shm->reader_claim : &shm->writer_claim, memory_order_acquire);
    /* relaxed: a hint. */
    uint32_t lane = atomic_load_explicit(writer ? &shm->reader_lane : &shm->writer_lane, memory_order_relaxed);
    return (struct peer){claim, claim ? lane : COVEI_NO_LANE};
}

/* Recover the other end if it is dead. True: something may have changed, look again. Where a lock of the library's
 * cannot be had in time, the next slice tries again. */
static bool bury_peer(struct cove_stream *stream, struct peer peer, int64_t patience_ns)
{
    struct covei_lane *lane = NULL;
    return peer.claim != 0 && covei_lane_get(&lane, stream->segment) == 0 &&
           covei_stream_bury(stream, lane, peer.claim, least(patience_ns, OWNED_SLICE_NS)) > 0;
}

/* ---- spinning */

/* Note where this end runs, and tell whether the other end was last seen on the same processor: then spinning only
 * keeps it from running, and it has run, and so stored, before us. */
static bool on_one_cpu(const struct cove_stream *stream)
{
    struct covei_stream_shm *shm = stream->shm;
    bool writer = stream->end == COVE_WRITER;
    _Atomic uint32_t *mine = writer ? &shm->writer_cpu : &shm->reader_cpu;
    const _Atomic uint32_t *theirs = writer ? &shm->reader_cpu : &shm->writer_cpu;
    uint32_t cpu = (uint32_t)covei_os->cpu() + 1;
    /* relaxed: hints. Stored only when it changes, so that the line stays shared. */
    if (atomic_load_explicit(mine, memory_order_relaxed) != cpu)
        atomic_store_explicit(mine, cpu, memory_order_relaxed);
    return atomic_load_explicit(theirs, memory_order_relaxed) == cpu;
}

void covei_stream_note_cpu(const struct cove_stream *stream)
{
    (void)on_one_cpu(stream);
}

typedef bool is_ready(struct cove_stream *stream, uint64_t bytes);

static bool spin(struct cove_stream *stream, is_ready *ready, uint64_t bytes)
{
    for (int i = 0; i < SPINS; i++) {
        if (ready(stream, bytes))
            return true;
        covei_relax(); /* looking all the time would take the line from the other end while it writes */
    }
    return false;
}

/* ---- waiting */

static bool data_ready(struct cove_stream *stream, uint64_t unused)
{
    (void)unused;
    return atomic_load_explicit(covei_stream_header(stream, stream->at.position), memory_order_acquire) !=
           0; /* edge P */
}

static bool room_ready(struct cove_stream *stream, uint64_t bytes)
{
    stream->head_seen = atomic_load_explicit(&stream->shm->head, memory_order_acquire); /* edge H */
    return stream->tail + bytes + COVEI_STREAM_SPARE <= stream->head_seen + stream->capacity;
}

/* Where a scribbled head says that more is free than the ring holds. */
static bool head_sane(const struct cove_stream *stream)
{
    return stream->head_seen <= stream->tail;
}

static _Atomic uint32_t *sleep_word(const struct cove_stream *stream)
{
    return stream->end == COVE_WRITER ? &stream->shm->to_reader : &stream->shm->to_writer;
}

/* Edge S: say that we sleep. Whoever stores after this sees it; what was stored before, the caller sees now. `near`:
 * both ends were last seen on this processor, where nothing can be on its way; as that may be out of date, the first
 * sleep is a short one then. */
static void say_sleeping(const struct cove_stream *stream, bool near)
{
    /* seq_cst: total order of sleep bit, look | message, sleep bit, with the fence below. */
    atomic_fetch_or_explicit(sleep_word(stream), COVEI_STREAM_SLEEPS, memory_order_seq_cst);
    if (near || !stream->segment->may_fence || covei_os->fence_all() < 0)
        atomic_thread_fence(memory_order_seq_cst);
}

static void say_awake(const struct cove_stream *stream)
{
    _Atomic uint32_t *word = sleep_word(stream);
    /* relaxed: only this end sets the bit; who cleared it has woken us. */
    if (atomic_load_explicit(word, memory_order_relaxed) & COVEI_STREAM_SLEEPS)
        atomic_fetch_and_explicit(word, ~COVEI_STREAM_SLEEPS, memory_order_relaxed);
}

/* Sleep for a slice, unless something came meanwhile. The bit stays from slice to slice; where it was cleared,
 * somebody woke us. */
static void doze(struct cove_stream *stream, is_ready *ready, uint64_t bytes, uint32_t lane, int64_t slice_ns,
                 bool near)
{
    _Atomic uint32_t *word = sleep_word(stream);
    uint32_t value = atomic_load_explicit(word, memory_order_relaxed);
    if (!(value & COVEI_STREAM_SLEEPS)) {
        say_sleeping(stream, near);
        value = atomic_load_explicit(word, memory_order_relaxed);
    }
    if (value & COVEI_STREAM_SLEEPS && !ready(stream, bytes)) {
        struct covei_watch watch = {.count = 0};
        if (lane != COVEI_NO_LANE)
            covei_watch_add(&watch, lane);
        covei_sleep(stream->segment, word, value, &watch, slice_ns, stream->interrupts);
    }
}

static int too_late(const struct cove_stream *stream, int result)
{
    const char *what = stream->end == COVE_WRITER ? "the reader made no room" : "nothing was written";
    struct peer peer = find_peer(stream);
    if (peer.claim == 0)
        return covei_error(result, "%s: %s%s: there is no %s", stream->name, what, result == -EAGAIN ? "" : " in time",
                           stream->end == COVE_WRITER ? "reader" : "writer");
    struct cove_member_info member = {0};
    if (COVEI_CLAIM_ROW(peer.claim) < stream->segment->max_members)
        covei_row_describe(stream->segment, COVEI_CLAIM_ROW(peer.claim), &member);
    return covei_error(result, "%s: %s%s by %s (pid %" PRId32 "), which is alive", stream->name, what,
                       result == -EAGAIN ? "" : " in time", member.command, member.pid);
}

static bool reader_has_gone(const struct cove_stream *stream)
{
    return stream->end == COVE_WRITER &&
           (atomic_load_explicit(&stream->shm->to_writer, memory_order_acquire) & COVEI_STREAM_GONE) != 0;
}

/* Has the other end's thread ended, as far as its sign of life tells? Cheap; the kernel is asked after each slice. */
static bool looks_dead(const struct cove_stream *stream, struct peer peer)
{
    return peer.lane < stream->segment->max_lanes && covei_lane_died(&stream->segment->lanes[peer.lane]);
}

/* Slices grow where there is nobody to wait for, and where the other end's sign of life is watched, which wakes us
 * when it dies. */
static int64_t next_slice(const struct cove_stream *stream, struct peer peer, int64_t slice_ns)
{
    if (peer.claim == 0)
        return least(2 * slice_ns, LONGEST_SLICE_NS);
    bool watched = peer.lane < stream->segment->max_lanes &&
                   covei_lane_life(&stream->segment->lanes[peer.lane]) != NULL;
    return watched ? least(2 * slice_ns, WATCHED_SLICE_NS) : OWNED_SLICE_NS;
}

static int wait_in_slices(struct cove_stream *stream, is_ready *ready, uint64_t bytes, int64_t deadline, bool near)
{
    int64_t slice = OWNED_SLICE_NS;
    for (bool first = true;; first = false) {
        if (ready(stream, bytes) || reader_has_gone(stream))
            return 0;
        struct peer peer = find_peer(stream);
        if ((!first || looks_dead(stream, peer)) && bury_peer(stream, peer, covei_wait_left(deadline)))
            return 0;
        int64_t left = covei_wait_left(deadline);
        if (left == 0)
            return too_late(stream, -ETIMEDOUT);
        if (atomic_load_explicit(&covei_interrupts, memory_order_acquire) != stream->interrupts)
            return covei_error(-EINTR, "%s: the wait was ended by cove_interrupt", stream->name);
        if (!(stream->flags & COVE_STREAM_SPIN))
            doze(stream, ready, bytes, peer.lane, least(near && first ? NEAR_SLICE_NS : slice, left), near && first);
        else if (spin(stream, ready, bytes))
            return 0;
        if (near && first)
            say_awake(stream); /* to say it again with a fence that reaches every processor */
        else
            slice = next_slice(stream, peer, slice);
    }
}

/* Until ready, or something happened that the caller should look at (0); -ETIMEDOUT. */
static int wait_for(struct cove_stream *stream, is_ready *ready, uint64_t bytes, int64_t deadline)
{
    bool always = (stream->flags & COVE_STREAM_SPIN) != 0, near = on_one_cpu(stream);
    stream->quick = !near && !(stream->flags & COVE_STREAM_NOSPIN) && covei_os->cpu_count() > 1;
    if ((always || stream->quick) && spin(stream, ready, bytes))
        return 0;
    if (stream->end == COVE_READER)
        covei_stream_publish(stream); /* a writer that waits for room must know all that is free before we sleep */
    int result = wait_in_slices(stream, ready, bytes, deadline, near);
    say_awake(stream);
    return result;
}

int covei_stream_wait_data(struct cove_stream *stream, int64_t timeout_ns)
{
    if (timeout_ns <= 0) {
        (void)bury_peer(stream, find_peer(stream), COVE_NOWAIT);
        return data_ready(stream, 0) ? 0 : too_late(stream, -EAGAIN);
    }
    int64_t deadline = covei_wait_begin(timeout_ns);
    if (!stream->in_long_write)
        stream->interrupts = atomic_load_explicit(&covei_interrupts, memory_order_acquire);
    int result = 0;
    while (result == 0 && !data_ready(stream, 0))
        result = wait_for(stream, data_ready, 0, deadline);
    return result;
}

int covei_stream_attend(struct cove_stream *stream)
{
    struct covei_stream_shm *shm = stream->shm;
    /* acquire: the note was written before the bit was set. */
    uint32_t old = atomic_fetch_and_explicit(&shm->to_writer, ~COVEI_STREAM_GONE, memory_order_acquire);
    if (!(old & COVEI_STREAM_GONE) || stream->flags & COVE_STREAM_STAY)
        return 0;
    struct covei_departed_shm who = shm->reader_departed;
    if (who.session == stream->told_reader)
        return 0;
    stream->told_reader = who.session;
    who.command[sizeof who.command - 1] = '\0';
    uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire);
    return covei_error(who.how == COVEI_CLOSED ? -EPIPE : COVE_EPEER,
                       "%s: the reader %s (pid %" PRId32 ") %s; up to %" PRIu64
                       " bytes wait in the stream for the next reader",
                       stream->name, who.command, who.pid,
                       who.how == COVEI_DIED      ? "died"
                       : who.how == COVEI_GAVE_UP ? "gave up"
                                                  : "closed its end",
                       stream->tail - head);
}

int covei_stream_wait_room(struct cove_stream *stream, uint64_t bytes, int64_t timeout_ns)
{
    if (bytes + COVEI_STREAM_SPARE > stream->capacity)
        return covei_error(-EMSGSIZE, "%s: %" PRIu64 " bytes never fit", stream->name, bytes);
    int64_t deadline = timeout_ns > 0 ? covei_wait_begin(timeout_ns) : 0;
    if (!stream->in_long_write)
        stream->interrupts = atomic_load_explicit(&covei_interrupts, memory_order_acquire);
    while (!room_ready(stream, bytes)) {
        if (!head_sane(stream))
            return covei_error(COVE_ECORRUPT, "%s: the reader's place makes no sense: somebody wrote over it",
                               stream->name);
        if (timeout_ns <= 0) {
            (void)bury_peer(stream, find_peer(stream), COVE_NOWAIT);
            int gone = covei_stream_attend(stream);
            return gone < 0 ? gone : too_late(stream, -EAGAIN);
        }
        int result = wait_for(stream, room_ready, bytes, deadline);
        int gone = covei_stream_attend(stream);
        if (gone < 0 || result < 0)
            return gone < 0 ? gone : result;
    }
    if (!head_sane(stream))
        return covei_error(COVE_ECORRUPT, "%s: the reader's place makes no sense: somebody wrote over it",
                           stream->name);
    return 0;
}
