/* mixed.c - programs of several libcs and word sizes share one segment, are killed, and recover each other.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     mixed KIND=PEER KIND=PEER ...     ("musl=/path/to/peer": see peer.c)
 *
 * For each ordered pair of kinds one is the victim and the other one survives it: holding a lock in the middle of a
 * change (killed; killed without its sign of life; a thread of it gone while the process lives), at either end of a
 * stream. Then all work together and are killed in turn. Each scene ends with a judgement by the survivor's kind.
 * Status 0: all as expected, 1: not, 77: fewer than two kinds. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KINDS_MAX 4
#define WORKERS 6
#define KILLS 60
#define PATIENCE_MS 40000

struct kind {
    char name[16];
    const char *program;
};
static struct kind kinds[KINDS_MAX];
static unsigned kind_count;

struct peer {
    const struct kind *kind;
    pid_t pid; /* 0: none */
    int to, from;
};

static char directory[64];
static char segment[32];
static unsigned scenes, failures;
static bool scene_failed;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "    ");
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, "\n");
    va_end(arguments);
    scene_failed = true;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    perror(what);
    exit(1);
}

/* ---- peers */

static void run(const struct kind *kind, const char *role, const char *how, int in, int out)
{
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        _exit(126);
    (void)execl(kind->program, kind->program, role, segment, how, (char *)NULL);
    perror(kind->program);
    _exit(127);
}

static struct peer start(const struct kind *kind, const char *role, const char *how)
{
    int to[2], from[2];
    must(pipe2(to, O_CLOEXEC), "pipe");
    must(pipe2(from, O_CLOEXEC), "pipe");
    pid_t pid = fork();
    must(pid, "fork");
    if (pid == 0)
        run(kind, role, how, to[0], from[1]);
    (void)close(to[0]);
    (void)close(from[1]);
    return (struct peer){kind, pid, to[1], from[0]};
}

static void forget(struct peer *peer)
{
    (void)close(peer->to);
    (void)close(peer->from);
    peer->pid = 0;
}

static void strike(struct peer *peer)
{
    if (peer->pid == 0)
        return;
    (void)kill(peer->pid, SIGKILL);
    (void)waitpid(peer->pid, NULL, 0);
    forget(peer);
}

static void tell(const struct peer *peer)
{
    if (write(peer->to, "!", 1) != 1)
        fail("the %s peer does not listen", peer->kind->name);
}

static bool read_byte(const struct peer *peer, char *byte, int64_t until_ms)
{
    struct pollfd look = {.fd = peer->from, .events = POLLIN};
    int64_t left_ms = until_ms - now_ms();
    return left_ms > 0 && poll(&look, 1, (int)left_ms) == 1 && read(peer->from, byte, 1) == 1;
}

/* One line of it without its end; "" where it ended or says nothing for too long. */
static void read_line(const struct peer *peer, char *line, size_t size_bytes)
{
    int64_t until_ms = now_ms() + PATIENCE_MS;
    size_t length = 0;
    while (length + 1 < size_bytes && read_byte(peer, &line[length], until_ms) && line[length] != '\n')
        length++;
    line[length] = '\0';
}

static void expect(const struct peer *peer, const char *expected)
{
    char line[200];
    read_line(peer, line, sizeof line);
    if (strcmp(line, expected) != 0)
        fail("the %s peer said `%s`, not `%s`", peer->kind->name, line, expected);
}

/* It comes to its end by itself; after a failure it is not waited for. */
static void join(struct peer *peer)
{
    int status = 0;
    if (scene_failed) {
        strike(peer);
        return;
    }
    if (waitpid(peer->pid, &status, 0) != peer->pid || status != 0)
        fail("the %s peer ended with status %#x", peer->kind->name, (unsigned)status);
    forget(peer);
}

/* It waits in the kernel for something of the segment: all that it had to say is said. */
static void await_sleep(const struct peer *peer)
{
    char path[64], text[512];
    int64_t until_ms = now_ms() + PATIENCE_MS;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)peer->pid);
    while (now_ms() < until_ms) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
        (void)close(file);
        text[length > 0 ? length : 0] = '\0';
        const char *name_end = strrchr(text, ')');
        if (name_end && name_end[1] && name_end[2] == 'S')
            return;
        (void)sched_yield();
    }
    fail("the %s peer does not come to wait", peer->kind->name);
}

/* ---- scenes */

static void begin_scene(const char *what, const struct kind *victim, const struct kind *survivor)
{
    (void)snprintf(segment, sizeof segment, "mixed-%u", ++scenes);
    scene_failed = false;
    (void)printf("%-44s %-8s %-8s ", what, victim ? victim->name : "all", survivor ? survivor->name : "");
    (void)fflush(stdout);
}

static void end_scene(const struct kind *survivor)
{
    if (!scene_failed) {
        struct peer judge = start(survivor, "judge", NULL);
        expect(&judge, "problems 0 alive 1 dead 0 off 0 rounds kept");
        join(&judge);
    }
    failures += scene_failed;
    (void)printf("%s\n", scene_failed ? "FAILED" : "ok");
}

/* how: "" and "unmarked": the process is killed; "thread": one of its threads ends, the process lives. */
static void lock_scene(const char *what, const char *how, const struct kind *victim, const struct kind *survivor)
{
    begin_scene(what, victim, survivor);
    struct peer holder = start(victim, "hold", how);
    expect(&holder, "held");
    struct peer taker = start(survivor, "take", NULL);
    expect(&taker, "ready");
    await_sleep(&taker);
    if (strcmp(how, "thread") == 0)
        tell(&holder);
    else
        strike(&holder);
    expect(&taker, "took COVE_RECOVERED from=1000 to=0 tag=7");
    join(&taker);
    strike(&holder);
    end_scene(survivor);
}

static void reader_survives(const struct kind *victim, const struct kind *survivor)
{
    begin_scene("the writer of a stream is killed", victim, survivor);
    struct peer reader = start(survivor, "read", NULL);
    expect(&reader, "ready");
    struct peer writer = start(victim, "write", NULL);
    expect(&writer, "wrote 100000");
    strike(&writer);
    expect(&reader, "read 100000 COVE_EPEER");
    join(&reader);
    end_scene(survivor);
}

static void writer_survives(const struct kind *victim, const struct kind *survivor)
{
    begin_scene("the reader of a stream is killed", victim, survivor);
    struct peer reader = start(victim, "sip", NULL);
    expect(&reader, "ready");
    struct peer writer = start(survivor, "fill", NULL);
    expect(&reader, "sipped");
    await_sleep(&writer);
    strike(&reader);
    expect(&writer, "filled COVE_EPEER");
    join(&writer);
    end_scene(survivor);
}

static void pair_scenes(const struct kind *victim, const struct kind *survivor)
{
    lock_scene("the holder of a lock is killed", "", victim, survivor);
    lock_scene("killed without a sign of life", "unmarked", victim, survivor);
    lock_scene("a thread that holds it ends, without clean-up", "thread", victim, survivor);
    reader_survives(victim, survivor);
    writer_survives(victim, survivor);
}

static struct peer start_worker(unsigned place)
{
    struct peer worker = start(&kinds[place % kind_count], "transfer", NULL);
    expect(&worker, "ready");
    return worker;
}

static void all_at_work(void)
{
    struct peer workers[WORKERS];
    begin_scene("all at work, killed in turn", NULL, NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = start_worker(i);
    for (unsigned i = 0; i < KILLS && !scene_failed; i++) {
        strike(&workers[i % WORKERS]);
        workers[i % WORKERS] = start_worker(i % WORKERS);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        tell(&workers[i]);
        join(&workers[i]);
    }
    end_scene(&kinds[scenes % kind_count]);
}

/* ---- */

static bool add_kind(const char *word)
{
    const char *equals = strchr(word, '=');
    if (!equals || kind_count == KINDS_MAX || (size_t)(equals - word) >= sizeof kinds->name)
        return false;
    struct kind *kind = &kinds[kind_count++];
    (void)snprintf(kind->name, sizeof kind->name, "%.*s", (int)(equals - word), word);
    kind->program = equals + 1;
    return true;
}

static void make_directory(void)
{
    (void)snprintf(directory, sizeof directory, "/dev/shm/cove-mixed-%d-XXXXXX", (int)getpid());
    must(mkdtemp(directory) ? 0 : -1, directory);
    must(setenv("COVE_DIR", directory, 1), "COVE_DIR");
}

/* The judges removed the segments; what is left is a failure's. */
static void remove_directory(void)
{
    char path[128];
    for (unsigned i = 1; i <= scenes; i++) {
        (void)snprintf(path, sizeof path, "%s/mixed-%u.cove", directory, i);
        (void)unlink(path);
    }
    if (rmdir(directory) < 0) {
        perror(directory);
        failures++;
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!add_kind(argv[i])) {
            (void)fprintf(stderr, "usage: mixed KIND=PEER KIND=PEER ...\n");
            return 2;
        }
    if (kind_count < 2) {
        (void)printf("skipped: programs of one kind alone; apt-get install musl-tools gcc-12-multilib\n");
        return 77;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    make_directory();
    for (unsigned v = 0; v < kind_count; v++)
        for (unsigned s = 0; s < kind_count; s++)
            if (s != v)
                pair_scenes(&kinds[v], &kinds[s]);
    all_at_work();
    remove_directory();
    (void)printf("%u scenes, %u failed\n", scenes, failures);
    return failures != 0;
}
