/* lock.c - `cove lock SEGMENT/LOCK -- COMMAND`: run a command under a lock, as flock(1) does.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Nobody goes on unlocked. The membership that holds the lock is inherited by the command and by what it starts
 * (COVE_HELD_BY_CHILDREN), so the lock is free when the last of them has ended, however we and they end. We give it back
 * ourselves where the command has ended and none of what it started goes on. */
#include "run.h"
#include "sync.h"

#include <errno.h>

static struct sync_given given;
static int shared;
static char *permits;

static const struct poptOption options[] = {
    {"shared", 's', POPT_ARG_NONE, &shared, 0, "together with others that say so (a new lock is an rwlock)", NULL},
    {"permits", 'p', POPT_ARG_STRING, &permits, 0, "so many commands at once (a new lock is a semaphore)", "N"},
    {"timeout", 't', POPT_ARG_STRING, &given.timeout, 0, "wait so long for the lock (default: forever)", "TIME"},
    {"existing", 'e', POPT_ARG_NONE, &given.existing, 0, "create nothing", NULL},
    {"any-owner", 0, POPT_ARG_NONE, &given.any_owner, 0, "accept a segment that belongs to another user", NULL},
    POPT_TABLEEND,
};

static enum sync_type choose(const char *name, const char *found)
{
    enum sync_type type = found ? sync_type_of(found) : permits ? SYNC_SEMAPHORE : shared ? SYNC_RWLOCK : SYNC_MUTEX;
    if (type != SYNC_MUTEX && type != SYNC_RWLOCK && type != SYNC_SEMAPHORE)
        cli_say(name, "its type is %s; a command is run under a mutex, an rwlock or a semaphore", found);
    else if (shared && type != SYNC_RWLOCK)
        cli_say(name, "its type is %s, and only an rwlock can be shared; leave --shared out, or take another name",
                sync_type_name(type));
    else if (permits && type != SYNC_SEMAPHORE)
        cli_say(name, "its type is %s, and only a semaphore has permits; leave --permits out, or take another name",
                sync_type_name(type));
    else
        return type;
    return SYNC_OTHER;
}

static int take(const struct sync_thing *lock, int64_t timeout_ns)
{
    switch (lock->type) {
    case SYNC_SEMAPHORE:
        return cove_semaphore_acquire(lock->segment, lock->address, timeout_ns);
    case SYNC_RWLOCK:
        return shared ? cove_rwlock_lock_shared(lock->segment, lock->address, timeout_ns)
                      : cove_rwlock_lock(lock->segment, lock->address, timeout_ns);
    default:
        return cove_mutex_lock(lock->segment, lock->address, timeout_ns);
    }
}

static int give_back(const struct sync_thing *lock)
{
    switch (lock->type) {
    case SYNC_SEMAPHORE:
        return cove_semaphore_release(lock->segment, lock->address);
    case SYNC_RWLOCK:
        return cove_rwlock_unlock(lock->segment, lock->address);
    default:
        return cove_mutex_unlock(lock->segment, lock->address);
    }
}

/* Give it back, and leave. Returns `status`, or, after a sentence, CLI_RUN_FAILED in the place of a good one. */
static int end(struct sync_thing *lock, int status)
{
    int result = give_back(lock);
    if (result < 0)
        (void)cli_failed(lock->name, result);
    int closed = sync_close(lock, CLI_DONE);
    return status == CLI_DONE && (result < 0 || closed != CLI_DONE) ? CLI_RUN_FAILED : status;
}

/* The lock is ours. */
static int run_locked(struct sync_thing *lock, char *const *command)
{
    bool go_on;
    int status = run_command(lock->name, command, &go_on);
    if (!go_on)
        return end(lock, status);
    cli_say(lock->name, "what the command started goes on, and has the lock until it ends");
    return status; /* without closing: to the others we end with them */
}

static int run_with(struct sync_thing *lock, int64_t timeout_ns, char *const *command)
{
    sync_heed_signal(lock);
    int result = take(lock, timeout_ns);
    if (result < 0) {
        int status = sync_failed(lock, result) == CLI_TIMEOUT ? CLI_RUN_TIMEOUT : CLI_RUN_FAILED;
        (void)sync_close(lock, status);
        return status;
    }
    if (result == COVE_RECOVERED)
        cli_say(lock->name, "the holder before died without giving it back; what it was doing may be half done");
    if (cli_stopped()) {
        (void)give_back(lock);
        sync_heed_signal(lock);
    }
    return run_locked(lock, command);
}

static int run(const struct cli_call *call)
{
    struct sync_thing lock;
    struct cove_sync_options of_new = {0};
    int64_t timeout_ns = COVE_FOREVER;
    if (shared && permits) {
        cli_say("--permits", "a semaphore cannot be shared; say --shared or --permits");
        return CLI_RUN_FAILED;
    }
    if ((given.timeout && !cli_timeout("--timeout", given.timeout, &timeout_ns)) ||
        (permits && !cli_count_of("--permits", permits, 1, COVE_SEMAPHORE_MAX, &of_new.permits)))
        return CLI_RUN_FAILED;
    cli_stop_install();
    int status = sync_open(&lock, call->names[0], "lock", &given, COVE_HELD_BY_CHILDREN, choose, &of_new);
    if (status < 0)
        return run_with(&lock, timeout_ns, call->command);
    if (cli_stopped())
        cli_stop_die(cli_stopped());
    return CLI_RUN_FAILED;
}

const struct cli_verb cli_lock = {
    .name = "lock",
    .arguments = "SEGMENT/LOCK",
    .summary = "run a command under a lock, as flock does",
    .text = "Creates what is missing; the type of a lock that is there decides: a mutex, an rwlock (to write, unless\n"
            "--shared) or a semaphore (one permit). Kill -9 frees it, ends the command too, and the next one is told.\n"
            "What the command leaves running has the lock until it ends. Signals are passed on to the command.\n"
            "The status is the command's; 124 timed out, 125 Cove failed, 126 the command cannot be run, 127 there is\n"
            "no such command, 128 + N it died of signal N.\n\n"
            "  cove lock robot/arm -- ./calibrate --fast\n"
            "  cove lock robot/map --shared -- ./plan\n"
            "  cove lock robot/gpu --permits 2 --timeout 10s -- ./train",
    .options = options,
    .least = 1,
    .most = 1,
    .runs_command = true,
    .run = run,
};
