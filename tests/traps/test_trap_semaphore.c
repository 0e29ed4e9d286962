/* test_trap_semaphore.c - traps of making semaphores: what sem_open takes for a mode, what a killed run leaves, what
 * sem_init shares, and System V's moment between making and setting.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "traps_sync.h"

#include <sys/ipc.h>
#include <sys/sem.h>

#define ORDINARY_USER 65534u

/* ---- row: sem_open */

/* sem_open has no prototype for what follows O_CREAT, so the compiler lets any two numbers pass. MAP_SHARED is 1:
 * nobody may read or write it, its owner neither. */
static void make_with_a_flag_for_a_mode(void *argument)
{
    if (geteuid() == 0) /* who may do anything would not notice */
        assert_int_equal(setgid(ORDINARY_USER) + setuid(ORDINARY_USER), 0);
    sem_t *semaphore = sem_open(argument, O_CREAT | O_EXCL, MAP_SHARED, 1);
    assert_true(semaphore != SEM_FAILED); /* who makes it sees nothing wrong: his descriptor is older than its mode */
    assert_int_equal(sem_close(semaphore), 0);
    assert_true(sem_open(argument, 0) == SEM_FAILED); /* everybody else */
    assert_int_equal(errno, EACCES);
}

static void lock_and_unlock(void *argument)
{
    cove_mutex *mutex = NULL;
    EXPECT(0, cove_mutex_open(&mutex, argument, NULL));
    EXPECT(0, cove_mutex_lock(NULL, mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(NULL, mutex));
    EXPECT(0, cove_mutex_close(mutex));
}

/* Trap: a flag where the mode belongs, and the second process cannot open what the first one made. */
static void test_semaphore_flag_for_a_mode_locks_all_out(void **state)
{
    (void)state;
    const char *name = trap_shm_name("mode");
    testing_join(testing_spawn(make_with_a_flag_for_a_mode, (void *)(uintptr_t)name));
    struct stat info;
    assert_int_equal(stat(trap_sem_path(name), &info), 0);
    assert_int_equal(info.st_mode & 0666, 0);
    assert_int_equal(sem_unlink(name), 0);

    cove_mutex *mutex = NULL; /* a struct with names, and rights are those of the segment */
    EXPECT(COVE_CREATED,
           cove_mutex_open(&mutex, "robot/arm", &(struct cove_sync_options){.flags = COVE_EXCLUSIVE, .fair = 1}));
    assert_int_equal(unit_stat(cove_segment_of(mutex)).mode, 0600);
    testing_join(testing_spawn(lock_and_unlock, (void *)(uintptr_t) "robot/arm"));
    EXPECT(0, cove_mutex_close(mutex));
    unit_remove("robot");
}

static void make_take_and_be_killed(void *argument)
{
    sem_t *semaphore = sem_open(argument, O_CREAT | O_EXCL, 0600, 1);
    assert_true(semaphore != SEM_FAILED);
    assert_int_equal(sem_wait(semaphore), 0);
    (void)raise(SIGKILL);
}

static void lock_and_be_killed(void *argument)
{
    cove_mutex *mutex = NULL;
    EXPECT(COVE_CREATED, cove_mutex_open(&mutex, argument, NULL));
    EXPECT(0, cove_mutex_lock(NULL, mutex, COVE_FOREVER));
    (void)raise(SIGKILL);
}

/* Trap: what a killed run leaves is either in the way (O_EXCL), or taken for a fresh one with the value 1 that it has
 * not; and who removes it first is in the lock together with those who have the old one. */
static void test_semaphore_leftover_is_in_the_way_or_taken(void **state)
{
    (void)state;
    const char *name = trap_shm_name("left");
    EXPECT_DEATH(SIGKILL, make_take_and_be_killed, (void *)(uintptr_t)name);
    assert_true(sem_open(name, O_CREAT | O_EXCL, 0600, 1) == SEM_FAILED);
    assert_int_equal(errno, EEXIST);
    sem_t *semaphore = sem_open(name, O_CREAT, 0600, 1);
    assert_true(semaphore != SEM_FAILED);
    assert_int_equal(trap_sem_value(semaphore), 0); /* the 1 was for a new one */
    assert_int_equal(sem_trywait(semaphore), -1); /* sem_wait would wait for ever */
    assert_int_equal(errno, EAGAIN);

    assert_int_equal(sem_post(semaphore) + sem_wait(semaphore), 0); /* this process is inside */
    assert_int_equal(sem_unlink(name), 0); /* "always begin with a clean one" */
    sem_t *other = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    assert_true(other != SEM_FAILED);
    assert_int_equal(sem_trywait(other), 0); /* and so is that one */
    assert_int_equal(sem_close(semaphore) + sem_close(other) + sem_unlink(name), 0);

    EXPECT_DEATH(SIGKILL, lock_and_be_killed, (void *)(uintptr_t) "robot/arm");
    cove_mutex *mutex = NULL;
    EXPECT(0, cove_mutex_open(&mutex, "robot/arm", NULL)); /* 0: it was there */
    EXPECT(COVE_RECOVERED, cove_mutex_lock(NULL, mutex, COVE_NOWAIT)); /* and free, with the news of a death */
    EXPECT(-EBUSY, cove_unlink("robot", 0)); /* a lock that somebody has is not taken from under him */
    EXPECT(0, cove_mutex_unlock(NULL, mutex));
    EXPECT(0, cove_mutex_close(mutex));
    EXPECT(0, cove_unlink("robot", 0));
}

/* ---- row: sem_init, pshared */

static sem_t global; /* each process has its own after a fork, whatever pshared says */

static void take_global(void *argument)
{
    (void)argument;
    assert_int_equal(sem_wait(&global), 0);
    testing_reach(0);
    testing_await(1); /* inside until then */
}

static void wait_once(void *argument)
{
    testing_reach(2);
    while (sem_wait(argument) != 0)
        assert_int_equal(errno, EINTR);
}

static void wait_for_permit(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("robot");
    cove_semaphore *semaphore = unit_object(segment, "jobs", sizeof(cove_semaphore));
    testing_reach(2);
    EXPECT(0, cove_semaphore_wait(segment, semaphore, COVE_FOREVER));
    unit_close(segment);
}

/* Trap: a semaphore that is no shared memory is copied by fork: both get in. */
static void test_semaphore_of_each_process_excludes_nobody(void **state)
{
    (void)state;
    assert_int_equal(sem_init(&global, 0, 1), 0);
    pid_t other = testing_spawn(take_global, NULL);
    testing_await(0);
    assert_int_equal(sem_trywait(&global), 0); /* while the other is inside */
    testing_reach(1);
    testing_join(other);
    assert_int_equal(sem_destroy(&global), 0);

    cove_semaphore private = {0}; /* what lies in no segment is refused */
    EXPECT_SAYS(-EINVAL, cove_semaphore_wait(NULL, &private, COVE_NOWAIT), "no segment");
}

/* Trap: with pshared 0 in shared memory a post counts and wakes nobody of another process. */
static void test_semaphore_not_pshared_wakes_nobody(void **state)
{
    (void)state;
    sem_t *semaphore = testing_shared(sizeof *semaphore);
    assert_int_equal(sem_init(semaphore, 0, 0), 0);
    pid_t waiter = testing_spawn(wait_once, semaphore);
    testing_await(2);
    TRAP_AWAIT_SLEEP(waiter);
    assert_int_equal(sem_post(semaphore), 0);
    assert_true(trap_sleeps(waiter)); /* who was woken would be running by now */
    assert_int_equal(trap_sem_value(semaphore), 1); /* there it is, and he sleeps */
    testing_kill(waiter);

    cove_segment *segment = unit_open("robot");
    cove_semaphore *permits = unit_object(segment, "jobs", sizeof(cove_semaphore)); /* all zero: there is no choice */
    waiter = testing_spawn(wait_for_permit, NULL);
    testing_await_count(2, 2);
    TRAP_AWAIT_SLEEP(waiter);
    EXPECT(0, cove_semaphore_post(segment, permits, 1));
    testing_join(waiter);
    EXPECT(0, cove_semaphore_value(segment, permits));
    unit_close(segment);
    unit_remove("robot");
}

/* ---- row: sem_open, made by several (System V's form of it) */

/* Trap: semget makes, and semctl sets; between the two there is one with the value 0. Who sets it after somebody has
 * taken it lets a second one in. */
static void test_semaphore_made_and_not_yet_set(void **state)
{
    (void)state;
    trap_own_ipc();
    key_t key = (key_t)(0x5e000000 | (getpid() & 0xffffff));
    struct sembuf take = {.sem_op = -1, .sem_flg = IPC_NOWAIT}, give = {.sem_op = 1};
    int maker = semget(key, 1, IPC_CREAT | IPC_EXCL | 0600);
    assert_true(maker >= 0);
    int other = semget(key, 1, IPC_CREAT | 0600); /* finds it, and knows nothing of its being new */
    assert_int_equal(other, maker);
    assert_int_equal(semop(other, &take, 1), -1); /* it is nobody's, and cannot be had */
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(semop(other, &give, 1), 0); /* "then I shall set it up" */
    assert_int_equal(semop(other, &take, 1), 0); /* inside */
    union {
        int val;
        void *pointer;
    } one = {.val = 1};
    assert_int_equal(semctl(maker, 0, SETVAL, one), 0); /* the maker gets on */
    assert_int_equal(semop(maker, &take, 1), 0); /* and is inside as well */
    assert_int_equal(semctl(maker, 0, IPC_RMID), 0);

    cove_semaphore *semaphore[2] = {NULL, NULL};
    struct cove_sync_options options = {.permits = 1};
    EXPECT(COVE_CREATED, cove_semaphore_open(&semaphore[0], "robot/tool", &options)); /* it appears with its permits */
    EXPECT(0, cove_semaphore_open(&semaphore[1], "robot/tool", &options)); /* which are given once */
    EXPECT(0, cove_semaphore_acquire(NULL, semaphore[1], COVE_NOWAIT));
    EXPECT(-EBUSY, cove_semaphore_acquire(NULL, semaphore[0], COVE_NOWAIT));
    EXPECT(0, cove_semaphore_release(NULL, semaphore[1]));
    EXPECT(0, cove_semaphore_close(semaphore[0]));
    EXPECT(0, cove_semaphore_close(semaphore[1]));
    unit_remove("robot");
}

static const struct testing_case tests[] = {
    TEST(test_semaphore_flag_for_a_mode_locks_all_out),
    TEST(test_semaphore_leftover_is_in_the_way_or_taken),
    TEST(test_semaphore_of_each_process_excludes_nobody),
    TEST(test_semaphore_not_pshared_wakes_nobody),
    TEST(test_semaphore_made_and_not_yet_set),
};

int main(void)
{
    return testing_run("trap_semaphore", tests);
}
