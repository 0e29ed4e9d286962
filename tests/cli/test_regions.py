# test_regions.py - regions from outside: creating them, being stopped and killed on the way, small and read-only file
# systems, names.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import ctypes
import grp
import os
import shutil
import signal
import subprocess
import time

from region_trial import MIB, SIZES, Bytes, libc, version
from trial import COVE, DONE, FAILED, NONAME, PATIENCE_S, USE, main


class Create(Bytes):
    def test_created_region_is_all_zero_of_the_size_and_rights_asked_for(self):
        group = grp.getgrgid(os.getgid()).gr_name
        for number, size in enumerate(SIZES):
            for name, path in [(f"plain{number}", os.path.join(self.directory, f"plain{number}.cove")),
                               (f"posix:/x{number}", self.place(f"x{number}")),
                               (f"file:{self.path(str(number))}", self.path(str(number)))]:
                with self.subTest(name=name, size=size):
                    process = self.cove("create", name, "--type", "region", "--size", str(size), "--mode", "640",
                                        "--group", group, umask=0o777)
                    self.assertEqual(self.expect(process, DONE).stderr, "")
                    self.assertEqual(self.contents(name), bytes(size))
                    self.assertEqual(os.stat(path).st_mode & 0o7777, 0o640)
                    self.assertGreaterEqual(os.stat(path).st_blocks * 512, size, "memory that is not there yet")
                    self.expect(self.cove("create", name, "--type", "region", "--size", str(size)), FAILED, "exists")

    def test_created_system_v_region_is_found_by_its_key(self):
        name, number = self.system_v(1)
        libc.shmctl(number, 0, None)
        self.addCleanup(self.cove, "rm", name)
        self.expect(self.cove("create", name, "--type", "region", "--size", "5000", "--mode", "640"), DONE)
        key = ctypes.c_int(int(name[5:], 0))
        found = libc.shmget(key, ctypes.c_size_t(5000), 0)
        self.assertGreaterEqual(found, 0)
        self.addCleanup(libc.shmctl, found, 0, None)
        self.assertEqual(self.contents(name), bytes(5000))
        self.expect(self.cove("create", name, "--type", "region", "--size", "5000"), FAILED, "exists")

    def test_huge_pages_are_taken_or_the_sentence_says_how_to_get_them(self):
        name = f"huge:cove-test-{os.getpid()}"
        process = self.cove("create", name, "--type", "region", "--size", "2M")
        self.addCleanup(self.cove, "rm", name)
        if process.returncode == DONE:
            self.assertEqual(self.contents(name), bytes(2 * MIB))
        else:
            self.expect(process, FAILED, "huge")
        self.expect(self.cove("create", f"hugetry:try-{os.getpid()}", "--type", "region", "--size", "2M"), DONE)
        self.addCleanup(self.cove, "rm", f"hugetry:try-{os.getpid()}")
        self.assertEqual(self.contents(f"hugetry:try-{os.getpid()}"), bytes(2 * MIB))

    def test_of_many_that_create_at_once_one_wins(self):
        self.place("x")
        processes = [self.start("create", "posix:/x", "--type", "region", "--size", "1M") for _ in range(20)]
        statuses = [self.finish(process)[0] for process in processes]
        self.assertEqual(sorted(statuses), [DONE] + [FAILED] * 19)
        self.assertEqual(self.contents("posix:/x"), bytes(MIB))

    def test_region_and_segment_of_one_name_exclude_each_other(self):
        self.expect(self.cove("create", "robot"), DONE)
        self.expect(self.cove("create", "robot", "--type", "region", "--size", "1M"), FAILED)
        self.expect(self.cove("create", "raw", "--type", "region", "--size", "1M"), DONE)
        self.expect(self.cove("create", "raw"), FAILED)
        self.expect(self.cove("write", "raw/stream", input="x"), FAILED)
        self.assertEqual(self.contents("raw"), bytes(MIB))


class Small(Bytes):
    """On a tmpfs of 1 MiB, in a mount namespace of its own."""

    def run_there(self, script):
        if os.geteuid() != 0 or not shutil.which("unshare"):
            self.skipTest("needs root and unshare")
        head = 'mount -t tmpfs -o size=1m,mode=755 cove-test "$COVE_DIR" || exit 77; set -u; cove=$0\n'
        process = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", head + script, COVE],
                                 env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S)
        if process.returncode == 77:
            self.skipTest("no right to mount: " + process.stderr.strip())
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)
        return process

    def test_input_that_does_not_fit_leaves_the_old_bytes(self):
        process = self.run_there("""
            echo old | "$cove" replace posix:/x || exit 1
            head -c 2M /dev/zero | "$cove" replace posix:/x
            [ $? = 1 ] || exit 2
            [ "$("$cove" cat posix:/x)" = old ] || exit 3
            "$cove" create y --type region --size 2M
            [ $? = 1 ] || exit 4
            [ "$(ls -A "$COVE_DIR")" = x ] || exit 5
            [ "$(df --output=used "$COVE_DIR" | tail -1)" -eq 4 ] || exit 6
        """)
        self.assertEqual(len(process.stderr.splitlines()), 3, process.stderr)
        for line in process.stderr.splitlines()[1:]:
            self.assertRegex(line, "^cove: .*: .*(full|room|space).*")
            self.assertRegex(line, "2097152")

    def test_holes_of_a_full_file_system_are_printed(self):
        process = self.run_there("""
            truncate -s 3M "$COVE_DIR/sparse" && printf end >>"$COVE_DIR/sparse" || exit 1
            head -c 2M /dev/zero 2>/dev/null >"$COVE_DIR/filler"
            "$cove" cat posix:/sparse | md5sum; (head -c 3M /dev/zero; printf end) | md5sum
        """)
        self.assertEqual(len(set(process.stdout.splitlines())), 1, process.stdout + process.stderr)

    def test_read_only_file_system_can_be_read_and_is_left_alone(self):
        process = self.run_there("""
            echo old | "$cove" replace posix:/x && mount -o remount,ro "$COVE_DIR" || exit 1
            echo new | "$cove" replace posix:/x
            [ $? = 1 ] || exit 2
            "$cove" create y --type region --size 4K
            [ $? = 1 ] || exit 3
            [ "$("$cove" cat posix:/x)" = old ] || exit 4
        """)
        self.assertEqual(len(process.stderr.splitlines()), 3, process.stderr)
        for line in process.stderr.splitlines()[1:]:
            self.assertRegex(line, "^cove: .*: .*[Rr]ead-only|cannot be written to")


class Stopped(Bytes):
    """Signals and kills: the old bytes or the new ones, and nothing left behind."""

    def debris(self, directory):
        return [name for name in os.listdir(directory) if name not in self.foreign_files and not name.endswith(".cove")]

    def replace_time_s(self, name, path):
        def once():
            begin = time.monotonic()
            self.assertEqual(self.cove("replace", name, path).returncode, DONE)
            return time.monotonic() - begin
        return sorted(once() for _ in range(5))[2]

    def stop_while_replacing(self, name, number, rounds):
        """Send a signal at random moments. Returns how often the old and the new bytes stood there, and the statuses."""
        versions = [self.path("even"), self.path("odd")]
        for which, path in enumerate(versions):
            with open(path, "wb") as file:
                file.write(version(which, MIB))
        span_s = self.replace_time_s(name, versions[1])
        self.assertEqual(self.cove("replace", name, versions[0]).returncode, DONE)
        now, changed, statuses = 0, 0, set()
        for _ in range(rounds):
            process = self.start("replace", name, versions[1 - now], stdin=subprocess.DEVNULL)
            time.sleep(self.random.uniform(0, 1.3 * span_s))  # no synchronisation: a random moment is what is wanted
            process.send_signal(number)
            statuses.add(self.finish(process)[0])
            found = self.contents(name)
            self.assertIn(found, [version(0, MIB), version(1, MIB)])
            was, now = now, 0 if found == version(0, MIB) else 1
            changed += was != now
        return rounds - changed, changed, statuses

    def test_replace_killed_at_200_random_moments_leaves_old_or_new_and_gc_no_debris(self):
        self.put("x", b"")
        old, new, _ = self.stop_while_replacing("posix:/x", signal.SIGKILL, 200)
        print(f"200 kills: {old} times the old bytes, {new} times the new ones, "
              f"debris of {len(self.debris(self.directory))} before gc")
        self.assertGreater(min(old, new), 0, "all kills came too early, or too late")
        self.assertEqual(self.cove("gc").returncode, DONE)
        self.assertEqual(self.debris(self.directory), [])

    def test_replace_of_a_file_killed_at_random_moments_leaves_no_debris_after_the_next(self):
        directory = self.path("there")
        os.mkdir(directory)
        name = "file:" + os.path.join(directory, "x")
        self.stop_while_replacing(name, signal.SIGKILL, 50)
        self.assertEqual(self.cove("replace", name, input="last").returncode, DONE)
        self.assertEqual(os.listdir(directory), ["x"])

    def test_replace_that_is_stopped_by_a_signal_leaves_nothing(self):
        self.put("x", b"")
        for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]:
            _, _, statuses = self.stop_while_replacing("posix:/x", number, 20)
            self.assertLessEqual(statuses, {DONE, -number})
            self.assertEqual(self.debris(self.directory), [])

    def test_replace_that_waits_for_its_input_ends_by_the_signal(self):
        name = self.put("x", b"old")
        for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]:
            process = self.start("replace", name)
            process.stdin.write(b"half of the new")
            process.stdin.flush()
            self.wait_until(lambda: self.is_waiting_for_input(process), "it reads")
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE_S), -number)
            self.assertEqual(self.contents(name), b"old")
            self.assertEqual(self.debris(self.directory), [])

    def is_waiting_for_input(self, process):
        """It has taken what is in the pipe."""
        left = ctypes.c_int(-1)
        libc.ioctl(process.stdin.fileno(), 0x541b, ctypes.byref(left))  # FIONREAD
        return left.value == 0

    def test_create_of_a_stream_that_is_stopped_leaves_no_segment_without_it(self):
        begin = time.monotonic()
        self.expect(self.cove("create", "robot/backup", "--type", "stream"), DONE)
        span_s = time.monotonic() - begin
        statuses = set()
        for number in range(40):
            self.expect(self.cove("rm", "robot"), DONE)
            process = self.start("create", "robot/backup", "--type", "stream", stdin=subprocess.DEVNULL)
            time.sleep(self.random.uniform(0, 1.3 * span_s))  # no synchronisation: a random moment is what is wanted
            process.send_signal([signal.SIGINT, signal.SIGTERM][number % 2])
            status = self.finish(process)[0]
            statuses.add(status)
            self.assertEqual(self.cove("stat", "robot").returncode, self.cove("stat", "robot/backup").returncode)
            self.cove("create", "robot/backup", "--type", "stream")
        self.assertLessEqual(statuses, {DONE, -signal.SIGINT, -signal.SIGTERM})

    def test_create_killed_at_random_moments_leaves_nothing_or_a_whole_region(self):
        sizes = set()
        for number in range(60):
            name = f"posix:/r{number}"
            path = self.place(f"r{number}")
            process = self.start("create", name, "--type", "region", "--size", "16M", stdin=subprocess.DEVNULL)
            time.sleep(self.random.uniform(0, 0.012))  # no synchronisation: a random moment is what is wanted
            process.send_signal([signal.SIGKILL, signal.SIGINT, signal.SIGTERM][number % 3])
            self.finish(process)
            sizes.add(os.stat(path).st_blocks * 512 if os.path.exists(path) else 0)
            if os.path.exists(path):
                os.unlink(path)
        self.assertLessEqual(sizes, {0, 16 * MIB})
        self.assertEqual(self.cove("gc").returncode, DONE)
        self.assertEqual(self.debris(self.directory), [])


class Names(Bytes):
    def test_objects_in_segments_with_slashes_work_in_every_verb(self):
        path = self.path("state.cove")
        for segment in ["file:" + path, "posix:/seg"]:
            self.place("seg")
            stream = segment + "//backup"
            with self.subTest(segment=segment):
                self.expect(self.cove("create", stream, "--type", "stream", "--capacity", "64K"), DONE)
                self.expect(self.cove("write", stream, input="through it"), DONE)
                self.assertIn("stream", self.expect(self.cove("stat", stream), DONE).stdout)
                self.assertIn("backup", self.expect(self.cove("ls", segment), DONE).stdout)
                self.assertEqual(self.expect(self.cove("read", stream), DONE).stdout, "through it")
                self.expect(self.cove("doctor", segment), DONE)
                self.expect(self.cove("cat", stream), USE, "cat prints a whole region or segment")
                self.expect(self.cove("replace", stream, input="x"), USE)
                self.expect(self.cove("rm", stream), DONE)
                self.expect(self.cove("stat", stream), NONAME)
                self.expect(self.cove("rm", segment), DONE)
        self.assertFalse(os.path.exists(path))

    def test_wrong_names_are_status_2_in_one_line(self):
        for name in ["", "a b", "/dev/shm/x", "posix:", "posix:x", "posix:/a/b", "posix:/", "sysv:", "sysv:x",
                     "sysv:0", "sysv:0x1ffffffff", "sysv:/etc/hostname:0", "sysv:/etc/hostname:256", "fd:", "fd:x",
                     "memfd:x", "huge:", "huge:a$b", "nosuch:x", "a/b/", "file:", "x" * 201]:
            for words in [["cat", name], ["replace", name], ["create", name, "--type", "region", "--size", "1"]]:
                with self.subTest(words=words):
                    process = self.expect(self.cove(*words), USE)
                    self.assertEqual(process.stdout, "")
                    self.assertEqual(len(process.stderr.splitlines()), 1)
        self.assertEqual(os.listdir(self.directory), [])


if __name__ == "__main__":
    main()
