/* latency.c - how long after a kill of who holds something a waiter goes on, for each primitive that can be held.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One process takes it, another waits, and when it is seen to sleep the first is killed. Time counts from before
 * the kill is sent, so it holds the kernel's part, too: until the victim runs no more. The figures are printed;
 * they fail the test only where they are not of the kind that is promised, as a busy machine adds to them. */
#include "hall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_KILLS = 1000 }; /* for each */
#define LIMIT_NS 100000000 /* at the median: ten times what is promised for 99 of 100 */

struct held {
    const char *name;
    void (*take)(cove_segment *segment, struct hall *hall);
    void (*wait)(cove_segment *segment, struct hall *hall);
};

/* Between the three processes; in memory that they share. */
struct signals {
    _Atomic uint32_t is_held, goes_to_sleep;
    _Atomic uint64_t went_on_ns;
};

static struct signals *signals;

/* ---- what is held, and how one waits for it */

static void take_fair(cove_segment *segment, struct hall *hall)
{
    must(cove_mutex_lock(segment, &hall->fair, COVE_FOREVER), "lock");
}

static void take_mutex(cove_segment *segment, struct hall *hall)
{
    must(cove_mutex_lock(segment, &hall->shop.lock, COVE_FOREVER), "lock");
}

/* With something to put back. */
static void take_in_transaction(cove_segment *segment, struct hall *hall)
{
    must(cove_begin(segment), "begin");
    take_mutex(segment, hall);
    must(cove_save(segment, hall->shop.goods, sizeof hall->shop.goods), "save");
    memset(hall->shop.goods, 0xee, sizeof hall->shop.goods);
}

static void take_to_read(cove_segment *segment, struct hall *hall)
{
    must(cove_rwlock_lock_shared(segment, &hall->rwlock, COVE_FOREVER), "lock to read");
}

static void take_to_write(cove_segment *segment, struct hall *hall)
{
    must(cove_rwlock_lock(segment, &hall->rwlock, COVE_FOREVER), "lock to write");
}

static void take_permits(cove_segment *segment, struct hall *hall)
{
    for (int i = 0; i < PERMITS; i++)
        must(cove_semaphore_acquire(segment, &hall->owned, COVE_FOREVER), "acquire");
}

static void be_a_party(cove_segment *segment, struct hall *hall)
{
    if (cove_barrier_wait(segment, &hall->barrier, 2, 1) != -ETIMEDOUT)
        fault("becoming a party: %s", cove_last_error());
}

static int stay_inside(void *context)
{
    (void)context;
    atomic_store(&signals->is_held, 1);
    while (pause() < 0) {} /* for good */
    return 0;
}

static void be_doing_it(cove_segment *segment, struct hall *hall)
{
    must(cove_once_call(segment, &hall->onces[0].once, stay_inside, NULL, COVE_FOREVER), "a once");
}

static int undone(void *context)
{
    (void)context;
    return -ECANCELED; /* so that the next round finds it undone */
}

static void await_once(cove_segment *segment, struct hall *hall)
{
    if (cove_once_call(segment, &hall->onces[0].once, undone, NULL, COVE_FOREVER) != -ECANCELED)
        fault("a once that nobody did is done");
}

static void await_permit(cove_segment *segment, struct hall *hall)
{
    must(cove_semaphore_acquire(segment, &hall->owned, COVE_FOREVER), "acquire");
}

static void await_round(cove_segment *segment, struct hall *hall)
{
    if (cove_barrier_wait(segment, &hall->barrier, 2, COVE_FOREVER) != COVE_EPEER)
        fault("a party died, and the other was told: %s", cove_last_error());
}

static const struct held things[] = {{"mutex", take_mutex, take_mutex},
                                     {"mutex, in a transaction", take_in_transaction, take_mutex},
                                     {"fair mutex", take_fair, take_fair},
                                     {"rwlock, writer dies, reader waits", take_to_write, take_to_read},
                                     {"rwlock, writer dies, writer waits", take_to_write, take_to_write},
                                     {"rwlock, reader dies, writer waits", take_to_read, take_to_write},
                                     {"semaphore, owner dies", take_permits, await_permit},
                                     {"barrier, party dies", be_a_party, await_round},
                                     {"once, who does it dies", be_doing_it, await_once}};

/* ---- a round */

static const struct held *held;

static void hold(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    struct hall *hall = open_hall(&worker, COVE_EXISTING);
    held->take(worker.segment, hall);
    atomic_store(&signals->is_held, 1);
    for (;;)
        pause();
}

static void wait_for_it(uint32_t seat, uint64_t seed)
{
    struct worker worker = {.seat = &ledger->seats[seat], .random = seed};
    struct hall *hall = open_hall(&worker, COVE_EXISTING);
    while (!atomic_load(&signals->is_held))
        nap_ns(20000);
    atomic_store(&signals->goes_to_sleep, 1);
    held->wait(worker.segment, hall);
    atomic_store(&signals->went_on_ns, now_ns());
    _exit(0); /* what it has comes back */
}

static bool in_futex(pid_t pid)
{
    char path[64], text[32] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    (void)close(fd);
    long number = got > 0 && text[0] >= '0' && text[0] <= '9' ? strtol(text, NULL, 10) : -1;
    return number == SYS_futex || number == 449 /* futex_waitv */;
}

/* Asleep for good, not just on its way: seen so twice. */
static bool await_sleep(pid_t pid)
{
    uint64_t until_ns = now_ns() + patience_ns();
    for (int seen = 0; seen < 2 && now_ns() < until_ns; nap_ns(100000))
        seen = atomic_load(&signals->goes_to_sleep) && in_futex(pid) ? seen + 1 : 0;
    return now_ns() < until_ns;
}

static bool play_round(uint64_t *took_ns)
{
    memset(signals, 0, sizeof *signals);
    pid_t holder = start(hold, 0, 0), waiter = start(wait_for_it, 1, 0);
    bool good = await_sleep(waiter);
    uint64_t killed_ns = now_ns();
    kill(holder, SIGKILL);
    (void)waitpid(holder, NULL, 0);
    good = await_child(waiter, 1) == 0 && good;
    *took_ns = atomic_load(&signals->went_on_ns) - killed_ns;
    return good && atomic_load(&ledger->faulty) == 0;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool measure(uint64_t rounds, uint64_t *killed)
{
    static uint64_t took_ns[MOST_KILLS];
    for (uint64_t i = 0; i < rounds; i++, ++*killed)
        if (!play_round(&took_ns[i])) {
            printf("%s: round %llu failed\n", held->name, (unsigned long long)i);
            return false;
        }
    qsort(took_ns, rounds, sizeof *took_ns, compare);
    printf("%-36s %8llu %8.3f %8.3f %8.3f\n", held->name, (unsigned long long)rounds, (double)took_ns[rounds / 2] / 1e6,
           (double)took_ns[rounds * 99 / 100] / 1e6, (double)took_ns[rounds - 1] / 1e6);
    return took_ns[rounds / 2] < LIMIT_NS;
}

bool latency_storm(const struct plan *plan, uint64_t *killed)
{
    uint64_t rounds = plan->kills / 5 < MOST_KILLS ? plan->kills / 5 + 1 : MOST_KILLS;
    signals = mmap(NULL, sizeof *signals, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    name_hall();
    bool good = signals != MAP_FAILED && await_child(start(found_hall, WORKERS, 0), WORKERS) == 0;
    printf("%-36s %8s %8s %8s %8s\n", "from the kill until a waiter goes on", "kills", "p50 ms", "p99 ms", "max ms");
    for (size_t i = 0; i < sizeof things / sizeof *things && good; i++) {
        held = &things[i];
        good = measure(rounds, killed);
    }
    return cove_unlink(segment_name, 0) == 0 && good;
}
