/* stepper.c - runs a function in a child, one machine instruction at a time, and kills it where asked.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A point is the state after k instructions of an operation. The child is a fork of this process, so every trace of an
 * operation sees the same addresses and the same private memory, and the k-th instruction of one run is the k-th of the next,
 * unless time, pids or other processes show in the path taken.
 *
 *   start   fork; the child asks to be traced, stops, and runs on to a breakpoint in stepper_mark_begin
 *   record  single steps to stepper_mark_end; notes each address, which were system calls, which changed a watched byte
 *   run_to  for a kill at k: a breakpoint at the landmark before k, then single steps. A landmark is a point whose
 *           address occurs there for the first time, so its breakpoint is hit once and no counting is needed. A kill thus costs
 *           about the same wherever it is, where stepping from the start would make the whole quadratic.
 *
 *   calls   for operations whose state is in files and descriptors, quickly: runs from system call to system call, and is killed
 *           before or after the k-th
 *
 * A system call is one instruction to a single step: it is executed whole between two points, so the points on its both
 * sides are "before" and "after" it. A REP string instruction is one point for each of its rounds.
 * A breakpoint is one byte in the child's private copy of the text page; the original is put back before the child goes on.
 *
 * When waitpid has told of a killed child, its descriptors are closed, its file locks dropped and its robust futexes
 * marked: exit does these before it notifies. That moment is where recovery times begin.
 *
 * Threads: the one that meets the begin mark is stepped, the others run freely, over breakpoints too. Only x86-64 is known here. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "stepper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)

enum { BREAKPOINT_BYTE = 0xcc, SYSCALL_BYTES = 0x050f };

/* The marks are told apart by their addresses: they must be neither inlined nor folded into one. */
__attribute__((noinline)) void stepper_mark_begin(void)
{
    __asm__ volatile("nop" ::: "memory");
}

__attribute__((noinline)) void stepper_mark_end(void)
{
    __asm__ volatile("nop; nop" ::: "memory");
}

int64_t stepper_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void stepper_fix_addresses(char **argv)
{
    int now = personality(0xffffffff);
    if (now < 0 || (now & ADDR_NO_RANDOMIZE) != 0)
        return;
    if (personality((unsigned long)now | ADDR_NO_RANDOMIZE) < 0)
        return;
    execv("/proc/self/exe", argv);
}

int stepper_pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

/* ---- waiting -------------------------------------------------------------------------------------------------- */

static void on_alarm(int signal)
{
    (void)signal; /* its only effect: waitpid returns EINTR */
}

/* The alarm repeats for as long as this process lives, so that one which fires just before waitpid cannot be lost.
 * Children do not inherit it. */
static void alarm_start(void)
{
    enum { PERIOD_US = 50000 };
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval timer = {{0, PERIOD_US}, {0, PERIOD_US}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* waitpid until the deadline. Returns 1 with *status, 0 when time is up. */
static int wait_for(const struct stepper *stepper, pid_t who, int *status)
{
    for (;;) {
        pid_t got = waitpid(who, status, __WALL);
        if (got == who)
            return 1;
        if (got < 0 && errno != EINTR)
            return 0;
        if (stepper_now_ns() >= stepper->deadline)
            return 0;
    }
}

/* ---- the child's registers and text --------------------------------------------------------------------------- */

static uint64_t address_get(const struct stepper *stepper)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, stepper->tid, offsetof(struct user, regs.rip), NULL);
}

static void address_set(const struct stepper *stepper, uint64_t address)
{
    ptrace(PTRACE_POKEUSER, stepper->tid, offsetof(struct user, regs.rip), address);
}

static long text_get(const struct stepper *stepper, uint64_t address)
{
    return ptrace(PTRACE_PEEKTEXT, stepper->tid, address, NULL);
}

static void text_set(const struct stepper *stepper, uint64_t address, long word)
{
    ptrace(PTRACE_POKETEXT, stepper->tid, address, word);
}

static uint64_t mark_address(void (*mark)(void))
{
    uint64_t address;
    memcpy(&address, &mark, sizeof address);
    return address;
}

static void arm(struct stepper *stepper, uint64_t address)
{
    struct stepper_breakpoint *one = &stepper->armed[stepper->armed_count++];
    one->address = address;
    one->original = text_get(stepper, address);
    text_set(stepper, address, (one->original & ~0xffL) | BREAKPOINT_BYTE);
}

/* The last first: both may lie in one word. */
static void disarm(const struct stepper *stepper, pid_t pid)
{
    for (int i = stepper->armed_count; i-- > 0;)
        ptrace(PTRACE_POKETEXT, pid, stepper->armed[i].address, stepper->armed[i].original);
}

/* Passes over events that are no end of anything: new threads, stops of the group. Returns the outcome of a stop. */
static enum stepper_outcome classify(struct stepper *stepper, int status)
{
    if (!WIFSTOPPED(status)) {
        stepper->pid = 0;
        return STEPPER_EXITED;
    }
    int signal = WSTOPSIG(status);
    if (signal == SIGTRAP)
        return STEPPER_AT_POINT;
    stepper->fault_signal = signal;
    return STEPPER_FAULT;
}

/* What the child made stops once as it is born. That stop may be told before the event that tells of the birth; it
 * stays stopped until then. */
static void await_birth_stop(struct stepper *stepper, pid_t born)
{
    int status;
    if (stepper->early == born) {
        stepper->early = 0;
        return;
    }
    while (waitpid(born, &status, __WALL) < 0 && errno == EINTR) {}
}

static int is_event(int status, int event)
{
    return status >> 8 == (SIGTRAP | event << 8);
}

/* Handles a stop which tells of a new thread or process, or is its first. Returns whether it was one. */
static int passed_birth(struct stepper *stepper, pid_t teller, int status)
{
    unsigned long born = 0;
    if (!WIFSTOPPED(status))
        return 0;
    if (teller != stepper->pid && teller != stepper->tid && WSTOPSIG(status) == SIGSTOP) {
        stepper->early = teller;
        return 1;
    }
    if (is_event(status, PTRACE_EVENT_CLONE)) {
        ptrace(PTRACE_GETEVENTMSG, teller, NULL, &born);
        await_birth_stop(stepper, (pid_t)born);
        ptrace(PTRACE_CONT, (pid_t)born, NULL, NULL);
        return 1;
    }
    if (is_event(status, PTRACE_EVENT_FORK) || is_event(status, PTRACE_EVENT_VFORK)) {
        ptrace(PTRACE_GETEVENTMSG, teller, NULL, &born);
        await_birth_stop(stepper, (pid_t)born);
        disarm(stepper, (pid_t)born);
        ptrace(PTRACE_DETACH, (pid_t)born, NULL, NULL); /* it is no victim */
        stepper->born = (pid_t)born;
        return 1;
    }
    return 0;
}

/* A child's end: what the stepped program would ignore anyway. */
static int is_harmless(int status)
{
    return WIFSTOPPED(status) && WSTOPSIG(status) == SIGCHLD;
}

/* ---- breakpoints ---------------------------------------------------------------------------------------------- */

/* The byte that stood where a breakpoint is, or -1 where none is. */
static long byte_under(const struct stepper *stepper, uint64_t address)
{
    for (int i = 0; i < stepper->armed_count; i++)
        if (stepper->armed[i].address == address)
            return stepper->armed[i].original & 0xff;
    return -1;
}

static void set_byte(pid_t tid, uint64_t address, long byte)
{
    long word = ptrace(PTRACE_PEEKTEXT, tid, address, NULL);
    ptrace(PTRACE_POKETEXT, tid, address, (word & ~0xffL) | byte);
}

/* A thread that runs freely has met a breakpoint: it executes what is there, and runs on. Returns whether it was so. */
static int stepped_over(const struct stepper *stepper, pid_t tid, int status)
{
    uint64_t at = (uint64_t)ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, regs.rip), NULL) - 1;
    long original = byte_under(stepper, at);
    if (tid == stepper->tid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP || original < 0)
        return 0;
    ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rip), at);
    set_byte(tid, at, original);
    ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL);
    while (waitpid(tid, &status, __WALL) < 0 && errno == EINTR) {}
    if (WIFSTOPPED(status)) {
        set_byte(tid, at, BREAKPOINT_BYTE);
        ptrace(PTRACE_CONT, tid, NULL, NULL);
    }
    return 1;
}

/* Waits until a thread of the child stops at `address`, where a breakpoint is: the one that is stepped, or where
 * there is none yet (`any`), the first, which is stepped from then on. */
static enum stepper_outcome wait_for_breakpoint(struct stepper *stepper, uint64_t address, uint64_t end, int any)
{
    for (;;) {
        int status;
        pid_t got = waitpid(-stepper->pid, &status, __WALL);
        if (got < 0) {
            if (errno != EINTR)
                return STEPPER_EXITED;
            if (stepper_now_ns() >= stepper->deadline)
                return STEPPER_TIMEOUT;
            continue;
        }
        if (passed_birth(stepper, got, status)) {
            if (got != stepper->early)
                ptrace(PTRACE_CONT, got, NULL, NULL);
            continue;
        }
        if (!WIFSTOPPED(status)) {
            if (got != stepper->pid)
                continue; /* a thread has ended, or an earlier child */
            stepper->pid = 0;
            return STEPPER_EXITED;
        }
        if (is_harmless(status)) {
            ptrace(PTRACE_CONT, got, NULL, NULL);
            continue;
        }
        if (!any && stepped_over(stepper, got, status))
            continue;
        stepper->tid = got;
        enum stepper_outcome outcome = classify(stepper, status);
        if (outcome != STEPPER_AT_POINT)
            return outcome;
        uint64_t at = address_get(stepper) - 1;
        if (at != address && at != end) {
            stepper->fault_signal = SIGTRAP;
            return STEPPER_FAULT;
        }
        address_set(stepper, at);
        return at == end ? STEPPER_AT_END : STEPPER_AT_POINT;
    }
}

/* Runs the stepped thread to `address`, or to the end mark if that comes first. */
static enum stepper_outcome run_to_address(struct stepper *stepper, uint64_t address, int any)
{
    uint64_t end = mark_address(stepper_mark_end);
    arm(stepper, end);
    arm(stepper, address);
    ptrace(PTRACE_CONT, stepper->tid, NULL, NULL);
    enum stepper_outcome outcome = wait_for_breakpoint(stepper, address, end, any);
    if (outcome == STEPPER_AT_POINT || outcome == STEPPER_AT_END)
        disarm(stepper, stepper->tid);
    stepper->armed_count = 0;
    return outcome;
}

/* ---- a child's life ------------------------------------------------------------------------------------------- */

static void child_main(int (*run)(void *), void *argument)
{
    setpgid(0, 0); /* its threads and it are waited for as one group, and nobody else's children with them */
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(77);
    raise(SIGSTOP);
    _exit(run(argument));
}

/* Takes the child from its first stop to the begin mark. */
static enum stepper_outcome lead_to_begin(struct stepper *stepper)
{
    int status;
    if (!wait_for(stepper, stepper->pid, &status))
        return STEPPER_TIMEOUT;
    if (!WIFSTOPPED(status)) {
        stepper->pid = 0;
        errno = EPERM;
        return WIFEXITED(status) && WEXITSTATUS(status) == 77 ? STEPPER_REFUSED : STEPPER_EXITED;
    }
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACESYSGOOD;
    if (ptrace(PTRACE_SETOPTIONS, stepper->pid, NULL, options) < 0)
        return STEPPER_REFUSED;
    return run_to_address(stepper, mark_address(stepper_mark_begin), 1);
}

enum stepper_outcome stepper_start(struct stepper *stepper, int (*run)(void *), void *argument, int64_t timeout_ns)
{
    stepper->fault_signal = 0;
    stepper->armed_count = 0;
    stepper->born = stepper->born_status = 0;
    stepper->deadline = stepper_now_ns() + timeout_ns;
    pid_t pid = fork();
    if (pid < 0)
        return STEPPER_REFUSED;
    if (pid == 0)
        child_main(run, argument);
    stepper->pid = stepper->tid = pid;
    alarm_start();
    return lead_to_begin(stepper);
}

enum stepper_outcome stepper_step(struct stepper *stepper)
{
    for (;;) {
        int status;
        if (ptrace(PTRACE_SINGLESTEP, stepper->tid, NULL, NULL) < 0)
            return STEPPER_EXITED;
        if (!wait_for(stepper, stepper->tid, &status))
            return STEPPER_TIMEOUT;
        if (passed_birth(stepper, stepper->tid, status) || is_harmless(status))
            continue; /* the call that gave birth, or was interrupted, is not yet over */
        enum stepper_outcome outcome = classify(stepper, status);
        if (outcome == STEPPER_AT_POINT && address_get(stepper) == mark_address(stepper_mark_end))
            return STEPPER_AT_END;
        return outcome;
    }
}

/* All threads are traced, and each is to be waited for: the process's own end is told last. */
void stepper_kill(struct stepper *stepper)
{
    int status;
    if (stepper->pid == 0)
        return;
    kill(stepper->pid, SIGKILL);
    for (;;) {
        pid_t got = waitpid(-stepper->pid, &status, __WALL);
        if (got < 0 && errno != EINTR)
            break;
        if (got == stepper->pid && !WIFSTOPPED(status))
            break;
        if (got == stepper->born && got > 0 && !WIFSTOPPED(status))
            stepper->born_status = status, stepper->born = 0; /* it came to us as an orphan, and has ended */
    }
    stepper->pid = 0;
}

int stepper_finish(struct stepper *stepper)
{
    int status = 0;
    if (stepper->pid == 0)
        return -1;
    if (ptrace(PTRACE_CONT, stepper->tid, NULL, NULL) < 0)
        return -1;
    for (;;) {
        pid_t got = waitpid(-stepper->pid, &status, __WALL);
        if (got < 0 && (errno != EINTR || stepper_now_ns() >= stepper->deadline)) {
            stepper_kill(stepper);
            return -1;
        }
        if (got == stepper->pid && !WIFSTOPPED(status))
            break;
        if (got > 0 && WIFSTOPPED(status)) {
            int birth = passed_birth(stepper, got, status);
            if (got == stepper->early)
                continue;
            int signal = birth || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
            ptrace(PTRACE_CONT, got, NULL, (long)signal);
        }
    }
    stepper->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- watching the shared bytes -------------------------------------------------------------------------------- */

static void *map_watched(const char *path, size_t *size_bytes)
{
    struct stat facts;
    void *bytes = NULL;
    *size_bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &facts) == 0 && facts.st_size > 0) {
        bytes = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_SHARED, fd, 0);
        *size_bytes = bytes == MAP_FAILED ? 0 : (size_t)facts.st_size;
    }
    close(fd);
    return *size_bytes != 0 ? bytes : NULL;
}

/* Compares in blocks, copies those which differ. Returns whether any did. */
static int refresh(unsigned char *shadow, const unsigned char *now, size_t size_bytes)
{
    enum { BLOCK = 4096 };
    int changed = 0;
    for (size_t at = 0; at < size_bytes; at += BLOCK) {
        size_t length = size_bytes - at < BLOCK ? size_bytes - at : BLOCK;
        if (memcmp(shadow + at, now + at, length) == 0)
            continue;
        memcpy(shadow + at, now + at, length);
        changed = 1;
    }
    return changed;
}

struct view {
    unsigned char *bytes;
    size_t size_bytes;
    uint64_t inode;
};

static void view_close(struct view *view)
{
    if (view->bytes != NULL)
        munmap(view->bytes, view->size_bytes);
    *view = (struct view){0};
}

/* Looks at the file again. Returns whether anything changed: its bytes, its size, its being there. */
static int view_changed(struct view *view, struct stepper_watch *watch)
{
    struct stat facts;
    if (stat(watch->path, &facts) < 0)
        facts = (struct stat){0};
    int changed = facts.st_ino != view->inode || (size_t)facts.st_size != view->size_bytes;
    if (changed) {
        view_close(view);
        view->bytes = map_watched(watch->path, &view->size_bytes);
        view->inode = facts.st_ino;
        watch->shadow = realloc(watch->shadow, view->size_bytes + 1);
        if (watch->shadow == NULL)
            abort();
        memset(watch->shadow, 0, view->size_bytes + 1);
        watch->size_bytes = view->size_bytes;
    }
    return refresh(watch->shadow, view->bytes, view->size_bytes) || changed;
}

/* ---- traces --------------------------------------------------------------------------------------------------- */

static void trace_append(struct stepper_trace *trace, size_t k, uint64_t address, unsigned flags)
{
    if (k >= trace->capacity) {
        trace->capacity = trace->capacity == 0 ? 4096 : trace->capacity * 2;
        trace->address = realloc(trace->address, trace->capacity * sizeof *trace->address);
        trace->flags = realloc(trace->flags, trace->capacity * sizeof *trace->flags);
        trace->landmark = realloc(trace->landmark, trace->capacity * sizeof *trace->landmark);
        if (trace->address == NULL || trace->flags == NULL || trace->landmark == NULL)
            abort();
    }
    trace->address[k] = address;
    trace->flags[k] = (uint8_t)flags;
    trace->count = k;
}

/* A table of the addresses met so far, open addressing; twice as long as the trace, so never full. */
static void find_landmarks(struct stepper_trace *trace)
{
    size_t slots = 16;
    while (slots < trace->count * 2 + 2)
        slots *= 2;
    uint64_t *met = calloc(slots, sizeof *met);
    if (met == NULL)
        abort();
    uint32_t last = 0;
    for (size_t k = 0; k <= trace->count; k++) {
        size_t at = (size_t)(trace->address[k] * 0x9e3779b97f4a7c15u >> 20) & (slots - 1);
        while (met[at] != 0 && met[at] != trace->address[k])
            at = (at + 1) & (slots - 1);
        if (met[at] == 0) {
            met[at] = trace->address[k];
            last = (uint32_t)k;
        }
        trace->landmark[k] = last;
    }
    free(met);
}

enum stepper_outcome stepper_record(struct stepper *stepper, struct stepper_trace *trace, struct stepper_watch *watch)
{
    struct view view = {0};
    int64_t began = stepper_now_ns();
    enum stepper_outcome outcome;
    if (watch != NULL)
        view_changed(&view, watch);
    trace_append(trace, 0, address_get(stepper), 0);
    do {
        unsigned flags = 0;
        if ((text_get(stepper, address_get(stepper)) & 0xffff) == SYSCALL_BYTES)
            flags |= STEPPER_SYSCALL;
        outcome = stepper_step(stepper);
        if (outcome != STEPPER_AT_POINT && outcome != STEPPER_AT_END)
            break;
        if (watch != NULL && view_changed(&view, watch))
            flags |= STEPPER_CHANGED;
        trace_append(trace, trace->count + 1, address_get(stepper), flags);
    } while (outcome == STEPPER_AT_POINT);
    view_close(&view);
    find_landmarks(trace);
    trace->steps_per_second = (double)trace->count * 1e9 / (double)(stepper_now_ns() - began + 1);
    return outcome;
}

enum stepper_outcome stepper_run_to(struct stepper *stepper, const struct stepper_trace *trace, size_t k)
{
    if (k > trace->count)
        k = trace->count;
    size_t at = trace->landmark[k];
    if (at > 0) {
        enum stepper_outcome outcome = run_to_address(stepper, trace->address[at], 0);
        if (outcome != STEPPER_AT_POINT)
            return outcome == STEPPER_AT_END && k == trace->count ? STEPPER_AT_POINT : outcome;
    }
    for (; at < k; at++) {
        enum stepper_outcome outcome = stepper_step(stepper);
        if (outcome != STEPPER_AT_POINT)
            return outcome == STEPPER_AT_END && k == trace->count ? STEPPER_AT_POINT : outcome;
    }
    if (address_get(stepper) != trace->address[k])
        stepper->drifted++;
    return STEPPER_AT_POINT;
}

/* ---- from call to call ----------------------------------------------------------------------------------------- */

/* To the next stop of the stepped thread before or after a call, or to the end mark, where a breakpoint is. */
static enum stepper_outcome next_call(struct stepper *stepper)
{
    for (;;) {
        int status;
        if (ptrace(PTRACE_SYSCALL, stepper->tid, NULL, NULL) < 0)
            return STEPPER_EXITED;
        if (!wait_for(stepper, stepper->tid, &status))
            return STEPPER_TIMEOUT;
        if (passed_birth(stepper, stepper->tid, status) || is_harmless(status))
            continue;
        if (WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80))
            return STEPPER_AT_POINT;
        enum stepper_outcome outcome = classify(stepper, status);
        if (outcome != STEPPER_AT_POINT)
            return outcome;
        uint64_t at = address_get(stepper) - 1;
        stepper->fault_signal = SIGTRAP;
        if (at != mark_address(stepper_mark_end))
            return STEPPER_FAULT;
        address_set(stepper, at);
        return STEPPER_AT_END;
    }
}

static void begin_calls(struct stepper *stepper)
{
    arm(stepper, mark_address(stepper_mark_end));
}

static void end_calls(struct stepper *stepper, enum stepper_outcome outcome)
{
    if (outcome == STEPPER_AT_POINT || outcome == STEPPER_AT_END)
        disarm(stepper, stepper->tid);
    stepper->armed_count = 0;
}

enum stepper_outcome stepper_record_calls(struct stepper *stepper, struct stepper_trace *trace)
{
    enum stepper_outcome outcome;
    trace_append(trace, 0, address_get(stepper), 0);
    begin_calls(stepper);
    while ((outcome = next_call(stepper)) == STEPPER_AT_POINT)
        trace_append(trace, trace->count + 1, address_get(stepper), STEPPER_SYSCALL);
    end_calls(stepper, outcome);
    return outcome;
}

enum stepper_outcome stepper_run_to_call(struct stepper *stepper, size_t k)
{
    enum stepper_outcome outcome = STEPPER_AT_POINT;
    begin_calls(stepper);
    for (size_t at = 0; at < k && outcome == STEPPER_AT_POINT; at++)
        outcome = next_call(stepper);
    end_calls(stepper, outcome);
    return outcome;
}

void stepper_trace_free(struct stepper_trace *trace)
{
    free(trace->address);
    free(trace->flags);
    free(trace->landmark);
    *trace = (struct stepper_trace){0};
}

void stepper_watch_free(struct stepper_watch *watch)
{
    free(watch->shadow);
    watch->shadow = NULL;
    watch->size_bytes = 0;
}

#else
#error "stepper.c knows only x86-64"
#endif
