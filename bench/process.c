/* process.c - CPUs, children, shared pages and futexes for the rows.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Every child dies with its parent (PR_SET_PDEATHSIG), so that a row that is stopped leaves no process behind. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

bool two_cpus(int cpu[2])
{
    cpu_set_t allowed;
    int found = 0;

    cpu[0] = cpu[1] = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return false;
    for (int i = 0; i < CPU_SETSIZE && found < 2; i++)
        if (CPU_ISSET((size_t)i, &allowed))
            cpu[found++] = i;
    if (found == 1)
        cpu[1] = cpu[0];
    return found == 2;
}

void pin_to(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        fail_row("cannot pin a process to CPU %d: %s", cpu, strerror(errno));
}

pid_t fork_or_die(void)
{
    pid_t parent = getpid();

    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        fail_row("fork: %s", strerror(errno));
    if (pid == 0) {
        signal(SIGCHLD, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1); /* the parent died before the line above */
    }
    return pid;
}

static void child_ended(int signal_number)
{
    static const char by_signal[] = "cove-bench: a process of this row was ended by a signal\n";
    int saved = errno;
    siginfo_t info = {.si_pid = 0};

    (void)signal_number;
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
        if (info.si_code == CLD_EXITED && info.si_status != 0)
            _exit(1);
        if (info.si_code != CLD_EXITED && info.si_status != SIGKILL) {
            (void)!write(STDERR_FILENO, by_signal, sizeof by_signal - 1);
            _exit(1);
        }
    }
    errno = saved;
}

void fail_with_children(void)
{
    struct sigaction action = {.sa_handler = child_ended, .sa_flags = SA_RESTART};

    sigaction(SIGCHLD, &action, NULL);
}

unsigned reap_all(void)
{
    unsigned failed = 0;
    int status;

    for (;;) {
        if (waitpid(-1, &status, 0) > 0)
            failed += status != 0;
        else if (errno != EINTR)
            return failed;
    }
}

void *shared_memory(size_t size_bytes)
{
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        fail_row("no %zu bytes of shared memory: %s", size_bytes, strerror(errno));
    return memory;
}

long preemptions(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

double busy_seconds(void)
{
    FILE *file = fopen("/proc/stat", "re");
    double t[8] = {0};
    int got = 0;

    if (file) {
        got = fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
                     &t[7]);
        fclose(file);
    }
    /* user, nice, system, (idle, iowait,) irq, softirq, steal */
    return got == 8 ? (t[0] + t[1] + t[2] + t[5] + t[6] + t[7]) / (double)sysconf(_SC_CLK_TCK) : -1;
}

double children_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

uint64_t runnable_ns(void)
{
    static int fd = -1;
    static pid_t owner;
    char text[96];
    unsigned long long waited = 0;

    if (owner != getpid()) { /* a child has its own */
        owner = getpid();
        fd = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
    }
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return sscanf(text, "%*u %llu", &waited) == 1 ? waited : 0;
}

/* 'S' in /proc/PID/stat: behind the command's name, which may hold anything but ends in the last ')'. */
bool is_asleep(pid_t pid)
{
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_row("the waiter is gone");
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] == 'S';
}

void idle_ns(uint64_t duration_ns)
{
    struct timespec t = {(time_t)(duration_ns / 1000000000u), (long)(duration_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
        ;
}

/* One write, so that two processes' sentences do not mix. */
void fail_row(const char *format, ...)
{
    char sentence[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "cove-bench: %s\n", sentence);
    _exit(1);
}

void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT, expected, NULL, NULL, 0);
}

void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

uint32_t await_change(_Atomic uint32_t *word, uint32_t old)
{
    enum { SPINS = 2000 }; /* some 40 us: what the other side needs between two blocks */
    uint32_t value;

    for (int i = 0; i < SPINS; i++) {
        value = atomic_load_explicit(word, memory_order_acquire); /* edge S */
        if (value != old)
            return value;
        pause_cpu();
    }
    while ((value = atomic_load_explicit(word, memory_order_acquire)) == old)
        futex_wait(word, old);
    return value;
}

void signal_store(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store_explicit(word, value, memory_order_release); /* edge S */
    futex_wake(word);
}
