/* test_trap_wait.c - traps of holding a semaphore: a signal taken for success, a return that forgets to post, a holder
 * that is killed.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "traps_sync.h"

#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/sem.h>

/* ---- row: sem_wait, sem_post: EINTR */

struct room {
    sem_t lock;
    _Atomic int inside; /* how many are, as they themselves count */
    _Atomic int most;
    _Atomic int signals;
};

static struct room *room; /* shared with children */

static void count_signal(int number)
{
    (void)number;
    (void)atomic_fetch_add_explicit(&room->signals, 1, memory_order_relaxed); /* looked at by itself */
}

static void catch_signal(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler}; /* without SA_RESTART, as most programs that mean to be woken */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
}

/* relaxed, both: the tests order who comes when. */
static void enter(void)
{
    int inside = atomic_fetch_add_explicit(&room->inside, 1, memory_order_relaxed) + 1;
    if (inside > atomic_load_explicit(&room->most, memory_order_relaxed))
        atomic_store_explicit(&room->most, inside, memory_order_relaxed);
}

static void leave(void)
{
    (void)atomic_fetch_sub_explicit(&room->inside, 1, memory_order_relaxed);
}

static void wait_without_a_look(void *argument)
{
    (void)argument;
    catch_signal(count_signal);
    testing_reach(0);
    (void)sem_wait(&room->lock); /* -1, EINTR: and who looks? */
    enter();
    leave();
    (void)sem_post(&room->lock);
}

/* Trap: a handler runs, sem_wait returns -1, and who does not look goes on without the lock, and then posts a permit
 * that he never had: from then on two are let in. */
static void test_wait_interrupted_runs_unlocked_and_posts_twice(void **state)
{
    (void)state;
    room = testing_shared(sizeof *room);
    assert_int_equal(sem_init(&room->lock, 1, 1), 0);
    assert_int_equal(sem_wait(&room->lock), 0);
    enter();
    pid_t waiter = testing_spawn(wait_without_a_look, NULL);
    testing_await(0);
    TRAP_AWAIT_SLEEP(waiter);
    assert_int_equal(kill(waiter, SIGUSR1), 0);
    testing_join(waiter);
    assert_int_equal(room->most, 2); /* it was inside together with us */
    leave();
    assert_int_equal(sem_post(&room->lock), 0);
    assert_int_equal(trap_sem_value(&room->lock), 2); /* and for good there is one too many */
    assert_int_equal(sem_trywait(&room->lock) + sem_trywait(&room->lock), 0);
}

static void lock_through_signals(void *argument)
{
    (void)argument;
    catch_signal(count_signal);
    cove_segment *segment = unit_open("robot");
    cove_mutex *mutex = unit_object(segment, "arm", sizeof(cove_mutex));
    testing_reach(0);
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_FOREVER));
    enter();
    leave();
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    EXPECT(-EPERM, cove_mutex_unlock(segment, mutex)); /* nor is there a way to post twice */
    unit_close(segment);
}

/* Cove: handlers run, and the wait goes on. */
static void test_wait_through_signals_is_one_wait(void **state)
{
    (void)state;
    room = testing_shared(sizeof *room);
    cove_segment *segment = unit_open("robot");
    cove_mutex *mutex = unit_object(segment, "arm", sizeof(cove_mutex));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_FOREVER));
    enter();
    pid_t waiter = testing_spawn(lock_through_signals, NULL);
    testing_await(0);
    for (int i = 1; i <= 10; i++) {
        TRAP_AWAIT_SLEEP(waiter);
        assert_int_equal(kill(waiter, SIGUSR1), 0);
        UNTIL(room->signals == i, 5000);
    }
    TRAP_AWAIT_SLEEP(waiter);
    leave();
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    testing_join(waiter);
    assert_int_equal(room->most, 1);
    unit_close(segment);
    unit_remove("robot");
}

static void interrupt(int number)
{
    count_signal(number);
    (void)cove_interrupt();
}

static void give_up_on_signal(void *argument)
{
    (void)argument;
    catch_signal(interrupt);
    cove_segment *segment = unit_open("robot");
    cove_mutex *mutex = unit_object(segment, "arm", sizeof(cove_mutex));
    testing_reach(0);
    EXPECT_SAYS(-EINTR, cove_mutex_lock(segment, mutex, COVE_FOREVER), "cove_interrupt");
    EXPECT(-EPERM, cove_mutex_unlock(segment, mutex)); /* whoever does not look is told here */
    unit_close(segment);
}

/* Cove: who means to end the wait by a signal says so, and is told that he has nothing. */
static void test_wait_ended_by_interrupt_holds_nothing(void **state)
{
    (void)state;
    room = testing_shared(sizeof *room);
    cove_segment *segment = unit_open("robot");
    cove_mutex *mutex = unit_object(segment, "arm", sizeof(cove_mutex));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_FOREVER));
    pid_t waiter = testing_spawn(give_up_on_signal, NULL);
    testing_await(0);
    TRAP_AWAIT_SLEEP(waiter);
    assert_int_equal(kill(waiter, SIGUSR1), 0);
    testing_join(waiter);
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_close(segment);
    unit_remove("robot");
}

/* ---- row: sem_wait, sem_post: an early return */

#define LOG_LINES 3

struct old_log {
    sem_t lock;
    int used;
};
struct log {
    cove_mutex lock;
    int used;
};

static int append_old(struct old_log *log)
{
    (void)sem_wait(&log->lock);
    if (log->used == LOG_LINES)
        return -1; /* full; and the semaphore stays taken */
    log->used++;
    (void)sem_post(&log->lock);
    return 0;
}

static void append_beside(void *argument)
{
    struct old_log *log = argument;
    testing_reach(0);
    (void)append_old(log);
}

/* The same mistake. */
static int append_wrongly(cove_segment *segment, struct log *log)
{
    int result = cove_mutex_lock(segment, &log->lock, COVE_FOREVER);
    if (result < 0)
        return result;
    if (log->used == LOG_LINES)
        return -ENOSPC;
    log->used++;
    return cove_mutex_unlock(segment, &log->lock);
}

static int append_inside(cove_segment *segment, struct log *log)
{
    int result = cove_mutex_lock(segment, &log->lock, COVE_FOREVER);
    if (result >= 0)
        result = cove_save(segment, &log->used, sizeof log->used);
    if (result < 0 || log->used == LOG_LINES)
        return result < 0 ? result : -ENOSPC;
    log->used++;
    return 0;
}

/* What is taken inside a transaction goes with it: there is one way out, whatever returns early. */
static int append(cove_segment *segment, struct log *log)
{
    EXPECT(0, cove_begin(segment));
    int result = append_inside(segment, log);
    EXPECT(0, result < 0 ? cove_abort(segment) : cove_commit(segment));
    return result;
}

/* Trap: the log is full, its function returns early, and every process that logs stands still from then on. */
static void test_wait_early_return_never_posts(void **state)
{
    (void)state;
    struct old_log *log = testing_shared(sizeof *log);
    assert_int_equal(sem_init(&log->lock, 1, 1), 0);
    for (int i = 0; i < LOG_LINES; i++)
        assert_int_equal(append_old(log), 0);
    assert_int_equal(append_old(log), -1);
    pid_t other = testing_spawn(append_beside, log);
    testing_await(0);
    TRAP_AWAIT_SLEEP(other); /* nobody holds it, and nobody will post */
    assert_int_equal(trap_sem_value(&log->lock), 0);
    testing_kill(other);
}

static void fill_and_return_early(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("robot");
    struct log *log = unit_object(segment, "log", sizeof *log);
    for (int i = 0; i < LOG_LINES; i++)
        EXPECT(0, append_wrongly(segment, log));
    assert_int_equal(append_wrongly(segment, log), -ENOSPC);
    EXPECT_SAYS(-EDEADLK, append_wrongly(segment, log), "holds the lock already"); /* who did it is told so */
    testing_reach(0);
    testing_await(1);
}

/* Cove: the mistake is told to who made it, and named to the others; it ends with its process; and inside a
 * transaction it cannot be made. */
static void test_wait_early_return_is_told_and_undone(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("robot");
    struct log *log = unit_object(segment, "log", sizeof *log);
    pid_t other = testing_spawn(fill_and_return_early, NULL);
    testing_await(0);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "pid %d", (int)other);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &log->lock, 20 * UNIT_MS), pid);
    testing_reach(1);
    testing_join(other);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &log->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &log->lock));
    for (int i = 0; i < 3; i++)
        assert_int_equal(append(segment, log), -ENOSPC);
    EXPECT(0, cove_mutex_lock(segment, &log->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &log->lock));
    unit_close(segment);
    unit_remove("robot");
}

/* ---- row: sem_wait, sem_post: a holder that is killed */

struct accounts {
    sem_t semaphore;
    pthread_mutex_t plain, robust;
    int set; /* of System V */
    int cents[2]; /* together always 200 */
};

static void half_a_transfer(struct accounts *accounts)
{
    accounts->cents[0] -= 50;
    (void)raise(SIGKILL);
    accounts->cents[1] += 50;
}

static void die_with_semaphore(void *argument)
{
    struct accounts *accounts = argument;
    assert_int_equal(sem_wait(&accounts->semaphore), 0);
    half_a_transfer(accounts);
}

static void die_with_named_semaphore(void *argument)
{
    assert_int_equal(sem_wait(sem_open(argument, 0)), 0);
    (void)raise(SIGKILL);
}

static void die_with_mutex(void *argument)
{
    struct accounts *accounts = argument;
    assert_int_equal(pthread_mutex_lock(&accounts->plain), 0);
    half_a_transfer(accounts);
}

static void die_with_robust_mutex(void *argument)
{
    struct accounts *accounts = argument;
    assert_int_equal(pthread_mutex_lock(&accounts->robust), 0);
    half_a_transfer(accounts);
}

static void die_with_set(void *argument)
{
    struct accounts *accounts = argument;
    assert_int_equal(semop(accounts->set, &(struct sembuf){.sem_op = -1}, 1), 0);
    half_a_transfer(accounts);
}

static void die_with_set_and_undo(void *argument)
{
    struct accounts *accounts = argument;
    assert_int_equal(semop(accounts->set, &(struct sembuf){.sem_op = -1, .sem_flg = SEM_UNDO}, 1), 0);
    half_a_transfer(accounts);
}

static struct accounts *accounts_make(void)
{
    struct accounts *accounts = testing_shared(sizeof *accounts);
    assert_int_equal(sem_init(&accounts->semaphore, 1, 1), 0);
    trap_mutex_init(&accounts->plain, PTHREAD_MUTEX_STALLED);
    trap_mutex_init(&accounts->robust, PTHREAD_MUTEX_ROBUST);
    accounts->cents[0] = accounts->cents[1] = 100;
    return accounts;
}

/* Trap: it is killed, and nobody gets in any more. */
static void test_wait_killed_holder_hangs_all(void **state)
{
    (void)state;
    struct accounts *accounts = accounts_make();
    EXPECT_DEATH(SIGKILL, die_with_semaphore, accounts);
    assert_int_equal(sem_trywait(&accounts->semaphore), -1);
    assert_int_equal(errno, EAGAIN);
    EXPECT_DEATH(SIGKILL, die_with_mutex, accounts);
    assert_int_equal(pthread_mutex_trylock(&accounts->plain), EBUSY);
}

static void start_again(void *argument)
{
    sem_t *semaphore = sem_open(argument, O_CREAT, 0600, 1);
    assert_true(semaphore != SEM_FAILED);
    assert_int_equal(sem_trywait(semaphore), -1);
    assert_int_equal(errno, EAGAIN);
}

/* Trap: not even when all have ended and are started anew. */
static void test_wait_killed_holder_outlives_a_restart(void **state)
{
    (void)state;
    const char *name = trap_shm_name("lock");
    sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    assert_true(semaphore != SEM_FAILED);
    assert_int_equal(sem_close(semaphore), 0);
    EXPECT_DEATH(SIGKILL, die_with_named_semaphore, (void *)(uintptr_t)name);
    for (int start = 0; start < 2; start++)
        testing_join(testing_spawn(start_again, (void *)(uintptr_t)name));
    assert_int_equal(sem_unlink(name), 0);

    trap_own_ipc(); /* likewise of System V, without SEM_UNDO */
    struct accounts *accounts = accounts_make();
    accounts->set = semget(IPC_PRIVATE, 1, 0600);
    assert_true(accounts->set >= 0);
    assert_int_equal(semop(accounts->set, &(struct sembuf){.sem_op = 1}, 1), 0);
    EXPECT_DEATH(SIGKILL, die_with_set, accounts);
    assert_int_equal(semop(accounts->set, &(struct sembuf){.sem_op = -1, .sem_flg = IPC_NOWAIT}, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(semctl(accounts->set, 0, IPC_RMID), 0);
}

/* Trap: where the lock does come back, what it guarded comes back as the dead one left it; and SEM_UNDO says nothing. */
static void test_wait_killed_holder_leaves_half_a_change(void **state)
{
    (void)state;
    struct accounts *accounts = accounts_make();
    EXPECT_DEATH(SIGKILL, die_with_robust_mutex, accounts);
    assert_int_equal(pthread_mutex_lock(&accounts->robust), EOWNERDEAD);
    assert_int_equal(accounts->cents[0] + accounts->cents[1], 150); /* find out yourself */
    assert_int_equal(pthread_mutex_unlock(&accounts->robust), 0);
    assert_int_equal(pthread_mutex_lock(&accounts->robust),
                     ENOTRECOVERABLE); /* who forgets one call has no lock more */

    trap_own_ipc();
    accounts = accounts_make();
    accounts->set = semget(IPC_PRIVATE, 1, 0600);
    assert_true(accounts->set >= 0);
    assert_int_equal(semop(accounts->set, &(struct sembuf){.sem_op = 1}, 1), 0);
    EXPECT_DEATH(SIGKILL, die_with_set_and_undo, accounts);
    assert_int_equal(semop(accounts->set, &(struct sembuf){.sem_op = -1, .sem_flg = IPC_NOWAIT}, 1), 0);
    assert_int_equal(accounts->cents[0] + accounts->cents[1], 150);
    assert_int_equal(semctl(accounts->set, 0, IPC_RMID), 0);
}

struct bank {
    cove_mutex lock;
    int cents[2];
};

static void die_in_a_transaction(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("bank");
    struct bank *bank = unit_object(segment, "bank", sizeof *bank);
    EXPECT(0, cove_begin(segment));
    EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, bank->cents, sizeof bank->cents));
    bank->cents[0] -= 50;
    (void)raise(SIGKILL);
}

static void find_it_even(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open_as("bank", &(struct cove_options){.flags = COVE_EXISTING});
    struct bank *bank = unit_object(segment, "bank", sizeof *bank);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &bank->lock, COVE_NOWAIT));
    assert_int_equal(bank->cents[0], 100);
    assert_int_equal(bank->cents[1], 100);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock));
    unit_close(segment);
}

/* Cove: the lock is free, the next is told, and the change is undone; for who was there, and after a restart. */
static void test_wait_killed_holder_is_undone(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("bank");
    struct bank *bank = unit_object(segment, "bank", sizeof *bank);
    bank->cents[0] = bank->cents[1] = 100;
    EXPECT_DEATH(SIGKILL, die_in_a_transaction, NULL);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &bank->lock, COVE_NOWAIT));
    assert_int_equal(bank->cents[0] + bank->cents[1], 200);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock));
    unit_close(segment);
    EXPECT_DEATH(SIGKILL, die_in_a_transaction, NULL); /* all have ended */
    testing_join(testing_spawn(find_it_even, NULL));
    unit_remove("bank");
}

/* ---- flock: whose lock is it? */

static void wait_for_the_end(void *argument)
{
    (void)argument;
    testing_reach(0);
    testing_await(1);
}

/* The holder starts a helper, and is killed. */
static void flock_fork_and_be_killed(void *argument)
{
    int fd = open(argument, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    (void)testing_spawn(wait_for_the_end, NULL);
    testing_await(0);
    (void)raise(SIGKILL);
}

static void lock_fork_and_be_killed(void *argument)
{
    (void)argument;
    cove_mutex *mutex = NULL;
    EXPECT(COVE_CREATED, cove_mutex_open(&mutex, "robot/arm", NULL));
    EXPECT(0, cove_mutex_lock(NULL, mutex, COVE_FOREVER));
    (void)testing_spawn(wait_for_the_end, NULL);
    testing_await_count(0, 2);
    (void)raise(SIGKILL);
}

/* Trap: flock's lock is the open file's, which children have too: it stays with a helper that knows nothing of it. */
static void test_wait_flock_stays_with_a_child(void **state)
{
    (void)state;
    const char *path = trap_file("lock", "", 0);
    EXPECT_DEATH(SIGKILL, flock_fork_and_be_killed, (void *)(uintptr_t)path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    assert_int_equal(errno, EWOULDBLOCK);
    assert_int_equal(close(fd) + unlink(path), 0);

    EXPECT_DEATH(SIGKILL, lock_fork_and_be_killed, NULL);
    cove_mutex *mutex = NULL;
    EXPECT(0, cove_mutex_open(&mutex, "robot/arm", NULL));
    EXPECT(COVE_RECOVERED, cove_mutex_lock(NULL, mutex, COVE_NOWAIT)); /* the child was never its holder */
    EXPECT(0, cove_mutex_unlock(NULL, mutex));
    EXPECT(0, cove_mutex_close(mutex));
    unit_remove("robot");
    testing_reach(1); /* the helpers end */
}

static const struct testing_case tests[] = {
    TEST(test_wait_interrupted_runs_unlocked_and_posts_twice),
    TEST(test_wait_through_signals_is_one_wait),
    TEST(test_wait_ended_by_interrupt_holds_nothing),
    TEST(test_wait_early_return_never_posts),
    TEST(test_wait_early_return_is_told_and_undone),
    TEST(test_wait_killed_holder_hangs_all),
    TEST(test_wait_killed_holder_outlives_a_restart),
    TEST(test_wait_killed_holder_leaves_half_a_change),
    TEST(test_wait_killed_holder_is_undone),
    TEST(test_wait_flock_stays_with_a_child),
};

int main(void)
{
    return testing_run("trap_wait", tests);
}
