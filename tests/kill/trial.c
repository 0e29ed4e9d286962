/* trial.c - plays a scenario of the kill table once, and says what came of it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The order of play:
 *   1  a copy of the image is put in place; middle, greedy, sleeper and second attach, middle begins its transaction; a
 *      second one that is to be dead is killed
 *   2  the recoverer attaches (where there is one), the victim attaches and comes to the begin mark; both stand still; a
 *      second one that is to die is killed
 *   3  where the sleeper waits for something that the victim's operation ends, it goes to sleep now, and is stopped there: so
 *      that it cannot put itself into the operation's path at another place in each trial
 *   4  the victim is stepped to its point; any other sleeper makes its call now, and waits, or not
 *   5  the victim is killed; the recoverer, if any, is stepped to its point and killed
 *   6  sleeper and second go on, greedy takes memory, and all must be done in time (a second one that is to be stopped
 *      goes on when the sleeper is done); then the middle one commits
 *   7  all but the probe undo what they left by design and leave; the probe does its part and leaves too
 *   8  used bytes, blocks and objects must be those of the image, and the directory must hold nothing else
 * Where nobody is killed (trial_stopped) the victim stands at its point in step 4, those who sleep have their look, and it
 * goes on to its end instead of step 5.
 *
 * A process that is not back within PATIENCE_NS hangs. Recovery time counts from the kernel's word (waitpid) to the return
 * of the last call that had to wait for the recovery: the sleeper's, if it slept, and greedy's first. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "trial.h"

#include "crew.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SEED_NUMBER = LEDGER_NUMBERS - 1 };

#define RECORD_NS (20 * PATIENCE_NS)

struct play {
    struct theatre *theatre;
    struct trial *trial;
    struct crew crew;
    struct stepper victim;
    struct stage victim_stage;
    struct stepper recoverer;
    struct stage recoverer_stage;
    int sleeps; /* the sleeper was asleep when the victim died */
    int64_t dead_ns; /* the kernel's word of the last death */
    struct stage voice; /* findings of the harness speak of the victim */
};

static int has(const struct play *play, unsigned trait)
{
    return (play->theatre->scenario->traits & trait) != 0;
}

static enum second_part second_part(const struct play *play)
{
    return play->theatre->scenario->second_part;
}

/* ---- the segment's file --------------------------------------------------------------------------------------- */

static int write_file(const char *path, const unsigned char *bytes, size_t size_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return 0;
    int good = write(fd, bytes, size_bytes) == (ssize_t)size_bytes;
    close(fd);
    return good;
}

static int read_file(const char *path, unsigned char **bytes, size_t *size_bytes)
{
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) < 0)
        return 0;
    *size_bytes = (size_t)facts.st_size;
    *bytes = malloc(*size_bytes);
    int good = *bytes != NULL && read(fd, *bytes, *size_bytes) == (ssize_t)*size_bytes;
    close(fd);
    return good;
}

/* System V memory is built anew by the library; a file is written. */
static int put_image(struct play *play)
{
    const struct theatre *theatre = play->theatre;
    if (has(play, NO_IMAGE))
        return 1;
    if (theatre->image == NULL) {
        crew_start(&play->crew, ROLE_BUILDER);
        crew_join(&play->crew, ROLE_BUILDER);
        return 1; /* what went wrong is noted */
    }
    return write_file(theatre->path, theatre->image, theatre->image_bytes) &&
           (theatre->copy == NULL || write_file(copy_path(), theatre->copy, theatre->copy_bytes));
}

/* Removes all that is in the directory, and the memory. What is no segment of ours is debris, and noted where `play`
 * is given. */
static void sweep(const struct theatre *theatre, struct play *play)
{
    char path[600];
    struct stage nobody = {.scenario = theatre->scenario};
    const char *debris = play != NULL ? debris_left(&nobody) : NULL;
    if (debris != NULL)
        finding(&play->voice, VERDICT_LEAKED, "debris: %s", debris);
    DIR *directory = opendir(theatre->directory);
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", theatre->directory, entry->d_name);
        unlink(path); /* "." and ".." are refused */
    }
    closedir(directory);
    sysv_sweep(0);
}

/* ---- the acts ------------------------------------------------------------------------------------------------- */

static void collect(struct play *play)
{
    const struct ledger *ledger = play->theatre->ledger;
    struct trial *trial = play->trial;
    trial->finding_count = atomic_load(&ledger->finding_count);
    uint32_t kept = trial->finding_count < LEDGER_FINDINGS ? trial->finding_count : LEDGER_FINDINGS;
    memcpy(trial->finding, ledger->finding, sizeof trial->finding);
    for (uint32_t i = 0; i < kept; i++)
        trial->count[trial->finding[i].verdict] = 1;
}

static void attach_bystanders(struct play *play)
{
    struct crew *crew = &play->crew;
    if (!has(play, ALONE | NO_IMAGE | NO_MIDDLE)) {
        crew_start(crew, ROLE_MIDDLE);
        crew_await(crew, ROLE_MIDDLE, PHASE_READY); /* before greedy: both at once would race for memory's order */
    }
    if (!has(play, ALONE | NO_IMAGE)) {
        crew_start(crew, ROLE_GREEDY);
        crew_await(crew, ROLE_GREEDY, PHASE_READY);
    }
    if (play->theatre->scenario->sleep != NULL) {
        crew_start(crew, ROLE_SLEEPER);
        crew_await(crew, ROLE_SLEEPER, PHASE_READY);
    }
    if (second_part(play) != SECOND_NONE) {
        crew_start(crew, ROLE_SECOND);
        crew_await(crew, ROLE_SECOND, PHASE_READY);
    }
    if (second_part(play) == SECOND_DEAD)
        crew_kill(crew, ROLE_SECOND);
}

static int send_to_sleep(struct play *play, enum role role)
{
    if (play->crew.pid[role] == 0)
        return 0;
    crew_send(&play->crew, role, PHASE_GO);
    return crew_await_sleep(&play->crew, role);
}

static void send_sleepers(struct play *play)
{
    if (second_part(play) == SECOND_STOPPED) {
        if (play->theatre->scenario->second != NULL)
            send_to_sleep(play, ROLE_SECOND);
        crew_freeze(&play->crew, ROLE_SECOND);
    }
    play->sleeps = send_to_sleep(play, ROLE_SLEEPER);
    if (second_part(play) == SECOND_BEHIND)
        send_to_sleep(play, ROLE_SECOND);
}

/* Step 4, the victim being at its point. */
static void send_those_behind(struct play *play)
{
    if (!has(play, SLEEP_FIRST))
        send_sleepers(play);
    if (second_part(play) == SECOND_AT_POINT)
        send_to_sleep(play, ROLE_SECOND);
}

/* Step 1. */
static void raise_curtain(struct play *play, struct theatre *theatre, uint64_t seed, struct trial *trial)
{
    *trial = (struct trial){.point = NOT_KILLED, .recovery_point = NOT_KILLED};
    *play = (struct play){.theatre = theatre, .trial = trial};
    play->crew = (struct crew){.scenario = theatre->scenario, .ledger = theatre->ledger};
    play->voice = (struct stage){.scenario = theatre->scenario, .ledger = theatre->ledger, .role = ROLE_VICTIM};
    ledger_reset(theatre->ledger);
    theatre->ledger->number[SEED_NUMBER] = seed;
    if (!put_image(play)) {
        fprintf(stderr, "kill_table: %s: %s\n", theatre->path, strerror(errno));
        exit(2);
    }
    attach_bystanders(play);
}

static int lead(struct play *play, struct stepper *stepper, struct stage *stage, enum role role, int (*run)(void *))
{
    *stage = (struct stage){.scenario = play->theatre->scenario, .ledger = play->theatre->ledger, .role = role};
    enum stepper_outcome outcome = stepper_start(stepper, run, stage, PATIENCE_NS * 4);
    if (outcome == STEPPER_AT_POINT)
        return 1;
    play->trial->refused = outcome == STEPPER_REFUSED;
    finding(&play->voice, outcome == STEPPER_TIMEOUT ? VERDICT_HANG : VERDICT_CORRUPT,
            "did not come to the beginning of the operation (outcome %d)", (int)outcome);
    return 0;
}

/* Steps 2 and 3. */
static int lead_victim(struct play *play)
{
    if (!lead(play, &play->victim, &play->victim_stage, ROLE_VICTIM, victim_run))
        return 0;
    if (second_part(play) == SECOND_DIES)
        crew_kill(&play->crew, ROLE_SECOND);
    if (has(play, SLEEP_FIRST)) {
        send_sleepers(play);
        crew_freeze(&play->crew, ROLE_SLEEPER);
        if (second_part(play) == SECOND_BEHIND)
            crew_freeze(&play->crew, ROLE_SECOND);
    }
    return 1;
}

/* A victim that faults or blocks by itself, before it is killed. */
static void judge_way(struct play *play, enum stepper_outcome outcome, const struct stepper *stepper)
{
    if (outcome == STEPPER_TIMEOUT)
        finding(&play->voice, VERDICT_HANG, "blocks inside its operation");
    if (outcome == STEPPER_FAULT)
        finding(&play->voice, VERDICT_CORRUPT, "gets signal %d inside its operation", stepper->fault_signal);
    if (outcome == STEPPER_AT_END || outcome == STEPPER_EXITED)
        play->theatre->missed++;
    play->theatre->drifted += stepper->drifted;
}

static void strike(struct play *play, struct stepper *stepper)
{
    stepper_kill(stepper);
    play->dead_ns = stepper_now_ns();
    atomic_store(&play->theatre->ledger->killed, 1);
}

static void let_second_go_on(struct play *play)
{
    crew_thaw(&play->crew, ROLE_SECOND);
    crew_send(&play->crew, ROLE_SECOND, PHASE_GO); /* where it was not sent before */
}

/* Step 6. */
static void let_others_go_on(struct play *play)
{
    struct crew *crew = &play->crew;
    struct ledger *ledger = play->theatre->ledger;
    int64_t last_ns = play->dead_ns;
    ledger->struck_ns = stepper_now_ns();
    crew_thaw(crew, ROLE_SLEEPER);
    if (second_part(play) != SECOND_STOPPED)
        let_second_go_on(play);
    if (has(play, MIDDLE_HOLDS))
        crew_send(crew, ROLE_MIDDLE, PHASE_GO);
    crew_send(crew, ROLE_GREEDY, PHASE_GO);
    if (crew->pid[ROLE_SLEEPER] != 0 && crew_await(crew, ROLE_SLEEPER, PHASE_DONE) && play->sleeps &&
        ledger->done_ns[ROLE_SLEEPER] > last_ns)
        last_ns = ledger->done_ns[ROLE_SLEEPER];
    if (second_part(play) == SECOND_STOPPED)
        let_second_go_on(play);
    if (crew->pid[ROLE_SECOND] != 0)
        crew_await(crew, ROLE_SECOND, PHASE_DONE);
    if (crew->pid[ROLE_GREEDY] != 0 && crew_await(crew, ROLE_GREEDY, PHASE_DONE) &&
        ledger->done_ns[ROLE_GREEDY] > last_ns)
        last_ns = ledger->done_ns[ROLE_GREEDY];
    play->trial->recovery_ns = last_ns - play->dead_ns;
    play->trial->slept = play->sleeps;
    crew_send(crew, ROLE_MIDDLE, PHASE_GO);
    if (crew->pid[ROLE_MIDDLE] != 0)
        crew_await(crew, ROLE_MIDDLE, PHASE_DONE);
}

static void send_home(struct play *play)
{
    for (int role = 0; role < ROLE_COUNT; role++)
        crew_send(&play->crew, (enum role)role, PHASE_LAST);
    for (int role = 0; role < ROLE_COUNT; role++)
        crew_join(&play->crew, (enum role)role);
}

static void compare_with_image(struct play *play)
{
    const struct theatre *theatre = play->theatre;
    const struct ledger *ledger = theatre->ledger;
    if (has(play, PROBE_OPENS) || atomic_load(&ledger->finding_count) != 0)
        return;
    if (ledger->used_bytes != theatre->used_bytes)
        finding(&play->voice, VERDICT_LEAKED, "used bytes differ from the image's by %lld",
                (long long)(ledger->used_bytes - theatre->used_bytes));
    if (ledger->block_count != theatre->block_count)
        finding(&play->voice, VERDICT_LEAKED, "blocks in use differ from the image's by %lld",
                (long long)(ledger->block_count - theatre->block_count));
    if (ledger->object_count != theatre->object_count)
        finding(&play->voice, VERDICT_LEAKED, "objects differ from the image's by %lld",
                (long long)(ledger->object_count - theatre->object_count));
}

/* A process that the victim made outlives it, does its part, and ends. Orphans come to this process. */
static void await_orphan(struct play *play)
{
    int status = play->victim.born_status;
    int64_t deadline_ns = stepper_now_ns() + PATIENCE_NS;
    if (status != 0)
        finding(&play->voice, VERDICT_CORRUPT, "its child ended with wait status 0x%x", (unsigned)status);
    while (play->victim.born != 0) {
        pid_t got = waitpid(play->victim.born, &status, WNOHANG);
        if (got < 0 && errno != EINTR)
            break; /* the victim itself has waited for it */
        if (got == play->victim.born && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
            finding(&play->voice, VERDICT_CORRUPT, "its child ended with wait status 0x%x", (unsigned)status);
        if (got == play->victim.born)
            break;
        if (stepper_now_ns() >= deadline_ns) {
            finding(&play->voice, VERDICT_HANG, "its child hangs");
            kill(play->victim.born, SIGKILL);
            deadline_ns = INT64_MAX;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
}

/* Steps 6 to 8. */
static void survive(struct play *play)
{
    await_orphan(play);
    let_others_go_on(play);
    send_home(play);
    crew_start(&play->crew, ROLE_PROBE);
    crew_join(&play->crew, ROLE_PROBE);
    compare_with_image(play);
    crew_end(&play->crew);
    sweep(play->theatre, play);
    collect(play);
}

static void give_up(struct play *play)
{
    stepper_kill(&play->victim);
    stepper_kill(&play->recoverer);
    crew_end(&play->crew);
    sweep(play->theatre, NULL);
    collect(play);
}

/* ---- the plays ------------------------------------------------------------------------------------------------ */

void trial_whole(struct theatre *theatre, int record, struct trial *trial)
{
    struct play play;
    raise_curtain(&play, theatre, 0, trial);
    if (!lead_victim(&play)) {
        give_up(&play);
        return;
    }
    if (record) {
        struct stepper_watch watch = {.path = theatre->path};
        stepper_trace_free(&theatre->trace);
        play.victim.deadline = stepper_now_ns() + RECORD_NS; /* each instruction costs some tens of microseconds */
        enum stepper_outcome outcome = theatre->by_calls ? stepper_record_calls(&play.victim, &theatre->trace)
                                                         : stepper_record(&play.victim, &theatre->trace, &watch);
        stepper_watch_free(&watch);
        if (outcome != STEPPER_AT_END)
            judge_way(&play, outcome, &play.victim);
    }
    int status = stepper_finish(&play.victim);
    if (status != 0)
        finding(&play.voice, VERDICT_CORRUPT, "ended with status %d though nobody killed it", status);
    if (atomic_load(&theatre->ledger->acknowledged) == 0)
        finding(&play.voice, VERDICT_CORRUPT, "did not finish its operation though nobody killed it");
    play.dead_ns = stepper_now_ns();
    send_those_behind(&play);
    survive(&play);
}

void trial_killed(struct theatre *theatre, size_t point, uint64_t seed, struct trial *trial)
{
    struct play play;
    raise_curtain(&play, theatre, seed, trial);
    trial->point = point;
    trial->address = point <= theatre->trace.count ? theatre->trace.address[point] : 0;
    if (!lead_victim(&play)) {
        give_up(&play);
        return;
    }
    judge_way(&play,
              theatre->by_calls ? stepper_run_to_call(&play.victim, point)
                                : stepper_run_to(&play.victim, &theatre->trace, point),
              &play.victim);
    send_those_behind(&play);
    strike(&play, &play.victim);
    survive(&play);
}

/* Those who sleep already are to have their part while the victim stands. */
static void let_sleepers_look(struct play *play)
{
    struct crew *crew = &play->crew;
    if (!has(play, SLEEP_FIRST))
        return;
    crew_thaw(crew, ROLE_SLEEPER);
    if (second_part(play) == SECOND_BEHIND)
        crew_thaw(crew, ROLE_SECOND);
    play->sleeps = crew->pid[ROLE_SLEEPER] != 0 && crew_await_sleep(crew, ROLE_SLEEPER);
}

void trial_stopped(struct theatre *theatre, size_t point, uint64_t seed, struct trial *trial)
{
    struct play play;
    raise_curtain(&play, theatre, seed, trial);
    trial->point = point;
    trial->stopped = 1;
    trial->address = point <= theatre->trace.count ? theatre->trace.address[point] : 0;
    atomic_store(&theatre->ledger->stands, 1);
    if (!lead_victim(&play)) {
        give_up(&play);
        return;
    }
    judge_way(&play, stepper_run_to(&play.victim, &theatre->trace, point), &play.victim);
    let_sleepers_look(&play);
    send_those_behind(&play);
    int status = stepper_finish(&play.victim);
    if (status != 0)
        finding(&play.voice, status < 0 ? VERDICT_HANG : VERDICT_CORRUPT,
                "went on from where it had stood, and ended with status %d", status);
    play.dead_ns = stepper_now_ns();
    survive(&play);
}

/* The recoverer at its point, or recorded to its end. */
static void step_recoverer(struct play *play, struct stepper_trace *trace, size_t recovery_point)
{
    struct stepper_watch watch = {.path = play->theatre->path};
    play->recoverer.deadline = stepper_now_ns() + PATIENCE_NS * 4;
    if (recovery_point != NOT_KILLED) {
        judge_way(play, stepper_run_to(&play->recoverer, trace, recovery_point), &play->recoverer);
        return;
    }
    stepper_trace_free(trace);
    enum stepper_outcome outcome = stepper_record(&play->recoverer, trace, &watch);
    stepper_watch_free(&watch);
    if (outcome != STEPPER_AT_END)
        judge_way(play, outcome, &play->recoverer);
    int status = stepper_finish(&play->recoverer);
    if (status != 0)
        finding(&play->voice, VERDICT_CORRUPT, "the recoverer ended with status %d though nobody killed it", status);
}

void trial_recovery_killed(struct theatre *theatre, size_t point, struct stepper_trace *trace, size_t recovery_point,
                           uint64_t seed, struct trial *trial)
{
    struct play play;
    raise_curtain(&play, theatre, seed, trial);
    trial->point = point;
    trial->recovery_point = recovery_point;
    trial->address = recovery_point <= trace->count ? trace->address[recovery_point] : 0;
    if (!lead(&play, &play.recoverer, &play.recoverer_stage, ROLE_RECOVERER, recoverer_run) || !lead_victim(&play)) {
        give_up(&play);
        return;
    }
    judge_way(&play, stepper_run_to(&play.victim, &theatre->trace, point), &play.victim);
    strike(&play, &play.victim);
    step_recoverer(&play, trace, recovery_point);
    send_those_behind(&play); /* while the recoverer stands still: nobody may see what is half undone */
    strike(&play, &play.recoverer);
    survive(&play);
}

/* ---- the theatre ---------------------------------------------------------------------------------------------- */

static int build_image(struct theatre *theatre)
{
    struct crew crew = {.scenario = theatre->scenario, .ledger = theatre->ledger};
    ledger_reset(theatre->ledger);
    crew_start(&crew, ROLE_BUILDER);
    crew_join(&crew, ROLE_BUILDER);
    if (atomic_load(&theatre->ledger->finding_count) != 0) {
        fprintf(stderr, "kill_table: %s: the image: %s\n", theatre->scenario->name, theatre->ledger->finding[0].text);
        return 0;
    }
    theatre->used_bytes = theatre->ledger->used_bytes;
    theatre->block_count = theatre->ledger->block_count;
    theatre->object_count = theatre->ledger->object_count;
    if (theatre->scenario->backend == ON_SYSV)
        return 1;
    if (!read_file(theatre->path, &theatre->image, &theatre->image_bytes)) {
        fprintf(stderr, "kill_table: %s: no segment at %s after building it\n", theatre->scenario->name, theatre->path);
        return 0;
    }
    if (access(copy_path(), F_OK) == 0 && !read_file(copy_path(), &theatre->copy, &theatre->copy_bytes))
        return 0;
    if (theatre->scenario->alter != NULL)
        theatre->scenario->alter(theatre->image);
    return 1;
}

int theatre_open(struct theatre *theatre, const struct scenario *scenario, struct ledger *ledger, const char *directory)
{
    *theatre = (struct theatre){.scenario = scenario, .ledger = ledger};
    snprintf(theatre->directory, sizeof theatre->directory, "%s", directory);
    place_path(scenario->backend, directory, theatre->path, sizeof theatre->path);
    sweep(theatre, NULL);
    ledger->whole = 0;
    int good = (scenario->traits & NO_IMAGE) != 0 || build_image(theatre);
    sweep(theatre, NULL);
    return good;
}

void theatre_close(struct theatre *theatre)
{
    sweep(theatre, NULL);
    stepper_trace_free(&theatre->trace);
    free(theatre->image);
    free(theatre->copy);
    theatre->image = theatre->copy = NULL;
}
