/* storm.c - the storm: eight processes at work on one segment, killed at random, and not a cent, byte or block astray.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     storm [--seed N] [--kills N] [--seconds S] [--lifecycle] [--stay]
 *
 * Works in rounds of a hundred kills, each with a segment of its own and a judgement at its end; then storms opening and closing
 * (--lifecycle: only that). 300 kills each in about 10 s, and no more than 36 s on a slow machine; with COVE_SOAK=1 10,000. The same seed gives the
 * same kinds of work and strikes, though not the same moments. --seconds ends each of the two early and says so. --stay: on a failure everything is left for a debugger. */
#include "storm.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KILLS_A_ROUND 100
#define USUAL_KILLS 300
#define USUAL_SECONDS 18
#define SOAK_KILLS 10000
#define SOAK_SECONDS 3600

const char *segment_name = "storm";

static bool parse(int argc, char **argv, struct plan *plan, bool *only_lifecycle)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"kills", required_argument, NULL, 'k'},
        {"seconds", required_argument, NULL, 't'}, {"lifecycle", no_argument, NULL, 'l'},
        {"stay", no_argument, NULL, 'y'},          {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
        if (option == 's')
            plan->seed = strtoull(optarg, NULL, 0);
        else if (option == 'k')
            plan->kills = strtoull(optarg, NULL, 0), plan->seconds = SOAK_SECONDS;
        else if (option == 't')
            plan->seconds = strtoull(optarg, NULL, 0);
        else if (option == 'l')
            *only_lifecycle = true;
        else if (option == 'y')
            plan->stay = true;
        else
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

/* False if there was something that nobody ever finished. */
static bool print_work(void)
{
    uint64_t sums[DOING_COUNT] = {0};
    bool all = true;
    for (uint32_t seat = 0; seat <= WORKERS; seat++)
        for (int doing = 0; doing < DOING_COUNT; doing++)
            sums[doing] += atomic_load(&ledger->seats[seat].done[doing]);
    printf("done:");
    for (int doing = 1; doing < DOING_COUNT; doing++) {
        printf(" %llu %s%s", (unsigned long long)sums[doing], doing_name((enum doing)doing),
               doing + 1 < DOING_COUNT ? "," : "\n");
        all = all && sums[doing] > 0;
    }
    return all;
}

static void begin_round(void)
{
    memset(ledger->streams, 0, sizeof ledger->streams);
    atomic_store(&ledger->stop, false);
}

static bool all_rounds(const struct plan *plan, uint64_t *killed)
{
    uint64_t deadline = now_ns() + plan->seconds * UINT64_C(1000000000), bytes = 0;
    bool good = true;
    for (uint32_t round = 0; good && *killed < plan->kills && now_ns() < deadline; round++) {
        struct plan rest = *plan;
        uint64_t left = plan->kills - *killed;
        rest.seconds = (deadline - now_ns()) / 1000000000u + 1;
        begin_round();
        good = storm_round(&rest, round, left < KILLS_A_ROUND ? left : KILLS_A_ROUND, killed);
        for (uint32_t i = 0; i < STREAMS; i++)
            bytes += atomic_load(&ledger->streams[i].read);
        if (round % 10 == 9)
            printf("round %u: %llu kills so far\n", round + 1, (unsigned long long)*killed);
    }
    printf("storm: %llu kills, %llu bytes through streams, %llu lockers told of a recovery, segment up to %llu bytes\n",
           (unsigned long long)*killed, (unsigned long long)bytes, (unsigned long long)atomic_load(&ledger->recovered),
           (unsigned long long)atomic_load(&ledger->largest_bytes));
    if (good && *killed < plan->kills)
        printf("storm: time was up after %llu of %llu kills\n", (unsigned long long)*killed,
               (unsigned long long)plan->kills);
    return good;
}

int main(int argc, char **argv)
{
    const char *soak = getenv("COVE_SOAK");
    bool long_run = soak && strcmp(soak, "1") == 0, only_lifecycle = false;
    struct plan plan = {.seed = now_ns() ^ (uint64_t)getpid() << 32,
                        .kills = long_run ? SOAK_KILLS : USUAL_KILLS,
                        .seconds = long_run ? SOAK_SECONDS : USUAL_SECONDS};
    char directory[64];
    uint64_t killed = 0, killed_in_calls = 0;
    if (!parse(argc, argv, &plan, &only_lifecycle)) {
        (void)fprintf(stderr, "usage: storm [--seed N] [--kills N] [--seconds S] [--lifecycle] [--stay]\n");
        return 2;
    }
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ledger == MAP_FAILED || !make_directory(directory)) {
        perror("storm");
        return 1;
    }
    printf("storm --seed %llu --kills %llu\n", (unsigned long long)plan.seed, (unsigned long long)plan.kills);
    bool good = only_lifecycle || all_rounds(&plan, &killed);
    good = good && lifecycle_storm(&plan, &killed_in_calls);
    if (!print_work() && good && !only_lifecycle) {
        printf("there is work that nobody ever did\n");
        good = false;
    }
    if (atomic_load(&ledger->faulty) != 0)
        printf("FAULT: %s\n", ledger->fault);
    (void)cove_segments(remove_segment, NULL);
    if (rmdir(directory) != 0) {
        printf("%s is not empty\n", directory);
        good = false;
    }
    printf("storm: %s\n", good ? "all even" : "FAILED");
    return good ? 0 : 1;
}
