/* main.c - the command `cove`: picks the verb, and answers help and version.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int help(const struct cli_call *call);
static int version(const struct cli_call *call);

static const struct cli_verb verb_help = {
    .name = "help",
    .arguments = "[VERB | names]",
    .summary = "say how a verb is used, or what names look like",
    .most = 1,
    .run = help,
};
static const struct cli_verb verb_version = {.name = "version",
                                             .arguments = "",
                                             .summary = "say which version of the command and the library runs",
                                             .run = version};

static const struct cli_verb *const verbs[] = {
    &cli_write, &cli_read, &cli_lock, &cli_signal, &cli_wait_verb, &cli_count, &cli_cat,   &cli_replace,  &cli_create,
    &cli_ls,    &cli_stat, &cli_rm,   &cli_gc,     &cli_doctor,    &cli_demo,  &verb_help, &verb_version,
};
#define VERB_COUNT (sizeof verbs / sizeof *verbs)

static const struct cli_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    return NULL;
}

static void overview(FILE *out)
{
    fprintf(out, "cove - memory that the processes of this machine share, and that no kill can break\n\n"
                 "usage: cove VERB NAME... [OPTIONS]\n\n");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        char words[64];
        (void)snprintf(words, sizeof words, "%s%s", verbs[i]->arguments, verbs[i]->runs_command ? " -- COMMAND" : "");
        fprintf(out, "  %-8s %-26s %s\n", verbs[i]->name, words, verbs[i]->summary);
    }
    fprintf(out, "\nA NAME is SEGMENT or SEGMENT/OBJECT. Segments live in %s; 'cove help names' shows where else.\n",
            cove_directory());
    fprintf(out, "Try: tar c DIR | cove write robot/backup & cove read robot/backup | tar t\n"
                 "More: cove help VERB, man cove. To see it at work: cove demo\n");
}

/* All names on one screen, as in cove(1). */
static void explain_names(void)
{
    printf("A region is shared memory as it is, a segment one with Cove's objects in it:\n\n"
           "  robot           the file robot.cove in $COVE_DIR, or in /dev/shm\n"
           "  posix:/robot    the file robot there: what shm_open calls \"/robot\"\n"
           "  file:PATH       a mapped file\n"
           "  sysv:0x5eed     System V shared memory by its key, as ipcs prints it\n"
           "  sysv:PATH:ID    the same by the key that ftok makes of them; ID is 1..255\n"
           "  huge:robot      huge pages; hugetry:robot: normal ones where there are none\n"
           "  fd:7            a descriptor that was inherited: cove cat fd:7 7<FILE\n"
           "  memfd:          nameless, gone with its last user: for programs\n\n"
           "A plain name has 1 to 200 letters, digits, '.', '_' and '-', and does not\n"
           "begin with '.' or '-'. The directory is %s now.\n\n"
           "An object's name comes behind its segment's and a '/'; where the segment's\n"
           "holds a '/' itself, behind '//':\n\n"
           "  robot/commands  sysv:0x5eed/commands  file:/var/lib/app.cove//commands\n",
           cove_directory());
}

/* A word that is no verb: ask about the nearest one. */
static int no_such_verb(const char *word)
{
    const struct cli_verb *nearest = NULL;
    unsigned best = 3;
    for (size_t i = 0; i < VERB_COUNT; i++) {
        unsigned distance = cli_distance(word, verbs[i]->name);
        if (distance < best && distance < strlen(verbs[i]->name)) {
            best = distance;
            nearest = verbs[i];
        }
    }
    if (nearest)
        cli_say(word, "there is no such verb; did you mean %s?", nearest->name);
    else
        cli_say(word, "there is no such verb; 'cove help' lists them");
    return CLI_USE;
}

static int help(const struct cli_call *call)
{
    if (call->name_count == 0) {
        overview(stdout);
        return CLI_DONE;
    }
    if (strcmp(call->names[0], "names") == 0) {
        explain_names();
        return CLI_DONE;
    }
    const struct cli_verb *verb = find_verb(call->names[0]);
    if (!verb)
        return no_such_verb(call->names[0]);
    cli_help(verb);
    return CLI_DONE;
}

static int version(const struct cli_call *call)
{
    (void)call;
    printf("cove %d.%d.%d, libcove %s\n", COVE_VERSION_MAJOR, COVE_VERSION_MINOR, COVE_VERSION_PATCH, cove_version());
    return CLI_DONE;
}

static int run_verb(const struct cli_verb *verb, int argc, const char **argv)
{
    struct cli_call call;
    int status = cli_parse(verb, argc, argv, &call);
    if (status < 0)
        status = verb->run(&call);
    else if (status != CLI_DONE && verb->runs_command)
        status = CLI_RUN_FAILED; /* any other would be taken for the command's own */
    cli_parse_done();
    return cli_flush(status);
}

/* Where a standard descriptor is closed, the first file that is opened would take its place, and what is printed
 * would go into a segment. So it is filled with one on which reading, or writing, fails. */
static void fill_standard_descriptors(void)
{
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    if (argc < 2) {
        overview(stderr);
        return CLI_USE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        word = "help";
    else if (strcmp(word, "--version") == 0)
        word = "version";
    const struct cli_verb *verb = find_verb(word);
    if (!verb)
        return no_such_verb(word);
    /* Whoever truncates what we look at must not kill us; without it we merely might be. Verbs that take part in a segment
     * do without: a guarded member's death is told later. */
    if (verb != &cli_write && verb != &cli_read && verb != &cli_demo)
        (void)cove_guard_all();
    return run_verb(verb, argc - 1, (const char **)(uintptr_t)(argv + 1));
}
