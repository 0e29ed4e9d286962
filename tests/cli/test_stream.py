# test_stream.py - `cove write` and `cove read` as a pair, whole and killed.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import fcntl
import filecmp
import os
import signal
import subprocess
import termios
import pty
import select
import time

from trial import COVE, DONE, FAILED, NONAME, PATIENCE_S, TIMEOUT, Trial, main

MIB = 1 << 20


class Pair(Trial):
    def test_small_input_needs_no_reader(self):
        self.expect(self.cove("write", "x/y", input="hello\n"), DONE, r"^cove: x/y: stream created$")
        process = self.expect(self.cove("read", "x/y"), DONE)
        self.assertEqual((process.stdout, process.stderr), ("hello\n", ""))

    def test_reader_may_come_first(self):
        reader = self.start("read", "x/y")
        self.wait_for_members("x", 1)
        self.expect(self.cove("write", "x/y", input="late\n"), DONE)
        self.assertEqual(self.finish(reader), (DONE, b"late\n", "cove: x/y: stream created\n"))

    def test_stream_is_used_again_after_its_end(self):
        for text in ("one", "two", "", "three"):
            self.expect(self.cove("write", "x/y", input=text), DONE)
            self.assertEqual(self.expect(self.cove("read", "x/y"), DONE).stdout, text)

    def test_tar_through_a_stream_lists_the_same(self):
        source = "/usr/include"
        plain = subprocess.run(["sh", "-c", f"tar cf - {source} 2>/dev/null | tar tf -"], capture_output=True,
                               check=True)
        through = subprocess.run(
            ["sh", "-c", f'tar cf - {source} 2>/dev/null | "$0" write x/y & "$0" read x/y | tar tf -; wait', COVE],
            env=self.environment, capture_output=True, timeout=PATIENCE_S)
        self.assertEqual(through.returncode, 0)
        self.assertEqual(through.stdout, plain.stdout)
        self.assertGreater(len(plain.stdout), 10000)

    def test_file_of_200_mb_arrives_the_same(self):
        source, copy = self.make_file("source", 200 * MIB), self.path("copy")
        with open(copy, "wb") as out:
            reader = self.start("read", "x/y", stdout=out)
            writer = self.start("write", "x/y", source)
            self.assertEqual(self.finish(writer)[0], DONE)
            self.assertEqual(self.finish(reader)[0], DONE)
        self.assertTrue(filecmp.cmp(source, copy, shallow=False))

    def test_smallest_ring_carries_all(self):
        source = self.make_file("source", 3 * MIB + 17)
        copy = self.path("copy")
        with open(copy, "wb") as out:
            reader = self.start("read", "x/y", "--capacity", "4K", stdout=out)
            writer = self.start("write", "x/y", source, "--capacity=4K")
            self.assertEqual(self.finish(writer)[0], DONE)
            self.assertEqual(self.finish(reader)[0], DONE)
        self.assertTrue(filecmp.cmp(source, copy, shallow=False))

    def test_second_end_is_refused_and_the_first_is_named(self):
        reader = self.start("read", "x/y")
        self.wait_for_members("x", 1)
        self.expect(self.cove("read", "x/y"), FAILED, str(reader.pid))
        self.assertIsNone(reader.poll())

    def test_existing_creates_nothing(self):
        self.expect(self.cove("read", "x/y", "--existing"), NONAME)
        self.expect(self.cove("write", "x/y", "--existing", input="x"), NONAME)
        self.assertEqual(os.listdir(self.directory), [])

    def test_writer_times_out_when_nobody_reads(self):
        self.expect(self.cove("write", "x/y", self.make_file("big", 3 * MIB), "--timeout", "100ms"), TIMEOUT)

    def test_missing_input_creates_nothing(self):
        self.expect(self.cove("write", "x/y", self.path("none")), FAILED, "cannot read: No such file")
        self.assertEqual(os.listdir(self.directory), [])

    def test_unreadable_input_does_not_end_the_stream(self):
        process = self.cove("write", "x/y", self.scratch)
        self.expect(process, FAILED, "cannot read: Is a directory; the stream is left unfinished")
        self.expect(self.cove("read", "x/y", "--timeout", "5s"), FAILED)


    def test_closed_standard_descriptors_are_not_taken_by_a_segment(self):
        for words in ('"$0" write x/y <&-', '"$0" stat x >&-', '"$0" write x/y <&- >&- 2>&-'):
            with self.subTest(words=words):
                self.expect(self.cove("create", "x"), DONE)
                process = subprocess.run(["sh", "-c", words, COVE], env=self.environment, capture_output=True,
                                         timeout=PATIENCE_S)
                self.assertEqual(process.returncode, FAILED)
                self.expect(self.cove("gc"), DONE)  # a writer that fails leaves as the dead do
                self.expect(self.cove("doctor", "x"), DONE)
                self.expect(self.cove("rm", "x"), DONE)


class Killed(Trial):
    def read_exactly(self, pipe, size_bytes):
        data = b""
        while len(data) < size_bytes:
            piece = os.read(pipe.fileno(), size_bytes - len(data))
            self.assertTrue(piece, "the pipe ended early")
            data += piece
        return data

    def test_dead_writers_bytes_are_printed_then_it_is_named(self):
        data = os.urandom(3 * MIB)
        reader, writer = self.start("read", "x/y"), self.start("write", "x/y")
        # Once the reader's output has all of it, the writer has committed it, and is blocked in read(2).
        feeder = os.fork()
        if feeder == 0:
            writer.stdin.write(data)
            writer.stdin.flush()
            os._exit(0)
        head = self.read_exactly(reader.stdout, len(data))
        os.waitpid(feeder, 0)
        writer.kill()
        status, rest, messages = self.finish(reader)
        self.assertEqual(status, FAILED)
        self.assertEqual(head + rest, data)
        self.assert_message(messages)
        self.assertIn(str(writer.pid), messages)
        self.assertIn(str(len(data)), messages)

    def test_dead_reader_fails_the_writer_which_names_it(self):
        source = self.make_file("source", 64 * MIB)
        writer, reader = self.start("write", "x/y", source), self.start("read", "x/y")
        self.read_exactly(reader.stdout, MIB)
        reader.kill()
        status, _, messages = self.finish(writer)
        self.assertEqual(status, FAILED)
        self.assertIn(str(reader.pid), messages)
        self.assert_message(messages)

    def test_keep_waits_for_the_next_reader_and_nothing_is_lost(self):
        source = self.make_file("source", 24 * MIB)
        with open(source, "rb") as file:
            data = file.read()
        writer = self.start("write", "x/y", source, "--keep")
        at = 0
        for part in range(3):
            reader = self.start("read", "x/y")
            # It stops in write(2) into our full pipe: what it wrote of that piece is not consumed.
            piece = self.read_exactly(reader.stdout, 4 * MIB + part * 1000)
            reader.kill()
            reader.wait()
            piece += reader.stdout.read()
            # The next one begins at or before where this one stopped, never behind it; at most a ring before.
            found = data.find(piece[:64], max(0, at - MIB))
            self.assertGreaterEqual(found, at - MIB)
            self.assertLessEqual(found, at)
            self.assertEqual(piece, data[found:found + len(piece)])
            at = found + len(piece)
        status, rest, _ = self.finish(self.start("read", "x/y"))
        self.assertEqual(status, DONE)
        self.assertTrue(data.endswith(rest))
        self.assertGreaterEqual(at + len(rest), len(data))
        self.assertEqual(self.finish(writer)[0], DONE)

    def test_new_writer_goes_on_behind_the_dead_ones_bytes(self):
        writer = self.start("write", "x/y")
        writer.stdin.write(b"first ")
        writer.stdin.flush()
        self.wait_until(lambda: self.cove("stat", "x/y").returncode == DONE and
                        self.stream_figures("x/y")["unread"] == 6, "the bytes are committed")
        writer.kill()
        writer.wait()
        self.expect(self.cove("write", "x/y", input="second"), DONE)
        reader = self.cove("read", "x/y")
        self.assertIn(reader.stdout, ("first second", "first "))
        if reader.stdout == "first ":  # told of the death between
            self.assertEqual(reader.returncode, FAILED)
            self.assertEqual(self.expect(self.cove("read", "x/y"), DONE).stdout, "second")


class Pipeline(Trial):
    def test_closed_output_ends_the_reader_by_sigpipe_and_fails_the_writer(self):
        self.expect(self.cove("create", "x/y", "--type", "stream"), DONE)
        writer = self.start("write", "x/y", self.make_file("source", 16 * MIB))
        shell = subprocess.run(["bash", "-c", '"$0" read x/y | head -c 10 | wc -c; echo "${PIPESTATUS[0]}"', COVE],
                               env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S,
                               restore_signals=True)
        self.assertEqual(shell.stdout.split(), ["10", str(128 + signal.SIGPIPE)])
        self.assertEqual(shell.stderr, "")
        status, _, messages = self.finish(writer)
        self.assertEqual(status, FAILED)
        self.assert_message(messages)

    def test_closed_output_is_noticed_while_waiting_for_the_writer(self):
        reader = self.start("read", "x/y")
        self.wait_for_members("x", 1)
        reader.stdout.close()
        reader.stdout = None
        self.assertEqual(reader.wait(PATIENCE_S), -signal.SIGPIPE)

    def test_ignored_sigpipe_is_a_sentence(self):
        self.expect(self.cove("write", "x/y", input="text"), DONE)
        out, into = os.pipe()
        os.close(out)
        reader = self.cove("read", "x/y", stdout=into, preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
                           restore_signals=False)
        os.close(into)
        self.expect(reader, FAILED, "standard output: cannot write: Broken pipe")
        self.assertEqual(self.expect(self.cove("read", "x/y"), DONE).stdout, "text")

    def test_full_disk_behind_output_loses_nothing(self):
        self.expect(self.cove("write", "x/y", input="text"), DONE)
        with open("/dev/full", "wb") as full:
            self.expect(self.cove("read", "x/y", stdout=full), FAILED,
                        "cannot write: No space left on device; what it did not get stays")
        self.assertEqual(self.expect(self.cove("read", "x/y"), DONE).stdout, "text")

    def interrupted(self, process, number):
        process.send_signal(number)
        self.assertEqual(process.wait(PATIENCE_S), -number)

    def test_signals_end_a_waiting_reader(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            reader = self.start("read", "x/y")
            self.wait_for_members("x", 1)
            self.interrupted(reader, number)
        self.wait_for_members("x", 0)

    def test_signals_end_a_writer_that_waits_for_its_input(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            writer = self.start("write", "x/y")
            self.wait_for_members("x", 1)
            self.interrupted(writer, number)

    def test_interrupted_writer_does_not_end_the_stream(self):
        reader, writer = self.start("read", "x/y"), self.start("write", "x/y")
        writer.stdin.write(b"half")
        writer.stdin.flush()
        self.assertEqual(os.read(reader.stdout.fileno(), 4), b"half")
        self.interrupted(writer, signal.SIGINT)
        status, _, messages = self.finish(reader)
        self.assertEqual(status, FAILED)
        self.assertIn(str(writer.pid), messages)

    def test_interrupted_reader_leaves_the_rest_exactly(self):
        source = self.make_file("source", 8 * MIB)
        with open(source, "rb") as file:
            data = file.read()
        writer = self.start("write", "x/y", source, "--keep")
        reader = self.start("read", "x/y")
        head = os.read(reader.stdout.fileno(), 100)
        reader.send_signal(signal.SIGINT)
        head += reader.stdout.read()
        self.assertEqual(reader.wait(PATIENCE_S), -signal.SIGINT)
        status, rest, _ = self.finish(self.start("read", "x/y"))
        self.assertEqual(status, DONE)
        self.assertTrue(head + rest == data, f"{len(head)} + {len(rest)} of {len(data)} bytes")
        self.assertEqual(self.finish(writer)[0], DONE)

    def test_ignored_hangup_stays_ignored(self):
        reader = self.start("read", "x/y", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_for_members("x", 1)
        reader.send_signal(signal.SIGHUP)
        self.expect(self.cove("write", "x/y", input="on"), DONE)
        self.assertEqual(self.finish(reader)[:2], (DONE, b"on"))

    def test_descriptors_that_do_not_block_are_waited_for(self):
        out, into = os.pipe()
        os.set_blocking(out, False)
        writer = self.start("write", "x/y", stdin=out)
        os.close(out)
        reader = self.start("read", "x/y")
        os.set_blocking(reader.stdout.fileno(), True)
        data = os.urandom(4 * MIB)
        feeder = os.fork()
        if feeder == 0:
            with os.fdopen(into, "wb") as pipe:
                pipe.write(data)
            os._exit(0)
        os.close(into)
        self.assertTrue(self.finish(reader)[1] == data)
        os.waitpid(feeder, 0)
        self.assertEqual(self.finish(writer)[0], DONE)

    def test_progress_is_forced_into_a_file_and_sums_up(self):
        process = self.cove("write", "x/y", "--progress", input="x" * 5000)
        self.expect(process, DONE, r"(?m)^cove: x/y: 4\.9 KiB in .*, .*B/s, written$")
        self.assertNotIn("\x1b", process.stderr)

    def test_progress_shows_on_a_terminal_only_in_the_foreground(self):
        leader, follower = pty.openpty()

        def foreground():
            os.setsid()
            fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
        self.start("read", "x/y", stderr=follower, preexec_fn=foreground)
        os.close(follower)
        shown = b""
        end = time.monotonic() + PATIENCE_S
        while b"waiting for the writer" not in shown and time.monotonic() < end:
            if select.select([leader], [], [], 0.2)[0]:
                shown += os.read(leader, 4096)
        os.close(leader)
        self.assertIn(b"\rcove: x/y: 0 B in ", shown)
        self.assertIn(b"waiting for the writer", shown)


if __name__ == "__main__":
    main()
