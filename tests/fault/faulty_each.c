/* faulty_each.c - an operation with its first call failing, then with its second, until it makes no more.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "faulty_each.h"

#include "faulty_os.h"

#include <dirent.h>

/* ---- what is held */

struct holdings {
    int descriptors, mappings, files;
};

int faulty_count(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    (void)closedir(directory);
    return count;
}

static struct holdings holdings(void)
{
    struct holdings now = {.descriptors = faulty_count("/proc/self/fd"), .files = faulty_count(testing_dir())};
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[1024];
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps))
        now.mappings += strstr(line, testing_dir()) || strstr(line, "/memfd:cove") || strstr(line, "/SYSV");
    (void)fclose(maps);
    return now;
}

/* ---- the loop */

static void round_of(const struct faulty_operation *operation, unsigned turn, unsigned variant, bool *reached)
{
    struct holdings before = holdings();
    if (operation->prepare)
        operation->prepare();
    unit_forget();
    faulty_begin(turn, variant);
    int64_t result = operation->run();
    *reached = faulty_end();
    char what[128];
    (void)snprintf(what, sizeof what, "%s, call %u (%s), error %u", operation->name, turn, faulty_name(), variant);
    if (result < 0 && (*cove_last_error() == '\0' || !*reached))
        fail_msg("%s: %s: %s", what, cove_errname((int)result), *reached ? "no sentence" : cove_last_error());
    if (result < 0 && result > -4096 && strcmp(cove_errname((int)result), "unknown") == 0)
        fail_msg("%s: %" PRId64 " is no error", what, result);
    if (result == COVE_ECORRUPT || strstr(cove_last_error(), "contradicts"))
        fail_msg("%s: told as corruption: %s", what, cove_last_error());
    if (getenv("COVE_TEST_VERBOSE"))
        print_message("%s: %s: %s\n", what, cove_errname((int)result), result < 0 ? cove_last_error() : "");
    operation->settle(result);
    struct holdings after = holdings();
    if (after.descriptors != before.descriptors || after.mappings != before.mappings || after.files != before.files)
        fail_msg("%s: %d descriptors, %d mappings, %d files more than before", what,
                 after.descriptors - before.descriptors, after.mappings - before.mappings, after.files - before.files);
}

void faulty_each(const struct faulty_operation *operation)
{
    for (unsigned variant = 0; variant < 2; variant++) {
        bool reached = true;
        unsigned turn = 0;
        while (reached)
            round_of(operation, ++turn, variant, &reached);
        print_message("%s: %u calls that can fail\n", operation->name, turn - 1);
        assert_true(turn - 1 >= operation->least);
    }
}
