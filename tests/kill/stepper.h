/* stepper.h - runs a function in a child, one machine instruction at a time, and kills it where asked.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Knows nothing of Cove. The design stands at the head of stepper.c. */
#ifndef STEPPER_H
#define STEPPER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What happened at a point of a trace; a point is the state after `k` instructions. */
enum {
    STEPPER_CHANGED = 1, /* instruction k changed a watched byte */
    STEPPER_SYSCALL = 2 /* instruction k was a system call */
};

/* One operation as it went when nobody killed it. Entry k describes the state after k instructions, 0 <= k <= count. */
struct stepper_trace {
    uint64_t *address; /* of the instruction that would be executed next */
    uint8_t *flags; /* STEPPER_... of the instruction that led here */
    uint32_t *landmark; /* the last point at or before k whose address was met there for the first time */
    size_t count;
    size_t capacity;
    double steps_per_second;
};

/* A file whose bytes are compared after each instruction. It may appear, grow and vanish meanwhile. */
struct stepper_watch {
    const char *path;
    unsigned char *shadow;
    size_t size_bytes;
};

struct stepper_breakpoint {
    uint64_t address;
    long original; /* the word that was there */
};

struct stepper {
    pid_t pid; /* the child; 0 when there is none */
    pid_t tid; /* its thread that reached the begin mark */
    int64_t deadline; /* monotonic, ns: waiting for the child ends here */
    int fault_signal; /* the signal that stopped it, when a call answered STEPPER_FAULT */
    struct stepper_breakpoint armed[2]; /* a process that is born meanwhile has a copy of them */
    int armed_count;
    pid_t early; /* a thread or process whose first stop was told before its birth; 0: none */
    pid_t born; /* the last process that the child made; it runs on untraced */
    int born_status; /* its wait status, where it was waited for here; born is 0 then */
    uint64_t drifted; /* times that a point was reached at another address than in the trace */
};

enum stepper_outcome {
    STEPPER_AT_POINT = 0,
    STEPPER_AT_END, /* the end mark was reached */
    STEPPER_EXITED, /* the child is gone without having met it */
    STEPPER_FAULT, /* a signal that would have ended the child */
    STEPPER_TIMEOUT, /* the child did not come back in time: it blocks */
    STEPPER_REFUSED /* ptrace is not allowed here; errno says why */
};

/* The function that runs in the child calls these around the operation; nobody else may. */
void stepper_mark_begin(void);
void stepper_mark_end(void);

/* Runs the calling program again without address randomisation, unless that is already so. Returns when it is so, or
 * when the system refuses it (traces of different runs then differ in addresses, and nothing else). */
void stepper_fix_addresses(char **argv);

/* Binds the calling process, and so its later children, to one CPU. */
int stepper_pin(int cpu);

/* Forks, and lets the child run until it calls stepper_mark_begin. `run` does not return: the child exits with its value. */
enum stepper_outcome stepper_start(struct stepper *stepper, int (*run)(void *), void *argument, int64_t timeout_ns);

/* Executes one instruction. */
enum stepper_outcome stepper_step(struct stepper *stepper);

/* Steps to the end mark and fills `trace`. `watch` may be NULL. */
enum stepper_outcome stepper_record(struct stepper *stepper, struct stepper_trace *trace, struct stepper_watch *watch);

/* Brings a child that was just started to point k, through a breakpoint at the nearest landmark. */
enum stepper_outcome stepper_run_to(struct stepper *stepper, const struct stepper_trace *trace, size_t k);

/* The coarser way, without single steps: points are the stops before and after each system call, in turn; point 0 is the begin mark.
 * A child killed at a stop before a call does not make it. `flags` and `address` of `trace` are filled. */
enum stepper_outcome stepper_record_calls(struct stepper *stepper, struct stepper_trace *trace);
enum stepper_outcome stepper_run_to_call(struct stepper *stepper, size_t k);

/* Lets the child run to its exit. Returns its exit status, 128 + a signal, or -1 when it took too long (it is killed then). */
int stepper_finish(struct stepper *stepper);

/* SIGKILL, and the kernel's word that it is dead: all its descriptors and locks are gone when this returns. */
void stepper_kill(struct stepper *stepper);

void stepper_trace_free(struct stepper_trace *trace);
void stepper_watch_free(struct stepper_watch *watch);

int64_t stepper_now_ns(void);

#endif
