# test_use.py - the command line: grammar, help, wrong use, manual pages.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import glob
import os
import re
import shutil
import subprocess
import unittest

from trial import COVE, DONE, NONAME, PATIENCE_S, SOURCE, TIMEOUT, USE, Trial, main

VERBS = ["write", "read", "lock", "signal", "wait", "count", "cat", "replace", "create", "ls", "stat", "rm", "gc", "doctor",
         "demo", "help", "version"]


class Use(Trial):
    def test_help_lists_every_verb(self):
        text = self.expect(self.cove("help"), DONE).stdout
        for verb in VERBS:
            self.assertRegex(text, rf"(?m)^  {verb} ")
        self.assertEqual(self.cove("--help").stdout, text)
        self.assertIn(self.directory, text)

    def test_help_of_each_verb_is_its_dash_dash_help(self):
        for verb in VERBS:
            text = self.expect(self.cove("help", verb), DONE).stdout
            self.assertTrue(text.startswith(f"cove {verb} - "))
            self.assertEqual(self.cove(verb, "--help").stdout, text)

    def test_help_names_explains_every_backend_on_one_screen(self):
        text = self.expect(self.cove("help", "names"), DONE).stdout
        for name in ["robot", "posix:/robot", "file:PATH", "sysv:0x5eed", "sysv:PATH:ID", "huge:robot", "hugetry:robot",
                     "fd:7", "memfd:", "robot/commands", "//commands", self.directory]:
            self.assertIn(name, text)
        self.assertLessEqual(len(text.splitlines()), 23)
        self.assertLess(max(len(line.replace(self.directory, "")) for line in text.splitlines()), 80)

    def test_no_words_is_wrong_use_and_says_how(self):
        process = self.cove()
        self.assertEqual(process.returncode, USE)
        self.assertIn("usage:", process.stderr)

    def test_version_names_the_library(self):
        text = self.expect(self.cove("version"), DONE).stdout
        self.assertRegex(text, r"^cove \d+\.\d+\.\d+, libcove \d+\.\d+\.\d+\n$")
        self.assertEqual(self.cove("--version").stdout, self.cove("version").stdout)

    def test_wrong_use_is_a_sentence_and_status_2(self):
        for words, message in [
            (["raed", "x/y"], "no such verb; did you mean read"),
            (["frobnicate"], "no such verb; 'cove help'"),
            (["help", "raed"], "did you mean read"),
            (["read"], "a name is missing; use: cove read"),
            (["read", "a/b", "c"], "one word too many"),
            (["read", "a/b", "--frob"], "--frob: there is no such option"),
            (["read", "a/b", "-z"], "-z: there is no such option"),
            (["read", "a/b", "--timeout"], "--timeout: this option wants a value"),
            (["read", "a/b", "--progress=3"], "takes no value"),
            (["read", "a/b", "--timeout", "3"], "'3' is not a time"),
            (["read", "a/b", "--timeout", "3 s"], "is not a time"),
            (["read", "a/b", "--timeout", "-3s"], "is not a time"),
            (["read", "a/b", "--timeout", "99999999999h"], "is not a time"),
            (["write", "a/b", "--capacity", "12Q"], "'12Q' is not a size"),
            (["write", "a/b", "--capacity", "-1"], "is not a size"),
            (["write", "a/b", "--capacity", "99999999T"], "is not a size"),
            (["write", "a/b", "--capacity", "0"], "is not a size"),
            (["read", "robot"], "a stream's name is SEGMENT/STREAM; say robot/NAME"),
            (["create", "a/b"], "of which type\\? say --type stream"),
            (["create", "a", "--type", "stream"], "SEGMENT/STREAM"),
            (["create", "a/b", "--type", "segment"], "holds no '/'"),
            (["create", "a", "--type", "frob"], "there is no type 'frob'; say segment, region, stream, mutex, .* or counter"),
            (["create", "a", "--type", "region"], "how large\\? say --size"),
            (["create", "a", "--type", "region", "--size", "0"], "'0' is not a size"),
            (["create", "a", "--type", "region", "--size", "4K", "--max-size", "8K"], "--max-size: it belongs to"),
            (["create", "a", "--type", "region", "--size", "4K", "--lifetime", "keep"], "--lifetime: it belongs to"),
            (["create", "a", "--type", "region", "--size", "4K", "--capacity", "4K"], "--capacity: it belongs to"),
            (["create", "posix:/a//b", "--type", "region", "--size", "4K"], "a region holds no objects"),
            (["create", "memfd:", "--type", "region", "--size", "4K"], "no name by which others could find it"),
            (["create", "memfd:"], "no name by which others could find it"),
            (["cat"], "a name is missing; use: cove cat NAME"),
            (["cat", "a", "b"], "b: one word too many"),
            (["cat", "a/b"], "cat prints a whole region or segment; say a, or"),
            (["cat", "a", "--offset", "-1"], "'-1' is not an offset"),
            (["cat", "a", "--offset", "x"], "'x' is not an offset"),
            (["cat", "a", "--length", "0"], "'0' is not a size"),
            (["cat", "a", "--length", "99999999T"], "is not a size"),
            (["cat", "/dev/shm/a"], "does not begin with '/'; a file is file:PATH"),
            (["replace"], "a name is missing; use: cove replace NAME"),
            (["replace", "a", "b", "c"], "c: one word too many"),
            (["replace", "a/b"], "a region that is replaced, not an object"),
            (["replace", "a", "--mode", "888"], "is not a mode"),
            (["replace", "a", "--size", "3"], "--size: there is no such option"),
            (["create", "a", "--mode", "9"], "is not a mode"),
            (["create", "a", "--mode", "rw"], "is not a mode"),
            (["create", "a", "--lifetime", "long"], "no lifetime"),
            (["create", "a", "--capacity", "64K"], "belongs to --type stream"),
            (["gc", "robot"], "one word too many"),
        ]:
            with self.subTest(words=words):
                self.expect(self.cove(*words), USE, message)
        self.assertEqual(os.listdir(self.directory), [], "wrong use created something")

    def test_impossible_capacity_is_refused_and_leaves_no_stream(self):
        process = self.cove("write", "a/b", "--capacity", "5000")
        self.assertIn(process.returncode, (1, 2), process.stderr)
        self.assert_message(process.stderr)
        self.assertEqual(self.cove("stat", "a/b").returncode, NONAME)

    def test_names_with_odd_characters_are_refused_in_one_clean_line(self):
        for name in ["", ".hidden", "-x", "a b", "a\nb", "\x1b[2Jx", "ü", "x" * 201, "x" * 5000, "a//b", "a/",
                     "/a", "a/b/", "\udcff\udcfe", "a/" + "y" * 300]:
            words = ["stat", "--", name] if name.startswith("-") else ["stat", name]
            with self.subTest(name=name):
                process = self.expect(self.cove(*words), USE)
                self.assertEqual(process.stdout, "")
                self.assertEqual(len(process.stderr.splitlines()), 1)
        for name in ["a b/c", "a/b\x1b[2J", "../a/b", "a//b", "/", "a/", "/b"]:
            with self.subTest(name=name):
                self.expect(self.cove("write", name), USE)
        self.assertEqual(os.listdir(self.directory), [])

    def test_missing_name_is_status_4_and_near_names_are_asked_about(self):
        self.expect(self.cove("create", "robot/backup", "--type", "stream"), DONE)
        for words in [["stat", "robit"], ["rm", "robto"], ["doctor", "robt"], ["ls", "Robot"]]:
            with self.subTest(words=words):
                self.expect(self.cove(*words), NONAME, "did you mean robot\\?")
        for words in [["stat", "robot/bakcup"], ["stat", "robt/backup"], ["rm", "robot/backupp"],
                      ["read", "robot/bakup", "--existing"]]:
            with self.subTest(words=words):
                self.expect(self.cove(*words), NONAME, "did you mean robot/backup\\?")
        process = self.expect(self.cove("stat", "elsewhere"), NONAME)
        self.assertNotIn("did you mean", process.stderr)

    def test_created_name_that_is_nearly_anothers_is_asked_about(self):
        self.cove("write", "robot/backup", input="x")
        self.expect(self.cove("write", "robot/bakup", input="x"), DONE, "created; did you mean robot/backup\\?")
        self.cove("write", "robot/camera1", input="x")
        process = self.expect(self.cove("write", "robot/camera2", input="x"), DONE, "created")
        self.assertNotIn("did you mean", process.stderr)

    def test_timeouts_end_with_status_3(self):
        for word in ["0", "50ms", "0.05s", "100us"]:
            with self.subTest(word=word):
                self.expect(self.cove("read", "a/b", "--timeout", word), TIMEOUT)


class Completion(Trial):
    def complete(self, *words):
        script = '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cove; printf "%s\\n" "${COMPREPLY[@]}"'
        environment = dict(self.environment, PATH=os.path.dirname(COVE) + ":" + os.environ["PATH"])
        process = subprocess.run(
            ["bash", "-c", script, os.path.join(SOURCE, "tools/cove/completions/cove.bash"), *words],
            env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(process.stderr, "")
        return process.stdout.split()

    def test_verbs_options_and_names_are_completed(self):
        path = self.make_file("contents", 10)
        self.expect(self.cove("create", "robot/backup", "--type", "stream"), DONE)
        self.assertEqual(self.complete("cove", "wr"), ["write"])
        self.assertEqual(set(self.complete("cove", "")) - {"--help", "--version"}, set(VERBS))
        self.assertEqual(self.complete("cove", "write", "--ca"), ["--capacity"])
        self.assertEqual(self.complete("cove", "stat", "ro"), ["robot"])
        self.assertEqual(self.complete("cove", "read", "ro"), ["robot/"])
        self.assertEqual(self.complete("cove", "read", "robot/b"), ["robot/backup"])
        self.assertEqual(self.complete("cove", "create", "x", "--lifetime", "l"), ["last-out"])
        self.assertEqual(self.complete("cove", "create", "x", "--type", "r"), ["region", "rwlock"])
        self.expect(self.cove("create", "robot/ready", "--type", "event"), DONE)
        self.assertEqual(self.complete("cove", "signal", "ro"), ["robot/"])
        self.assertEqual(self.complete("cove", "wait", "robot/r"), ["robot/ready"])
        self.assertEqual(self.complete("cove", "wait", "--ch"), ["--change-from"])
        self.assertEqual(self.complete("cove", "lock", "robot/b"), ["robot/backup"])
        self.assertEqual(self.complete("cove", "lock", "robot/arm", "--", "expand", path[:-2]), [path])
        self.assertEqual(self.complete("cove", "lock", "robot/arm", "--", "mkfif"), ["mkfifo"])
        self.assertEqual(self.complete("cove", "replace", "--ex"), ["--existing"])
        self.assertEqual(self.complete("cove", "cat", "ro"), ["robot"])
        self.assertEqual(self.complete("cove", "cat", "pos"), ["posix:"])
        self.assertEqual(self.complete("cove", "help", "na"), ["names"])

    def test_names_with_colons_are_completed_by_their_last_piece(self):
        path = self.make_file("contents", 10)
        self.foreign_files.add("frame")
        self.expect(self.cove("replace", "posix:/frame", path), DONE)
        self.assertEqual(self.complete("cove", "cat", "posix", ":", "/fr"), ["/frame"])
        self.assertEqual(self.complete("cove", "cat", "file", ":", path[:-2]), [path])
        self.assertEqual(self.complete("cove", "replace", "posix", ":", "/frame", path[:-2]), [path])
        self.assertEqual(self.complete("cove", "replace", "file", ":", path, "--mo"), ["--mode"])


class Manual(unittest.TestCase):
    def page(self, name):
        with open(os.path.join(SOURCE, "man", name + ".1"), encoding="utf-8") as file:
            return file.read()

    def test_every_verb_and_every_option_is_in_the_manual(self):
        trial = Use("test_help_lists_every_verb")
        trial.setUp()
        self.addCleanup(trial.doCleanups)
        overview = self.page("cove")
        for verb in VERBS:
            self.assertIn(f".It Cm {verb}\n", overview)
            if verb in ("help", "version"):
                continue
            page = self.page("cove-" + verb)
            for option in re.findall(r"--([a-z-]+)", trial.cove("help", verb).stdout.split("\n\n")[2]):
                self.assertIn(f"Fl -{option}", page, f"--{option} of cove {verb}")

    @unittest.skipUnless(shutil.which("mandoc"), "no mandoc here")
    def test_pages_are_well_formed(self):
        for path in glob.glob(os.path.join(SOURCE, "man", "cove*.1")):
            lint = subprocess.run(["mandoc", "-Tlint", "-W", "warning", path], capture_output=True, text=True)
            self.assertEqual(lint.stdout + lint.stderr, "")


if __name__ == "__main__":
    main()
