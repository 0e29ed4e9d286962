/* doctor_logind.c - does the login manager remove this user's shared memory at logout?
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * systemd-logind, with RemoveIPC (which is its default), removes what a user who is no system user has in /dev/shm when
 * the user's last session ends, also from under services that run as that user. Its settings are one file and drop-ins,
 * of which a later file, and a later name in any of the directories, wins (logind.conf(5)). */
#include "doctor.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FIRST_NORMAL_UID 1000 /* SYS_UID_MAX + 1 of login.defs as distributions ship it */

static const char *const directories[] = {"/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd"};
#define DIRECTORY_COUNT (sizeof directories / sizeof *directories)

static bool is_false(const char *word)
{
    return strcasecmp(word, "no") == 0 || strcasecmp(word, "false") == 0 || strcasecmp(word, "off") == 0 ||
           strcmp(word, "0") == 0 || strcasecmp(word, "n") == 0 || strcasecmp(word, "f") == 0;
}

static void read_settings(const char *path, bool *removes)
{
    char line[512], word[64];
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, " RemoveIPC = %63s", word) == 1 || sscanf(line, " RemoveIPC =%63s", word) == 1)
            *removes = !is_false(word);
    }
    if (file)
        (void)fclose(file);
}

static int is_settings(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

static int by_text(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* The drop-in of that name which counts: the one in the directory that ranks highest. */
static void read_drop_in(const char *name, bool *removes)
{
    char path[600];
    for (size_t i = DIRECTORY_COUNT; i-- > 0;) {
        (void)snprintf(path, sizeof path, "%s/logind.conf.d/%s", directories[i], name);
        if (access(path, R_OK) == 0) {
            read_settings(path, removes);
            return;
        }
    }
}

/* All names of drop-ins in order; a name that lies in two directories is read twice, with the same outcome. */
static void read_drop_ins(bool *removes)
{
    char names[128][256];
    size_t count = 0;
    for (size_t i = 0; i < DIRECTORY_COUNT; i++) {
        char path[300];
        struct dirent **entries;
        (void)snprintf(path, sizeof path, "%s/logind.conf.d", directories[i]);
        int found = scandir(path, &entries, is_settings, alphasort);
        for (int j = 0; j < found; j++) {
            if (count < sizeof names / sizeof *names)
                (void)snprintf(names[count++], sizeof names[0], "%s", entries[j]->d_name);
            free(entries[j]);
        }
        if (found >= 0)
            free(entries);
    }
    qsort(names, count, sizeof names[0], by_text);
    for (size_t i = 0; i < count; i++)
        read_drop_in(names[i], removes);
}

static bool logind_removes(void)
{
    bool removes = true;
    for (size_t i = DIRECTORY_COUNT; i-- > 0;) {
        char path[300];
        (void)snprintf(path, sizeof path, "%s/logind.conf", directories[i]);
        if (access(path, R_OK) == 0) {
            read_settings(path, &removes);
            break;
        }
    }
    read_drop_ins(&removes);
    return removes;
}

void doctor_logind(bool has_kept_segments)
{
    /* The directory is there while logind runs. */
    bool runs = access("/run/systemd/seats", F_OK) == 0;
    if (!runs || geteuid() < FIRST_NORMAL_UID || strcmp(cove_directory(), "/dev/shm") != 0 || !logind_removes())
        return;
    doctor_say(
        has_kept_segments ? DOCTOR_FINDING : DOCTOR_NOTE, "logout",
        "printf '[Login]\\nRemoveIPC=no\\n' | sudo tee /etc/systemd/logind.conf.d/cove.conf && sudo systemctl restart "
        "systemd-logind",
        "systemd-logind removes your segments when you log out, also from under running processes (RemoveIPC)");
}
