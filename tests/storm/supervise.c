/* supervise.c - starts workers, kills them at random moments, replaces them, notices hangs, and calls the judge.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS_A_ROUND 100

struct crew {
    const struct act *act;
    pid_t pids[WORKERS];
    uint64_t random;
    uint64_t kills;
    bool stay;
};

uint64_t patience_ns(void)
{
    const char *scale = getenv("COVE_TEST_SCALE");
    uint64_t times = scale ? strtoull(scale, NULL, 10) : 1;
    return (times > 0 ? times : 1) * UINT64_C(15000000000);
}

pid_t start(part *child, uint32_t seat, uint64_t seed)
{
    atomic_store(&ledger->seats[seat].doing, DOING_NOTHING);
    atomic_store(&ledger->seats[seat].wants, 0);
    atomic_store(&ledger->seats[seat].since_ns, now_ns());
    (void)fflush(stdout);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        child(seat, seed);
        _exit(1);
    }
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    return pid;
}

/* ---- the report of a hang */

static void print_first_line(const char *path)
{
    char line[200] = "";
    FILE *file = fopen(path, "r");
    if (file) {
        if (!fgets(line, sizeof line, file))
            line[0] = '\0';
        (void)fclose(file);
    }
    line[strcspn(line, "\n")] = '\0';
    printf("%s", line);
}

static void print_threads(pid_t pid)
{
    char path[300];
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        printf("      thread %s sleeps in ", entry->d_name);
        (void)snprintf(path, sizeof path, "/proc/%d/task/%s/wchan", (int)pid, entry->d_name);
        print_first_line(path);
        printf(", system call ");
        (void)snprintf(path, sizeof path, "/proc/%d/task/%s/syscall", (int)pid, entry->d_name);
        print_first_line(path);
        printf("\n");
    }
    if (directory)
        (void)closedir(directory);
}

static void print_holder(cove_segment *segment, cove_ref lock)
{
    struct cove_member_info holder;
    const cove_mutex *mutex = segment ? cove_at(segment, lock, sizeof *mutex) : NULL;
    if (!mutex)
        return;
    uint64_t at = lock - atomic_load(&ledger->world_ref);
    printf(", lock at byte %llu of the world", (unsigned long long)at);
    if (cove_mutex_holder(segment, mutex, &holder) == 1)
        printf(", held by pid %d (row %u, generation %u, %s)", holder.pid, holder.row, holder.generation,
               holder.alive ? "alive" : "dead");
    else
        printf(", held by nobody");
}

static void print_segment(cove_segment *segment)
{
    struct cove_member_info members[2 * MEMBERS];
    struct cove_object_info objects[64];
    int64_t count = cove_segment_members(segment, members, 2 * MEMBERS);
    for (int64_t i = 0; i < count && i < 2 * MEMBERS; i++)
        printf("    member row %u generation %u: pid %d, %u lanes, %s\n", members[i].row, members[i].generation,
               members[i].pid, members[i].lanes, members[i].alive ? "alive" : "dead");
    count = cove_objects(segment, objects, 64);
    for (int64_t i = 0; i < count && i < 64; i++)
        if (*objects[i].figures)
            printf("    object %s: %s\n", objects[i].name, objects[i].figures);
}

/* Who waits for what. */
static void report_hang(const pid_t *pids, uint32_t stuck)
{
    cove_segment *segment = NULL;
    int result = cove_open(&segment, segment_name, &(struct cove_options){.flags = COVE_READONLY});
    printf("HANG: worker %u has been at one thing for more than %llu s\n", stuck,
           (unsigned long long)(patience_ns() / 1000000000u));
    for (uint32_t i = 0; i <= WORKERS; i++) {
        const struct seat *seat = &ledger->seats[i];
        pid_t pid = pids ? (i < WORKERS ? pids[i] : 0) : 0;
        uint64_t wants = atomic_load(&seat->wants);
        if (i != stuck && pid == 0)
            continue;
        printf("    worker %u (pid %d): %s for %llu ms", i, (int)pid, doing_name(atomic_load(&seat->doing)),
               (unsigned long long)((now_ns() - atomic_load(&seat->since_ns)) / 1000000u));
        if (wants != 0)
            print_holder(segment, wants);
        printf("\n");
        if (pid > 0)
            print_threads(pid);
    }
    if (result == 0)
        print_segment(segment);
    else
        printf("    the segment cannot be looked at: %s\n", cove_last_error());
    (void)cove_close(segment);
    (void)fflush(stdout);
}

static void stay_here(bool stay)
{
    if (!stay)
        return;
    printf("Everything stays as it is until a line is entered\n");
    (void)fflush(stdout);
    (void)getchar();
}

static bool stuck(uint32_t seat)
{
    uint64_t since = atomic_load(&ledger->seats[seat].since_ns), now = now_ns();
    return now > since && now - since > patience_ns();
}

int await_child(pid_t pid, uint32_t seat)
{
    int status = 0;
    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            return status;
        if (stuck(seat)) {
            pid_t pids[WORKERS] = {0};
            if (seat < WORKERS)
                pids[seat] = pid;
            report_hang(pids, seat);
            print_threads(pid);
            kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return -1;
        }
        nap_ns(200000);
    }
}

/* ---- strikes */

static void hire(struct crew *crew, uint32_t seat)
{
    crew->pids[seat] = start(crew->act->work, seat, next_random(&crew->random));
}

/* A worker that ended by itself: by plan, or with a fault. */
static bool accept_end(uint32_t seat, int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        printf("worker %u ended by signal %d while it did: %s\n", seat, WTERMSIG(status),
               doing_name(atomic_load(&ledger->seats[seat].doing)));
    return false;
}

static bool kill_one(struct crew *crew, uint32_t seat)
{
    int status = 0;
    kill(crew->pids[seat], SIGKILL);
    (void)waitpid(crew->pids[seat], &status, 0);
    crew->pids[seat] = 0;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    crew->kills += killed;
    return killed || accept_end(seat, status);
}

/* Stopped for a while first: its locks stay its own, and others wait. */
static bool stop_and_kill(struct crew *crew, uint32_t seat)
{
    kill(crew->pids[seat], SIGSTOP);
    nap_ns(below(&crew->random, crew->act->gap_ns));
    return kill_one(crew, seat);
}

/* Stopped for a while, wherever it is: what it holds stays its own. */
static bool stop_and_go_on(struct crew *crew, uint32_t seat)
{
    kill(crew->pids[seat], SIGSTOP);
    nap_ns(below(&crew->random, crew->act->gap_ns));
    kill(crew->pids[seat], SIGCONT);
    return true;
}

/* As it is opening the segment, or has hardly begun. */
static bool kill_newcomer(struct crew *crew, uint32_t seat)
{
    if (!kill_one(crew, seat))
        return false;
    hire(crew, seat);
    nap_ns(below(&crew->random, 2000000));
    return kill_one(crew, seat);
}

/* Several at once: the recoverer dies too. */
static bool kill_many(struct crew *crew)
{
    bool good = true;
    uint64_t chosen = next_random(&crew->random);
    for (uint32_t i = 0; i < WORKERS; i++)
        if (chosen >> i & 1)
            kill(crew->pids[i], SIGKILL);
    for (uint32_t i = 0; i < WORKERS && good; i++)
        if (chosen >> i & 1)
            good = kill_one(crew, i);
    return good;
}

static bool strike(struct crew *crew)
{
    uint32_t seat = (uint32_t)below(&crew->random, WORKERS);
    if (crew->act->stops && one_in(&crew->random, 5))
        return stop_and_go_on(crew, seat);
    switch (below(&crew->random, 20)) {
    case 0:
        return kill_many(crew);
    case 1:
    case 2:
        return kill_newcomer(crew, seat);
    case 3:
        return stop_and_kill(crew, seat);
    default:
        return kill_one(crew, seat);
    }
}

/* Replace who is gone; see whether anybody hangs. */
static bool look_after(struct crew *crew, bool replace)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        int status = 0;
        if (crew->pids[i] > 0 && waitpid(crew->pids[i], &status, WNOHANG) == crew->pids[i]) {
            crew->pids[i] = 0;
            if (!accept_end(i, status))
                return false;
        }
        if (crew->pids[i] == 0 && replace)
            hire(crew, i);
        if (crew->pids[i] > 0 && stuck(i)) {
            report_hang(crew->pids, i);
            stay_here(crew->stay);
            return false;
        }
    }
    return true;
}

static void kill_all(struct crew *crew)
{
    for (uint32_t i = 0; i < WORKERS; i++)
        if (crew->pids[i] > 0)
            kill(crew->pids[i], SIGKILL);
    for (uint32_t i = 0; i < WORKERS; i++)
        if (crew->pids[i] > 0)
            (void)waitpid(crew->pids[i], NULL, 0);
    memset(crew->pids, 0, sizeof crew->pids);
}

static bool all_gone(const struct crew *crew)
{
    for (uint32_t i = 0; i < WORKERS; i++)
        if (crew->pids[i] > 0)
            return false;
    return true;
}

/* All at once by SIGKILL, or each when it has finished what it does. */
static bool end_work(struct crew *crew, bool kindly)
{
    bool good = true;
    atomic_store(&ledger->stop, true);
    while (kindly && good && !all_gone(crew)) {
        good = look_after(crew, false);
        nap_ns(1000000);
    }
    kill_all(crew);
    return good;
}

/* ---- a round */

static int print_segment_name(const char *name, void *context)
{
    printf("left: segment %s\n", name);
    ++*(int *)context;
    return 0;
}

bool directory_empty(void)
{
    int left = 0;
    (void)cove_segments(print_segment_name, &left);
    DIR *directory = opendir(cove_directory());
    struct dirent *entry;
    while (directory && (entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            printf("left: file %s\n", entry->d_name);
            left++;
        }
    if (directory)
        (void)closedir(directory);
    return left == 0 && directory != NULL;
}

bool storm_round(const struct plan *plan, const struct act *act, uint32_t round, uint64_t kills, uint64_t *killed)
{
    struct crew crew = {.act = act, .random = plan->seed + round, .stay = plan->stay};
    uint64_t deadline = now_ns() + plan->seconds * UINT64_C(1000000000);
    memset(ledger->streams, 0, sizeof ledger->streams);
    atomic_store(&ledger->stop, false);
    bool good = act->found_here ? act->found_here() : await_child(start(act->found, WORKERS, 0), WORKERS) == 0;
    while (good && crew.kills < kills && now_ns() < deadline) {
        good = look_after(&crew, true);
        nap_ns(below(&crew.random, act->gap_ns));
        good = good && strike(&crew) && atomic_load(&ledger->faulty) == 0;
    }
    good = end_work(&crew, good && round % 2 == 0) && good;
    good = good && await_child(start(act->judge, WORKERS, 0), WORKERS) == 0;
    if (!good)
        stay_here(plan->stay);
    *killed += crew.kills;
    return good && atomic_load(&ledger->faulty) == 0;
}

bool print_done(const char *what, const enum doing *doings, size_t count)
{
    bool all = true;
    printf("%s:", what);
    for (size_t i = 0; i < count; i++) {
        uint64_t sum = 0;
        for (uint32_t seat = 0; seat <= WORKERS; seat++)
            sum += atomic_load(&ledger->seats[seat].done[doings[i]]);
        printf(" %llu %s%s", (unsigned long long)sum, doing_name(doings[i]), i + 1 < count ? "," : "\n");
        all = all && sum > 0;
    }
    return all;
}

bool storm_rounds(const struct plan *plan, const struct act *act, const char *what, uint64_t *killed)
{
    uint64_t begun = now_ns(), deadline = begun + plan->seconds * UINT64_C(1000000000);
    bool good = true;
    for (uint32_t round = 0; good && *killed < plan->kills && now_ns() < deadline; round++) {
        struct plan rest = *plan;
        uint64_t left = plan->kills - *killed;
        rest.seconds = (deadline - now_ns()) / 1000000000u + 1;
        good = storm_round(&rest, act, round, left < KILLS_A_ROUND ? left : KILLS_A_ROUND, killed);
        good = directory_empty() && !memory_left() && good;
        if (round % 10 == 9)
            printf("%s, round %u: %llu kills so far\n", what, round + 1, (unsigned long long)*killed);
    }
    printf("%s: %llu kills in %llu ms\n", what, (unsigned long long)*killed,
           (unsigned long long)((now_ns() - begun) / 1000000u));
    if (good && *killed < plan->kills)
        printf("%s: time was up after %llu of %llu kills\n", what, (unsigned long long)*killed,
               (unsigned long long)plan->kills);
    return good;
}
