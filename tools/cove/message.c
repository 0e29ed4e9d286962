/* message.c - what the command says on stderr: one line each, safe for a terminal.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A line may hold what somebody typed or what stands in shared memory. Neither may move the cursor or end the line. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ABOUT_BYTES 420 /* a longer name is shown by its beginning */

/* The length of the well-formed UTF-8 character at `text`, 0 for anything else. C1 controls count as ill-formed. */
static size_t utf8_length(const unsigned char *text)
{
    unsigned char first = text[0];
    size_t length = first >= 0xc2 && first < 0xe0   ? 2
                    : first >= 0xe0 && first < 0xf0 ? 3
                    : first >= 0xf0 && first < 0xf5 ? 4
                                                    : 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool c1 = first == 0xc2 && text[1] < 0xa0;
    bool overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    bool surrogate_or_beyond = (first == 0xed && text[1] >= 0xa0) || (first == 0xf4 && text[1] >= 0x90);
    return c1 || overlong || surrogate_or_beyond ? 0 : length;
}

char *cli_clean(char *clean, size_t size_bytes, const char *foreign)
{
    const unsigned char *from = (const unsigned char *)foreign;
    size_t used = 0;
    while (*from) {
        size_t length = *from >= 0x80 ? utf8_length(from) : 1;
        if (used + (length ? length : 1) >= size_bytes)
            break;
        if (length == 0 || *from < 0x20 || *from == 0x7f) {
            clean[used++] = '?';
            from++;
            continue;
        }
        memcpy(clean + used, from, length);
        used += length;
        from += length;
    }
    clean[used] = '\0';
    return clean;
}

void cli_say(const char *about, const char *format, ...)
{
    char sentence[1024], line[1600];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    char name[ABOUT_BYTES + 1], clean[1600];
    if (strlen(about) > ABOUT_BYTES)
        (void)snprintf(name, sizeof name, "%.200s...", about);
    else
        (void)snprintf(name, sizeof name, "%s", *about ? about : "''");
    (void)snprintf(line, sizeof line, "cove: %s: %s", name, sentence);
    fprintf(stderr, "%s\n", cli_clean(clean, sizeof clean, line));
}

static int status_of(int64_t result)
{
    switch (result) {
    case -ETIMEDOUT:
    case -EAGAIN:
        return CLI_TIMEOUT;
    case -ENOENT:
        return CLI_NONAME;
    case COVE_ENAME:
    case -EINVAL:
        return CLI_USE;
    default:
        return CLI_FAILED;
    }
}

/* What follows "NAME: " at the head of a sentence, or NULL where it does not begin so. */
static const char *after_name(const char *sentence, const char *name, size_t length)
{
    bool begins = length > 0 && strncmp(sentence, name, length) == 0 && strncmp(sentence + length, ": ", 2) == 0;
    return begins ? sentence + length + 2 : NULL;
}

const char *cli_sentence(const char *name, int64_t result)
{
    const char *sentence = cove_last_error();
    if (*sentence == '\0')
        return cove_strerror((int)result);
    const char *rest = after_name(sentence, name, strlen(name));
    struct cli_name parts;
    if (!rest && cli_name_parse(name, &parts) == NULL)
        rest = after_name(sentence, name, strlen(parts.segment));
    return rest ? rest : sentence;
}

int cli_failed(const char *name, int64_t result)
{
    cli_say(name, "%s", cli_sentence(name, result));
    return status_of(result);
}

int cli_failed_owner(const char *name, const char *advice)
{
    char sentence[700];
    (void)snprintf(sentence, sizeof sentence, "%s", cli_sentence(name, COVE_EOWNER));
    /* The library's own advice, behind the ';', is for programs. */
    cli_say(name, "%.*s; %s", (int)strcspn(sentence, ";"), sentence, advice);
    return CLI_FAILED;
}

int cli_failed_name(const char *name, int64_t result)
{
    char nearest[CLI_NAME_BYTES], sentence[700];
    if (result != -ENOENT)
        return cli_failed(name, result);
    (void)snprintf(sentence, sizeof sentence, "%s", cli_sentence(name, result));
    if (cli_nearest(name, nearest))
        cli_say(name, "%s; did you mean %s?", sentence, nearest);
    else
        cli_say(name, "%s", sentence);
    return CLI_NONAME;
}

void cli_say_created(const char *name, const char *what)
{
    char nearest[CLI_NAME_BYTES];
    if (cli_nearest(name, nearest))
        cli_say(name, "%s created; did you mean %s?", what, nearest);
    else
        cli_say(name, "%s created", what);
}
