/* demo_stream.c - the demo's first two chapters: a file goes through a stream while one end is killed.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The successor stands by: it tries to open the end until the dead one's is free. Where to go on it learns from the
 * stream alone: a reader from bytes_read, a writer from bytes_read + bytes_unread. A reader writes to the copy at
 * that position before it consumes; so what the dead one had written and not consumed is written again, the same. */
#include "demo.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void note_told(const struct demo *demo, struct demo_slot *slot, const char *object, int64_t result)
{
    char name[CLI_NAME_BYTES];
    (void)snprintf(name, sizeof name, "%s/%s", demo->segment_name, object);
    (void)snprintf(slot->sentence, sizeof slot->sentence, "%s", cli_sentence(name, result));
    atomic_store_explicit(&slot->told_ns, cli_now_ns(), memory_order_release);
}

/* Who is to be killed does not get to the end, even where the teller is late. */
static void await_fate(const struct demo *demo, const struct demo_slot *slot)
{
    while (slot->doomed && slot->position >= demo->size_bytes / 4 * 3)
        (void)pause();
}

static int actor_failed(struct demo_slot *slot, int64_t result)
{
    (void)snprintf(slot->sentence, sizeof slot->sentence, "%s", result ? cove_last_error() : strerror(errno));
    slot->result = (int)result;
    return CLI_FAILED;
}

/* Open our end as soon as it is free, and find the file's position. */
static int take_over(const struct demo *demo, struct demo_slot *slot, const char *object, enum cove_end end,
                     cove_stream **stream, struct cove_stream_info *info)
{
    char name[CLI_NAME_BYTES];
    struct timespec moment = {.tv_nsec = 100000};
    int result;
    (void)snprintf(name, sizeof name, "%s/%s", demo->segment_name, object);
    while ((result = cove_stream_open(stream, name, end, NULL)) == -EBUSY)
        (void)nanosleep(&moment, NULL);
    if (result >= 0)
        result = cove_stream_stat(*stream, info);
    if (result < 0)
        return result;
    slot->took_over_at = info->bytes_read + (end == COVE_WRITER ? info->bytes_unread : 0);
    slot->position = slot->took_over_at;
    return 0;
}

static int play_writer(const struct demo *demo, struct demo_slot *slot, const char *object)
{
    cove_stream *stream;
    struct cove_stream_info info;
    int result = take_over(demo, slot, object, COVE_WRITER, &stream, &info);
    if (result < 0)
        return actor_failed(slot, result);
    for (uint64_t at = slot->position; at < demo->size_bytes;) {
        void *room;
        result = cove_stream_reserve(stream, &room, info.capacity_bytes / 4, COVE_FOREVER);
        if (result == COVE_EPEER || result == -EPIPE) {
            note_told(demo, slot, object, result);
            continue; /* told once; the next reader goes on */
        }
        ssize_t count = result < 0 ? 0 : pread(demo->source, room, info.capacity_bytes / 4, (off_t)at);
        if (count <= 0 || (result = cove_stream_commit(stream, (size_t)count)) < 0)
            return actor_failed(slot, result);
        at += (uint64_t)count;
        if (slot->first_ns == 0)
            slot->first_ns = cli_now_ns();
        atomic_store_explicit(&slot->position, at, memory_order_release);
        await_fate(demo, slot);
    }
    result = cove_stream_close(stream);
    return result < 0 ? actor_failed(slot, result) : CLI_DONE;
}

static int play_reader(const struct demo *demo, struct demo_slot *slot, const char *object)
{
    cove_stream *stream;
    struct cove_stream_info info;
    const void *piece;
    int64_t length;
    int result = take_over(demo, slot, object, COVE_READER, &stream, &info);
    if (result < 0)
        return actor_failed(slot, result);
    uint64_t at = slot->position;
    while ((length = cove_stream_peek(stream, &piece, COVE_FOREVER)) != 0) {
        if (length == COVE_EPEER) {
            note_told(demo, slot, object, length);
            continue;
        }
        if (length < 0)
            return actor_failed(slot, length);
        if (slot->first_ns == 0)
            slot->first_ns = cli_now_ns();
        ssize_t count = pwrite(demo->copy, piece, (size_t)length, (off_t)at);
        if (count <= 0 || (result = cove_stream_consume(stream, (size_t)count)) < 0)
            return actor_failed(slot, count <= 0 ? 0 : result);
        at += (uint64_t)count;
        atomic_store_explicit(&slot->position, at, memory_order_release);
        await_fate(demo, slot);
    }
    result = cove_stream_close(stream);
    return result < 0 ? actor_failed(slot, result) : CLI_DONE;
}

/* ---- the teller's side ---- */

static bool has_position(const struct demo_slot *slot, uint64_t value)
{
    return atomic_load_explicit(&slot->position, memory_order_acquire) >= value;
}

static bool has_begun(const struct demo_slot *slot, uint64_t value)
{
    (void)value;
    return atomic_load_explicit(&slot->first_ns, memory_order_acquire) != 0;
}

static bool has_ended_well(struct demo *demo, int slot, const char *who)
{
    if (demo_await(demo, slot) == CLI_DONE)
        return true;
    const struct demo_slot *told = &demo->board[slot];
    return demo_broken("the %s failed: %s", who, *told->sentence ? told->sentence : cove_strerror(told->result));
}

static void tell_told(const struct demo_slot *slot, const char *who, int64_t killed_ns)
{
    char span[16], clean[256];
    int64_t told_ns = atomic_load_explicit(&slot->told_ns, memory_order_acquire);
    if (told_ns)
        demo_tell("   %9s later   the %s was told:\n      \"%s\"\n", cli_show_span(span, told_ns - killed_ns), who,
                  cli_clean(clean, sizeof clean, slot->sentence));
}

static bool tell_outcome(struct demo *demo, int64_t began_ns, int64_t ended_ns, const char *who)
{
    char size[16], span[16], rate[24];
    uint32_t crc = 0;
    demo_tell("   %s in %s, %s with the kill in it\n", cli_show_size(size, demo->size_bytes),
              cli_show_span(span, ended_ns - began_ns), cli_show_rate(rate, demo->size_bytes, ended_ns - began_ns));
    if (!demo_compare(demo, &crc))
        return false;
    demo_tell("   what both %s left: checksum %08x, byte for byte the same\n\n", who, crc);
    return true;
}

/* Slots: the end that is killed, its successor, the one at the other end. */
enum { VICTIM, SUCCESSOR, OTHER };

/* One chapter: `victim_end` is killed in the middle. */
static bool play(struct demo *demo, const char *object, enum cove_end victim_end)
{
    bool reader_dies = victim_end == COVE_READER;
    const char *victim = reader_dies ? "reader" : "writer", *other = reader_dies ? "writer" : "reader";
    demo_role *victim_role = reader_dies ? play_reader : play_writer;
    struct demo_slot *board = demo->board;
    char span[16], where[16];
    int64_t began = cli_now_ns();
    if (!demo_cast_doomed(demo, VICTIM, victim_role, object) || !demo_until(has_begun, &board[VICTIM], 0) ||
        !demo_cast(demo, SUCCESSOR, victim_role, object) ||
        !demo_until(has_position, &board[VICTIM], demo->size_bytes / 2))
        return demo_broken("the %s never got to the middle: %s", victim, board[VICTIM].sentence);
    int64_t killed_ns = demo_kill(demo, VICTIM);
    demo_tell("   kill -9 %-9d   the %s, at %s of the file\n", (int)demo->actors[VICTIM], victim,
              cli_show_size(where, board[VICTIM].position));
    if (demo_await(demo, VICTIM) != -1)
        return demo_broken("the %s had ended before it could be killed", victim);
    if (!has_ended_well(demo, SUCCESSOR, victim) || !has_ended_well(demo, OTHER, other))
        return false;
    int64_t ended = cli_now_ns();
    bool told_first = board[OTHER].told_ns < board[SUCCESSOR].first_ns;
    if (told_first)
        tell_told(&board[OTHER], other, killed_ns);
    demo_tell("   %9s later   another %s had its first bytes, from byte %llu on\n",
              cli_show_span(span, board[SUCCESSOR].first_ns - killed_ns), victim,
              (unsigned long long)board[SUCCESSOR].took_over_at);
    if (!told_first)
        tell_told(&board[OTHER], other, killed_ns);
    return tell_outcome(demo, began, ended, reader_dies ? "readers" : "writers");
}

bool demo_reader_dies(struct demo *demo)
{
    demo_tell("1. A reader is killed\n");
    return demo_clear_copy(demo) && demo_cast(demo, OTHER, play_writer, "first") && play(demo, "first", COVE_READER);
}

bool demo_writer_dies(struct demo *demo)
{
    demo_tell("2. A writer is killed\n");
    return demo_clear_copy(demo) && demo_cast(demo, OTHER, play_reader, "second") && play(demo, "second", COVE_WRITER);
}
