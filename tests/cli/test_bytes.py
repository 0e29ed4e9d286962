# test_bytes.py - raw bytes from outside: `cove cat` and `cove replace`, on every backend.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import grp
import mmap
import os
import resource
import signal
import subprocess
import threading

from region_trial import MIB, NOBODY, PAGE, SIZES, Bytes, is_whole, version
from trial import COVE, DONE, FAILED, NONAME, PATIENCE_S, SCALE, USE, main


class Cat(Bytes):
    def test_cat_prints_exactly_the_bytes_of_each_backend(self):
        for size in SIZES:
            contents = os.urandom(size)
            with self.subTest(size=size):
                self.assertEqual(self.contents(self.put("x", contents)), contents)
                path = self.path("file")
                with open(path, "wb") as file:
                    file.write(contents)
                self.assertEqual(self.contents("file:" + path), contents)
                with open(path, "rb") as file:
                    process = self.cove("cat", f"fd:{file.fileno()}", text=False, pass_fds=[file.fileno()])
                self.assertEqual(self.expect_bytes(process).stdout, contents)
                self.expect(self.cove("replace", "plain", path), DONE)
                self.assertEqual(self.contents("plain"), contents)

    def test_cat_of_system_v_memory_prints_its_bytes(self):
        for size in SIZES:
            name, number = self.system_v(size)
            contents = os.urandom(size)
            self.fill_system_v(number, contents)
            with self.subTest(size=size):
                self.assertEqual(self.contents(name), contents)
            with self.subTest(size=size, again=True):
                self.assertEqual(self.contents(name), contents, "looking changed it")

    def test_cat_of_a_large_region_is_whole(self):
        path = self.make_file("large", 100 * MIB)
        self.expect(self.cove("replace", "large", path), DONE, "created")
        with open(self.path("copy"), "wb") as copy:
            self.expect_bytes(self.cove("cat", "large", text=False, stdout=copy))
        subprocess.run(["cmp", path, self.path("copy")], check=True)

    def test_cat_of_an_empty_region_is_no_error(self):
        self.assertEqual(self.contents(self.put("empty", b"")), b"")
        open(self.path("empty"), "wb").close()
        self.assertEqual(self.contents("file:" + self.path("empty")), b"")
        self.expect(self.cove("cat", "posix:/empty", "--offset", "1"), FAILED)

    def test_cat_of_a_part_prints_that_part(self):
        contents = os.urandom(5 * PAGE + 100)
        name = self.put("x", contents)
        for offset, length in [(0, 1), (1, 1), (PAGE - 1, 2), (PAGE, PAGE), (PAGE + 1, 3 * PAGE), (5 * PAGE, 100),
                               (5 * PAGE + 99, 1), (7, 5 * PAGE + 93)]:
            with self.subTest(offset=offset, length=length):
                process = self.cove("cat", name, "--offset", str(offset), "--length", str(length), text=False)
                self.assertEqual(self.expect_bytes(process).stdout, contents[offset:offset + length])
        process = self.cove("cat", name, "--offset", "4K", text=False)
        self.assertEqual(self.expect_bytes(process).stdout, contents[4096:])
        process = self.cove("cat", name, "--offset", str(len(contents)), text=False)
        self.assertEqual(self.expect_bytes(process).stdout, b"")

    def test_cat_of_a_part_that_is_not_there_says_how_large_the_whole_is(self):
        name = self.put("x", b"x" * 5000)
        for words in [["--offset", "5001"], ["--length", "5001"], ["--offset", "4999", "--length", "2"],
                      ["--offset", "1T"], ["--offset", "1T", "--length", "1T"]]:
            with self.subTest(words=words):
                process = self.expect(self.cove("cat", name, *words), FAILED, "5000")
                self.assertEqual(process.stdout, "")
        for words in [["--offset", str(2 ** 63 - 1)], ["--offset", str(2 ** 63 - 1), "--length", str(2 ** 63 - 1)]]:
            with self.subTest(words=words):
                self.expect(self.cove("cat", name, *words), USE, "sizes end at")

    def test_cat_of_a_segment_prints_its_raw_bytes_and_takes_no_memory(self):
        self.expect(self.cove("write", "robot/backup", input="x" * 1000), DONE)
        path = os.path.join(self.directory, "robot.cove")
        with open(path, "rb") as file:
            raw = file.read()
        before = os.stat(path)
        self.assertLess(before.st_blocks * 512, before.st_size, "a segment without holes proves nothing here")
        self.assertEqual(self.contents("robot"), raw)
        self.assertEqual(os.stat(path).st_blocks, before.st_blocks)
        self.assertEqual(self.expect(self.cove("read", "robot/backup"), DONE).stdout, "x" * 1000)

    def test_cat_of_holes_prints_zeros_and_takes_no_memory(self):
        path = self.place("sparse")
        with open(path, "wb") as file:
            file.seek(3 * MIB)
            file.write(b"end of a hole")
            file.truncate(5 * MIB + 5)
        before = os.stat(path).st_blocks
        self.assertEqual(self.contents("posix:/sparse"), bytes(3 * MIB) + b"end of a hole" + bytes(2 * MIB + 5 - 13))
        self.assertEqual(os.stat(path).st_blocks, before)

    def test_cat_of_what_is_missing_is_status_4_and_asks_about_near_names(self):
        self.expect(self.cove("create", "robot", "--type", "region", "--size", "1"), DONE)
        self.expect(self.cove("cat", "robto"), NONAME, "did you mean robot\\?")
        for name in ["posix:/nothing", "file:" + self.path("nothing"), "file:/no/such/directory/x",
                     "sysv:0x7fedcba9", "nothing"]:
            with self.subTest(name=name):
                process = self.expect(self.cove("cat", name), NONAME)
                self.assertEqual(process.stdout, "")

    def test_cat_of_what_is_no_memory_is_refused_and_waits_for_nobody(self):
        os.mkdir(self.path("directory"))
        os.mkfifo(self.path("fifo"))
        os.symlink(self.make_file("file", 10), self.path("link"))
        for name in ["directory", "fifo", "link"]:
            with self.subTest(name=name):
                process = self.expect(self.cove("cat", "file:" + self.path(name)), FAILED)
                self.assertEqual(process.stdout, "")

    def test_cat_without_the_right_to_read_is_refused_and_with_it_any_owner_will_do(self):
        name = self.put("x", b"for everybody")
        os.chmod(self.directory, 0o755)
        os.chmod(self.place("x"), 0o644)
        self.assertEqual(self.as_nobody("cat", name).stdout, "for everybody")
        os.chmod(self.place("x"), 0o600)
        self.expect(self.as_nobody("cat", name), FAILED, "no right|denied")

    def cut_while_reading(self, size_bytes, left_bytes):
        """Returns what was printed of a region that was cut to `left_bytes` after its first page was on its way."""
        contents = os.urandom(size_bytes)
        name = self.put("cut", contents)
        process, first = self.small_pipe("cat", name)
        os.truncate(self.place("cut"), left_bytes)
        status, output, messages = self.finish(process)
        self.assertEqual(status, FAILED, messages)
        self.assertRegex(messages, r"^cove: posix:/cut: another process made it smaller[^\n]*\n$")
        return contents, first + output

    def test_cat_of_a_region_that_is_cut_meanwhile_says_so(self):
        for size, left in [(8 * MIB, 3 * MIB), (8 * MIB, PAGE), (8 * MIB, 0), (8 * MIB, 8 * MIB - 1)]:
            with self.subTest(size=size, left=left):
                contents, printed = self.cut_while_reading(size, left)
                self.assertTrue(printed.startswith(contents[:PAGE]))
                self.assertTrue(contents.startswith(printed[:min(left, len(printed))]))

    def test_cat_of_a_region_that_is_cut_inside_its_last_page_says_so(self):
        contents, printed = self.cut_while_reading(5 * PAGE, 4 * PAGE + 100)
        self.assertEqual(printed[:4 * PAGE + 100], contents[:4 * PAGE + 100])

    def test_cat_into_a_pipe_that_nobody_reads_ends_quietly_by_sigpipe(self):
        name = self.put("x", os.urandom(MIB))
        process, _ = self.small_pipe("cat", name)
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE_S), -signal.SIGPIPE)
        self.assertEqual(process.stderr.read(), b"")

    def test_cat_where_sigpipe_is_ignored_says_so(self):
        name = self.put("x", os.urandom(MIB))
        process, _ = self.small_pipe("cat", name, restore_signals=False)  # Python ignores it
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE_S), FAILED)
        self.assertRegex(process.stderr.read().decode(), "^cove: standard output: cannot write: Broken pipe\n$")

    def test_cat_into_what_takes_nothing_says_so(self):
        name = self.put("x", b"x" * 100)
        with open("/dev/full", "wb") as full:
            self.expect(self.cove("cat", name, stdout=full), FAILED, "standard output: cannot write: No space")
        process = subprocess.run(["sh", "-c", '"$0" cat posix:/x >&-', COVE], env=self.environment,
                                 stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
        self.assertEqual(process.returncode, FAILED)
        self.assertRegex(process.stderr, "^cove: standard output: cannot write: ")

    def test_cat_into_a_pipe_that_does_not_block_waits_for_room(self):
        contents = os.urandom(MIB)
        name = self.put("x", contents)
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        process = self.start("cat", name, stdout=write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            self.assertEqual(pipe.read(), contents)
        self.assertEqual(self.finish(process)[0], DONE)

    def test_cat_that_is_interrupted_ends_by_the_signal(self):
        name = self.put("x", os.urandom(MIB))
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            process, _ = self.small_pipe("cat", name)
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE_S), -number)


class Replace(Bytes):
    def test_replaced_bytes_are_exactly_those_of_the_input(self):
        for size in [0, *SIZES]:
            contents = os.urandom(size)
            path = self.path("input")
            with open(path, "wb") as file:
                file.write(contents)
            for name in ["plain", "posix:/x", "file:" + self.path("target")]:
                with self.subTest(size=size, name=name):
                    self.place("x")
                    self.assertEqual(self.cove("replace", name, path).returncode, DONE)
                    self.assertEqual(self.contents(name), contents)
                    self.assertEqual(self.cove("replace", name, input=contents[::-1], text=False).returncode, DONE)
                    self.assertEqual(self.contents(name), contents[::-1])
                    with open(path, "rb") as file:
                        self.assertEqual(self.cove("replace", name, "-", stdin=file).returncode, DONE)
                    self.assertEqual(self.contents(name), contents)

    def test_large_input_from_a_pipe_is_whole(self):
        path = self.make_file("large", 100 * MIB)
        cat = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
        self.processes.append(cat)
        self.expect(self.cove("replace", "large", stdin=cat.stdout), DONE, "created")
        subprocess.run(["cmp", path, os.path.join(self.directory, "large.cove")], check=True)

    def test_what_is_missing_is_made_unless_existing_is_asked_for(self):
        self.expect(self.cove("replace", "posix:/x", "--existing", input="new"), NONAME)
        self.assertEqual(os.listdir(self.directory), [])
        self.place("x")
        self.expect(self.cove("replace", "posix:/x", input="new"), DONE, "^cove: posix:/x: region created\n$")
        process = self.expect(self.cove("replace", "posix:/x", "--existing", input="newer"), DONE)
        self.assertEqual(process.stderr, "")
        self.assertEqual(self.contents("posix:/x"), b"newer")
        self.expect(self.cove("create", "robot", "--type", "region", "--size", "1"), DONE)
        self.expect(self.cove("replace", "robto", "-e", input="x"), NONAME, "did you mean robot\\?")

    def test_rights_are_those_of_the_old_unless_asked_for_whatever_the_umask(self):
        path = self.place("x")
        masked = {"umask": 0o777}
        self.expect(self.cove("replace", "posix:/x", input="1", **masked), DONE)
        self.assertEqual(os.stat(path).st_mode & 0o7777, 0o600)
        os.chmod(path, 0o640)
        self.expect(self.cove("replace", "posix:/x", input="2", **masked), DONE)
        self.assertEqual(os.stat(path).st_mode & 0o7777, 0o640)
        group = grp.getgrgid(os.getgid()).gr_name
        self.expect(self.cove("replace", "posix:/x", "--mode", "664", "--group", group, input="3", **masked), DONE)
        self.assertEqual(os.stat(path).st_mode & 0o7777, 0o664)
        self.assertEqual(os.stat(path).st_gid, os.getgid())
        process = self.cove("replace", "posix:/x", "--group", "no-such-group-" + str(os.getpid()), input="4")
        self.assertIn(process.returncode, [FAILED, USE])
        self.assert_message(process.stderr)
        self.assertEqual(self.contents("posix:/x"), b"3")

    def test_who_has_the_old_bytes_mapped_keeps_them(self):
        name = self.put("x", b"old" * PAGE)
        with open(self.place("x"), "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            self.expect(self.cove("replace", name, input="new"), DONE)
            self.assertEqual(mapped[:], b"old" * PAGE)
        self.assertEqual(self.contents(name), b"new")

    def test_input_that_cannot_be_read_leaves_the_old_bytes(self):
        name = self.put("x", b"old")
        directory = os.open(self.scratch, os.O_RDONLY)
        self.addCleanup(os.close, directory)
        memory = os.open("/proc/self/mem", os.O_RDONLY)
        self.addCleanup(os.close, memory)
        for words, stdin, message in [
            ([self.path("nothing")], None, "nothing: cannot read: No such file"),
            ([self.scratch], None, "cannot read: Is a directory; nothing was replaced"),
            ([], directory, "standard input: cannot read: Is a directory; nothing was replaced"),
            ([], memory, "standard input: cannot read: Input/output error; nothing was replaced"),
        ]:
            with self.subTest(words=words, message=message):
                self.expect(self.cove("replace", name, *words, stdin=stdin), FAILED, message)
                self.assertEqual(self.contents(name), b"old")
        process = subprocess.run(["sh", "-c", '"$0" replace posix:/x <&-', COVE], env=self.environment,
                                 stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
        self.assertEqual(process.returncode, FAILED)
        self.assertRegex(process.stderr, "^cove: standard input: cannot read: Bad file descriptor")
        self.assertEqual(self.contents(name), b"old")

    def test_input_larger_than_memory_is_refused_before_it_fills_it(self):
        name = self.put("x", b"old")
        path = self.path("huge")
        with open(path, "wb") as file:
            file.truncate(os.sysconf("SC_PHYS_PAGES") * PAGE)

        def limit():  # so that a mistake fills nobody's memory
            resource.setrlimit(resource.RLIMIT_AS, (512 * MIB, 512 * MIB))
        if SCALE > 1:
            self.skipTest("sanitizers need the address space")
        self.expect(self.cove("replace", name, path, preexec_fn=limit), FAILED, "larger than what can be replaced")
        self.assertEqual(self.contents(name), b"old")

    def test_what_cannot_be_replaced_says_so_and_stays(self):
        name, number = self.system_v(100)
        self.fill_system_v(number, b"old" + bytes(97))
        self.expect(self.cove("replace", name, input="new"), FAILED)
        self.assertEqual(self.contents(name), b"old" + bytes(97))
        self.expect(self.cove("replace", "memfd:", input="new"), FAILED)
        with open(self.make_file("file", 3), "r+b") as file:
            before = file.read()
            self.expect(self.cove("replace", f"fd:{file.fileno()}", input="new", pass_fds=[file.fileno()]), FAILED)
            file.seek(0)
            self.assertEqual(file.read(), before)
        self.expect(self.cove("write", "robot/backup", input="in the stream"), DONE)
        self.expect(self.cove("replace", "robot", input="new"), FAILED, "segment")
        self.assertEqual(self.expect(self.cove("read", "robot/backup"), DONE).stdout, "in the stream")

    def test_another_users_region_is_replaced_only_when_asked_to(self):
        if os.geteuid() != 0:
            self.skipTest("only root can make another user's region")
        name = self.put("x", b"old")
        os.chown(self.place("x"), NOBODY, NOBODY)
        self.expect(self.cove("replace", name, input="new"), FAILED, "belongs to user.*; say --any-owner")
        self.assertEqual(self.contents(name), b"old")
        self.expect(self.cove("replace", name, "--any-owner", input="new"), DONE)
        self.assertEqual(self.contents(name), b"new")

    def test_directory_that_cannot_be_written_to_leaves_the_old_bytes(self):
        name = self.put("x", b"old")
        os.chmod(self.place("x"), 0o644)
        os.chmod(self.directory, 0o555)
        self.addCleanup(os.chmod, self.directory, 0o755)
        run = self.as_nobody if os.geteuid() == 0 else self.cove
        for words in [["replace", name, "--any-owner"], ["replace", "posix:/y"], ["replace", "plain"],
                      ["create", "plain", "--type", "region", "--size", "1"]]:
            with self.subTest(words=words):
                self.expect(run(*words, input="new"), FAILED)
        self.assertEqual(run("cat", name).stdout, "old")
        self.assertEqual(os.listdir(self.directory), ["x"])

    def test_readers_meet_whole_versions_only(self):
        contents = [version(number, size) for number, size in
                    enumerate([33, PAGE, 3 * PAGE + 5, MIB, 64, 2 * MIB + 1, PAGE + 1])]
        self.put("x", contents[0])
        done = threading.Event()
        seen = [[] for _ in range(4)]

        def read(mine):
            while not done.is_set() or len(mine) < 3:
                process = self.cove("cat", "posix:/x", text=False)
                mine.append((process.returncode, process.stderr, is_whole(process.stdout), len(process.stdout)))

        readers = [threading.Thread(target=read, args=[mine]) for mine in seen]
        for reader in readers:
            reader.start()
        try:
            for number in range(60):
                process = self.cove("replace", "posix:/x", input=contents[number % len(contents)], text=False)
                self.assertEqual((process.returncode, process.stderr), (DONE, b""))
        finally:
            done.set()
            for reader in readers:
                reader.join()
        sizes = {len(each) for each in contents}
        for mine in seen:
            for returncode, stderr, whole, size in mine:
                self.assertEqual((returncode, stderr, whole), (DONE, b"", True))
                self.assertIn(size, sizes)
        self.assertGreater(len({size for mine in seen for _, _, _, size in mine}), 1, "nobody saw a change")

    def test_of_many_that_replace_at_once_one_is_whole(self):
        self.put("x", version(0, MIB))
        for round_number in range(3):
            paths = []
            for number in range(6):
                paths.append(self.path(f"version{number}"))
                with open(paths[-1], "wb") as file:
                    file.write(version(10 * round_number + number, MIB + number))
            for process in [self.start("replace", "posix:/x", path) for path in paths]:
                self.assertEqual(self.finish(process)[0], DONE)
            self.assertTrue(is_whole(self.contents("posix:/x")))


if __name__ == "__main__":
    main()
