/* copying.c - a storm over a segment in a file that is copied by cove_sync all the while, and over power cuts.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Six of the eight do what the workers of the other storm do, two copy and look at what they copied: PATH.synced is
 * copied to a file of its own and opened as a segment that nobody is in. It must be sound, no cent may be missing,
 * chains must be whole, and streams hold all that had been acknowledged before the copy was begun, byte for byte.
 * At the end of each round, when everybody is dead, the power is cut: the header is made that of another run of the
 * system. What is opened then must be such a copy too, and after that the round ends like all others. */
#include "storm.h"

#include "segment/segment_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COPIERS = 2 };

#define SYNC_TIMEOUT_NS INT64_C(10000000000)

/* ---- looking at a copy */

static void path_of(char path[200], const char *name)
{
    (void)snprintf(path, 200, "%s", name + strlen("file:"));
}

static bool copy_file(const char *from, const char *to)
{
    static unsigned char bytes[1 << 18];
    ssize_t got = 0;
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = in >= 0 && out >= 0;
    while (good && (got = read(in, bytes, sizeof bytes)) > 0)
        good = write(out, bytes, (size_t)got) == got;
    (void)close(in);
    (void)close(out);
    return good && got == 0;
}

/* Of a world that nobody else is in. */
static void check_world(struct worker *worker, const struct stream_marks *since)
{
    static char when[] = "in a copy";
    void *memory = NULL;
    judge_members(worker);
    begin_doing(worker, DOING_LOOK);
    check_sound(worker->segment, when);
    must(cove_object_open(&memory, worker->segment, WORLD_NAME, &world_type, COVE_EXISTING), "the world of a copy");
    worker->world = memory;
    int64_t sum = count_money(worker->world);
    if (sum != ACCOUNTS * START_CENTS)
        fault("there are %lld cents in a copy, not %d", (long long)sum, ACCOUNTS * START_CENTS);
    for (uint32_t i = 0; i < ACCOUNTS; i++) { /* every lock can be had at once */
        must(cove_mutex_lock(worker->segment, &worker->world->accounts[i].lock, COVE_NOWAIT), "lock in a copy");
        unlock(worker, &worker->world->accounts[i].lock);
    }
    for (uint32_t i = 0; i < CHAINS; i++)
        check_chain(worker->segment, &worker->world->chains[i]);
    check_streams(worker, since);
    check_sound(worker->segment, when);
    end_doing(worker, DOING_LOOK);
}

static void look_at_copy(struct worker *worker, uint32_t seat, const struct stream_marks *since)
{
    char synced[220], path[200], name[220];
    struct worker other = {.seat = worker->seat, .random = next_random(&worker->random)};
    path_of(path, segment_name);
    (void)snprintf(synced, sizeof synced, "%s.synced", path);
    (void)snprintf(path, sizeof path, "%s/copy-%u.file", cove_directory(), seat);
    (void)snprintf(name, sizeof name, "file:%s", path);
    begin_doing(worker, DOING_LOOK);
    (void)unlink(path); /* of a copier that was killed */
    if (!copy_file(synced, path))
        fault("copying %s: %s", synced, strerror(errno));
    int result = cove_open(&other.segment, name, &(struct cove_options){.flags = COVE_EXISTING});
    if (must(result, "open a copy") != 0)
        fault("opening a copy gave %d", result);
    end_doing(worker, DOING_LOOK);
    check_world(&other, since);
    begin_doing(worker, DOING_LOOK);
    must(cove_close(other.segment), "close a copy");
    must(cove_unlink(name, 0), "remove a copy");
    end_doing(worker, DOING_LOOK);
}

/* ---- the copiers */

static void note_slowest(uint64_t took_ns)
{
    uint64_t slowest = atomic_load(&ledger->slowest_sync_ns);
    while (took_ns > slowest && !atomic_compare_exchange_weak(&ledger->slowest_sync_ns, &slowest, took_ns))
        ;
}

static void copy_once(struct worker *worker, uint32_t seat)
{
    struct stream_marks since;
    begin_doing(worker, DOING_SYNC);
    mark_streams(&since);
    uint64_t begun = now_ns();
    must(cove_sync(worker->segment, SYNC_TIMEOUT_NS), "sync");
    note_slowest(now_ns() - begun);
    end_doing(worker, DOING_SYNC);
    look_at_copy(worker, seat, &since);
}

static void copy_or_work(uint32_t seat, uint64_t seed)
{
    if (seat >= COPIERS)
        work(seat, seed);
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    open_world(&worker);
    while (!atomic_load(&ledger->stop)) {
        copy_once(&worker, seat);
        for (uint64_t i = below(&worker.random, 30); i > 0; i--)
            do_transfer(&worker);
    }
    close_world(&worker);
    exit(0);
}

static void found(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    pid_t pid = start(found_world, seat, seed);
    if (await_child(pid, seat) != 0)
        exit(3);
    open_world(&worker);
    copy_once(&worker, seat); /* so that there is a copy, however early the power is cut */
    close_world(&worker);
    exit(0);
}

/* ---- the power cut */

static void cut_power(void)
{
    char path[200];
    struct covei_header_shm header;
    path_of(path, segment_name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, &header, sizeof header, 0) != sizeof header)
        fault("reading %s: %s", path, strerror(errno));
    header.boot_id[0] ^= 0xff;
    atomic_store(&header.clean, 0);
    if (pwrite(fd, &header, sizeof header, 0) != sizeof header)
        fault("writing %s: %s", path, strerror(errno));
    (void)close(fd);
}

/* Of what a copy holds that is older than the storm, only that it is whole can be said. */
static void judge(uint32_t seat, uint64_t seed)
{
    static const struct stream_marks anything;
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    char path[220];
    begin_doing(&worker, DOING_JUDGE);
    for (uint32_t copier = 0; copier < COPIERS; copier++) {
        (void)snprintf(path, sizeof path, "%s/copy-%u.file", cove_directory(), copier);
        (void)unlink(path); /* where it was killed */
        (void)snprintf(path, sizeof path, "%s/copy-%u.file.synced", cove_directory(), copier);
        (void)unlink(path);
    }
    cut_power();
    int result = cove_open(&worker.segment, segment_name, &(struct cove_options){.flags = COVE_EXISTING});
    if (must(result, "open after a power cut") != COVE_RECOVERED)
        fault("opening what was in use when the power was cut gave %d", result);
    end_doing(&worker, DOING_JUDGE);
    check_world(&worker, &anything);
    begin_doing(&worker, DOING_GC);
    must(cove_gc(0, NULL, NULL), "gc in the end");
    must(cove_close(worker.segment), "close in the end");
    must(cove_unlink(segment_name, 0), "unlink in the end");
    end_doing(&worker, DOING_GC);
    exit(0);
}

bool copy_storm(const struct plan *plan, uint64_t *killed)
{
    const struct act act = {.found = found, .work = copy_or_work, .judge = judge, .gap_ns = 40000000};
    static char name[200];
    enum place was = storm_place;
    const char *was_name = segment_name;
    storm_place = IN_FILE;
    name_place(name, storm_place, "bank", 0);
    segment_name = name;
    bool good = storm_rounds(plan, &act, "storm of copying", killed);
    bool copied = print_done("storm of copying", (const enum doing[]){DOING_SYNC, DOING_LOOK, DOING_JUDGE}, 3);
    printf("storm of copying: the slowest copy took %llu ms\n",
           (unsigned long long)(atomic_load(&ledger->slowest_sync_ns) / 1000000u));
    storm_place = was;
    segment_name = was_name;
    return good && copied;
}
