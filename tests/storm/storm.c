/* storm.c - the storm: eight processes at work, killed at random, and not a cent, byte or block astray.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     storm [--storm NAME]... [--place NAME] [--seed N] [--kills N] [--seconds S] [--stay]
 *
 * The storms, all of them where none is named:
 *     work       on one segment, in rounds of a hundred kills, each with a judgement at its end
 *     comings    opening, closing, removing and clearing up
 *     replacing  regions that are replaced and read
 *     copying    a segment in a file that is copied by cove_sync, with a power cut at the end of each round
 *     fair, rwlock, owned, plain, counter, goods (conditions and events), barrier, once
 *                one primitive each: what it guards is even, what it counts is there (hall.h)
 *     latency    no storm: holders are killed one by one, and it is measured how long until a waiter goes on
 * --place says where the segments of the first two lie: posix (the default), file, sysv, fd.
 *
 * 300 kills each in about 5 s, and no more than 12 s on a slow machine; with COVE_SOAK=1 10,000. The same seed gives
 * the same kinds of work and strikes, though not the same moments. --seconds ends each storm early and says so.
 * --stay: on a failure everything is left for a debugger. */
#include "storm.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define USUAL_KILLS 300
#define USUAL_SECONDS 12
#define SOAK_KILLS 10000
#define SOAK_SECONDS 3600

const char *segment_name;

typedef bool storm(const struct plan *plan, uint64_t *killed);

static const struct {
    const char *name;
    storm *run;
} storms[] = {{"work", work_storm},      {"comings", lifecycle_storm}, {"replacing", replace_storm},
              {"copying", copy_storm},   {"fair", fair_storm},         {"rwlock", rwlock_storm},
              {"owned", owned_storm},    {"plain", plain_storm},       {"counter", counter_storm},
              {"goods", goods_storm},    {"barrier", barrier_storm},   {"once", once_storm},
              {"latency", latency_storm}};

#define STORMS (sizeof storms / sizeof *storms)

static bool choose_storm(const char *name, unsigned *chosen)
{
    for (size_t i = 0; i < STORMS; i++)
        if (strcmp(name, storms[i].name) == 0) {
            *chosen |= 1u << i;
            return true;
        }
    return false;
}

static bool choose_place(const char *name)
{
    for (storm_place = 0; storm_place < PLACES; storm_place++)
        if (strcmp(name, place_word(storm_place)) == 0)
            return true;
    return false;
}

static bool parse(int argc, char **argv, struct plan *plan, unsigned *chosen)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"kills", required_argument, NULL, 'k'},
                                            {"storm", required_argument, NULL, 'w'},
                                            {"seconds", required_argument, NULL, 't'},
                                            {"place", required_argument, NULL, 'p'},
                                            {"stay", no_argument, NULL, 'y'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
        if (option == 's')
            plan->seed = strtoull(optarg, NULL, 0);
        else if (option == 'k')
            plan->kills = strtoull(optarg, NULL, 0), plan->seconds = SOAK_SECONDS;
        else if (option == 't')
            plan->seconds = strtoull(optarg, NULL, 0);
        else if (option == 'y')
            plan->stay = true;
        else if (!(option == 'w' && choose_storm(optarg, chosen)) && !(option == 'p' && choose_place(optarg)))
            return false;
    return optind == argc && plan->kills > 0 && plan->seconds > 0;
}

/* A directory of our own, in memory where there is some, so that any file that is left shows. */
static bool make_directory(char path[64])
{
    (void)snprintf(path, 64, "/dev/shm/storm-XXXXXX");
    if (!mkdtemp(path)) {
        (void)snprintf(path, 64, "/tmp/storm-XXXXXX");
        if (!mkdtemp(path))
            return false;
    }
    return setenv("COVE_DIR", path, 1) == 0;
}

static int remove_segment(const char *name, void *context)
{
    char copy[256];
    (void)context;
    (void)snprintf(copy, sizeof copy, "%s", name);
    (void)cove_unlink(copy, 1);
    return 0;
}

/* ---- the storm of work */

/* The founder sends the descriptor of its nameless memory; the others inherit it from us, and it goes with the last
 * of them. */
static bool found_nameless(void)
{
    static char name[32];
    static int kept = -1;
    int sockets[2];
    if (kept >= 0)
        (void)close(kept); /* of the round before */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        return false;
    founding_socket = sockets[1];
    pid_t pid = start(found_world, WORKERS, 0);
    (void)close(sockets[1]);
    kept = cove_fd_receive(sockets[0]);
    (void)close(sockets[0]);
    if (kept < 0)
        printf("receiving the descriptor: %s\n", cove_last_error());
    (void)snprintf(name, sizeof name, "fd:%d", kept);
    segment_name = name;
    return await_child(pid, WORKERS) == 0 && kept >= 0;
}

bool work_storm(const struct plan *plan, uint64_t *killed)
{
    const struct act act = {.found = found_world,
                            .work = work,
                            .judge = judge_world,
                            .found_here = storm_place == IN_FD ? found_nameless : NULL,
                            .gap_ns = 40000000};
    static char name[200];
    uint64_t bytes = 0;
    name_place(name, storm_place, "storm", 0);
    segment_name = name;
    bool good = storm_rounds(plan, &act, "storm", killed);
    for (uint32_t i = 0; i < STREAMS; i++)
        bytes += atomic_load(&ledger->streams[i].read);
    printf("storm: %llu bytes through streams in the last round, %llu lockers told of a recovery, segment up to %llu "
           "bytes\n",
           (unsigned long long)bytes, (unsigned long long)atomic_load(&ledger->recovered),
           (unsigned long long)atomic_load(&ledger->largest_bytes));
    enum doing doings[DOING_UNLINK];
    for (int i = 0; i < DOING_UNLINK; i++)
        doings[i] = (enum doing)(i + 1);
    return print_done("storm", doings, DOING_UNLINK) && good;
}

/* ---- all of them */

static void print_plan(const struct plan *plan, unsigned chosen)
{
    printf("storm --seed %llu --kills %llu --place %s", (unsigned long long)plan->seed, (unsigned long long)plan->kills,
           place_word(storm_place));
    for (size_t i = 0; i < STORMS; i++)
        if (chosen >> i & 1)
            printf(" --storm %s", storms[i].name);
    printf("\n");
}

int main(int argc, char **argv)
{
    const char *soak = getenv("COVE_SOAK");
    bool long_run = soak && strcmp(soak, "1") == 0, good = true;
    struct plan plan = {.seed = now_ns() ^ (uint64_t)getpid() << 32,
                        .kills = long_run ? SOAK_KILLS : USUAL_KILLS,
                        .seconds = long_run ? SOAK_SECONDS : USUAL_SECONDS};
    char directory[64];
    unsigned chosen = 0;
    if (!parse(argc, argv, &plan, &chosen)) {
        (void)fprintf(stderr, "usage: storm [--storm NAME]... [--place posix|file|sysv|fd] [--seed N] [--kills N]\n"
                              "             [--seconds S] [--stay]\nstorms:");
        for (size_t i = 0; i < STORMS; i++)
            (void)fprintf(stderr, " %s", storms[i].name);
        (void)fprintf(stderr, "\n");
        return 2;
    }
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ledger == MAP_FAILED || !make_directory(directory)) {
        perror("storm");
        return 1;
    }
    chosen = chosen != 0 ? chosen : (1u << STORMS) - 1;
    print_plan(&plan, chosen);
    for (size_t i = 0; i < STORMS && good; i++) {
        uint64_t killed = 0;
        memset(ledger->seats, 0, sizeof ledger->seats);
        good = !(chosen >> i & 1) || storms[i].run(&plan, &killed);
    }
    if (atomic_load(&ledger->faulty) != 0)
        printf("FAULT: %s\n", ledger->fault);
    (void)cove_segments(remove_segment, NULL);
    (void)memory_left();
    if (rmdir(directory) != 0) {
        printf("%s is not empty\n", directory);
        good = false;
    }
    printf("storm: %s\n", good ? "all even" : "FAILED");
    return good ? 0 : 1;
}
