/* hello.c - the first message: one process writes into a stream, another reads it. Either may come first.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <cove.h>

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int say_hello(void)
{
    cove_stream *stream;
    if (cove_stream_open(&stream, "example-hello/greetings", COVE_WRITER, NULL) < 0 ||
        cove_stream_write(stream, "Hello, world\n", 13, COVE_FOREVER) < 0)
        return cove_complain("writer");
    return cove_stream_close(stream) < 0;
}

int main(void)
{
    char text[100];
    int64_t count;
    int status = 1;
    cove_stream *stream;
    pid_t writer = fork();
    if (writer == 0)
        return say_hello();
    if (cove_stream_open(&stream, "example-hello/greetings", COVE_READER, NULL) < 0)
        return cove_complain("reader");
    while ((count = cove_stream_read(stream, text, sizeof text, COVE_FOREVER)) > 0) /* 0: the writer closed */
        (void)fwrite(text, 1, (size_t)count, stdout);
    if (count < 0)
        return cove_complain("read");
    (void)waitpid(writer, &status, 0);
    (void)cove_stream_close(stream);
    return cove_unlink("example-hello", 0) < 0 || status != 0;
}
