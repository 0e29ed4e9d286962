# test_look.py - create, ls, stat, rm, gc and doctor: what they show, refuse and mend.
# SPDX-License-Identifier: Apache-2.0 OR MIT

import json
import os
import shutil
import signal
import subprocess
import unittest

from trial import COVE, DONE, FAILED, NONAME, PATIENCE_S, USE, Trial, main


class Create(Trial):
    def test_segment_takes_size_mode_and_limits(self):
        self.expect(self.cove("create", "robot", "--size", "2M", "--max-size=64M", "--mode", "640"), DONE)
        info = self.lines_of_json("stat", "robot")[0]
        self.assertEqual((info["mode"], info["lifetime"]), (0o640, "keep"))
        self.assertIn(info["max_size_bytes"] >> 20, range(64, 96))  # what is asked for, and what the roster takes
        self.assertGreaterEqual(info["heap_bytes"], 2 << 20)
        self.assertEqual(os.stat(self.directory + "/robot.cove").st_mode & 0o777, 0o640)

    def test_existing_name_is_refused(self):
        self.expect(self.cove("create", "robot"), DONE)
        self.expect(self.cove("create", "robot"), FAILED)
        self.expect(self.cove("create", "robot/a", "--type", "stream"), DONE)
        self.expect(self.cove("create", "robot/a", "--type", "stream"), FAILED)

    def test_stream_takes_its_capacity(self):
        self.expect(self.cove("create", "robot/a", "--type", "stream", "--capacity", "64K"), DONE)
        self.assertEqual(self.stream_figures("robot/a")["capacity"], 65536)

    def test_created_stream_has_not_ended(self):
        self.expect(self.cove("create", "robot/a", "--type", "stream"), DONE)
        reader = self.start("read", "robot/a")
        self.expect(self.cove("write", "robot/a", input="text"), DONE)
        self.assertEqual(self.finish(reader)[:2], (DONE, b"text"))

    def test_stream_that_cannot_be_made_leaves_no_segment(self):
        process = self.cove("create", "robot/a", "--type", "stream", "--capacity", "5000")
        self.assertIn(process.returncode, (FAILED, USE))
        self.assert_message(process.stderr)
        self.assertEqual(os.listdir(self.directory), [])

    def test_options_that_an_existing_segment_cannot_take_are_not_dropped(self):
        self.expect(self.cove("create", "robot"), DONE)
        self.expect(self.cove("create", "robot/a", "--type", "stream", "--mode", "660"), USE, "is there already")
        self.expect(self.cove("stat", "robot/a"), NONAME)

    def test_unknown_group_is_refused_and_leaves_nothing(self):
        process = self.cove("create", "robot", "--group", "no-such-group")
        self.assertIn(process.returncode, (FAILED, USE, NONAME))
        self.assert_message(process.stderr)
        self.assertIn("no-such-group", process.stderr)
        self.assertEqual(os.listdir(self.directory), [])

    def test_last_out_lives_as_long_as_the_command(self):
        holder = self.start("create", "robot", "--lifetime", "last-out")
        self.wait_for_members("robot", 1)
        holder.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(holder)[0], DONE)
        self.expect(self.cove("stat", "robot"), NONAME)


class Look(Trial):
    def own_rows(self, *options):
        """Of the segments and regions in this test's directory: plain names. The rest of the machine is others'."""
        return {line["name"]: line for line in self.lines_of_json("ls", *options) if ":" not in line["name"]}

    def test_empty_directory_has_no_rows(self):
        self.assertEqual(self.own_rows(), {})

    def test_ls_shows_columns_that_stand_under_their_heads(self):
        self.expect(self.cove("create", "robot", "--mode", "660"), DONE)
        self.expect(self.cove("write", "a-much-longer-name/stream", input="text"), DONE)
        lines = self.expect(self.cove("ls"), DONE).stdout.splitlines()
        self.assertEqual(lines[0].split(), "NAME TYPE SIZE HOLDS MODE OWNER USED BY".split())
        own = [line for line in lines[1:] if line.split()[0] in ("robot", "a-much-longer-name")]
        self.assertEqual([line.split()[0] for line in own], ["a-much-longer-name", "robot"])
        for line in own:
            at = lines[0].index("MODE")
            self.assertRegex(line[at:at + 4], "^0[0-7]{3}$")
            self.assertEqual(line[lines[0].index("USED BY"):], "nobody")
            self.assertEqual(line, line.rstrip())
        at = lines[0].index("HOLDS")
        self.assertEqual([line[at:at + 9] for line in own], ["1 object ", "0 objects"])

    def test_broken_files_are_listed_with_their_state(self):
        self.expect(self.cove("create", "whole"), DONE)
        with open(self.directory + "/whole.cove", "rb") as file:
            whole = file.read()
        with open(self.directory + "/noise.cove", "wb") as file:
            file.write(os.urandom(100000))
        with open(self.directory + "/short.cove", "wb") as file:
            file.write(whole[:10000])
        with open(self.directory + "/empty.cove", "wb"):
            pass
        os.mkdir(self.directory + "/place.cove")
        rows = self.own_rows()
        self.assertEqual({name: (row["kind"], row["state"]) for name, row in rows.items() if name != "place"},
                         {"whole": ("segment", "ready"), "short": ("segment", "corrupt"), "noise": ("region", "ready"),
                          "empty": ("region", "ready")})
        self.assertEqual(rows["short"]["error"], "COVE_ECORRUPT")
        if "place" in rows:  # a directory is no name of anything, and takes one
            self.assertEqual(rows["place"]["state"], "not a file")
        text = self.expect(self.cove("ls"), DONE).stdout
        self.assertRegex(text, r"(?m)^short +segment +9\.8 KiB +corrupt ")
        self.assertRegex(text, r"(?m)^empty +region +0 B +empty ")
        self.expect(self.cove("stat", "short"), FAILED)
        os.rmdir(self.directory + "/place.cove")

    def test_ls_of_a_segment_lists_its_objects(self):
        self.expect(self.cove("write", "robot/a", input="seventeen letters"), DONE)
        self.expect(self.cove("create", "robot/b", "--type", "stream", "--capacity", "4K"), DONE)
        lines = {line["name"]: line for line in self.lines_of_json("ls", "robot")}
        self.assertEqual(set(lines), {"robot/a", "robot/b"})
        self.assertEqual(lines["robot/a"]["type"], "stream")
        self.assertEqual(lines["robot/a"]["figures"]["unread"], 17)
        self.assertRegex(self.cove("ls", "robot").stdout, r"(?m)^NAME +TYPE +SIZE +FIGURES\nrobot/a +stream ")

    def test_stat_shows_the_member_that_is_there(self):
        reader = self.start("read", "robot/a")
        self.wait_for_members("robot", 1)
        lines = self.lines_of_json("stat", "robot")
        member = [line for line in lines if line["kind"] == "member"][0]
        self.assertEqual((member["pid"], member["alive"], member["command"]), (reader.pid, True, "cove"))
        self.assertRegex(self.cove("stat", "robot").stdout, rf"(?m)^ +\d+ +{reader.pid} +cove ")

    def test_a_full_disk_behind_the_output_is_told(self):
        self.expect(self.cove("create", "robot"), DONE)
        for words in (["ls"], ["stat", "robot"], ["doctor", "robot"], ["help"]):
            with open("/dev/full", "wb") as full:
                self.expect(self.cove(*words, stdout=full), FAILED, "what was printed is not whole")

    def test_json_is_clean_whatever_a_member_calls_itself(self):
        odd = os.path.join(self.scratch, "a\x1b[2J\xff\n\"b")
        shutil.copy(COVE, odd.encode("latin-1"))
        environment = dict(self.environment)
        library = os.path.dirname(os.path.realpath(COVE))
        environment["LD_LIBRARY_PATH"] = library
        reader = subprocess.Popen([odd.encode("latin-1"), "read", "robot/a"], env=environment,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(reader)
        self.wait_for_members("robot", 1)
        self.lines_of_json("stat", "robot")
        for line in self.cove("stat", "robot").stdout.splitlines():
            self.assertTrue(line.isprintable(), ascii(line))


@unittest.skipUnless(os.geteuid() == 0, "only root can give a file away")
class Others(Trial):
    def test_anothers_segment_is_looked_at_and_used_only_when_asked_for(self):
        self.expect(self.cove("write", "robot/a", input="text"), DONE)
        os.chown(self.directory + "/robot.cove", 65534, -1)
        rows = {line["name"]: line for line in self.lines_of_json("ls")}
        self.assertEqual(rows["robot"]["owner_uid"], 65534)
        self.expect(self.cove("stat", "robot"), DONE)
        self.expect(self.cove("read", "robot/a"), FAILED, "belongs to user 65534.*; say --any-owner")
        self.expect(self.cove("rm", "robot"), FAILED, "; its owner can remove it")
        self.expect(self.cove("rm", "robot/a"), FAILED, "; its owner can remove it")
        self.assertEqual(self.expect(self.cove("read", "robot/a", "--any-owner"), DONE).stdout, "text")
        rows = {line["name"]: line for line in self.lines_of_json("ls")}
        self.assertEqual(rows["robot"]["members_dead"], 0)
        self.expect(self.cove("read", "robit/a", "--any-owner", "--existing"), NONAME)


class Remove(Trial):
    def test_rm_removes_segments_and_objects(self):
        self.expect(self.cove("write", "robot/a", input="x"), DONE)
        self.expect(self.cove("rm", "robot/a"), DONE)
        self.expect(self.cove("stat", "robot/a"), NONAME)
        self.expect(self.cove("rm", "robot/a"), NONAME)
        self.expect(self.cove("rm", "robot"), DONE)
        self.expect(self.cove("rm", "robot"), NONAME)
        self.assertEqual(os.listdir(self.directory), [])

    def test_what_is_in_use_wants_force(self):
        reader = self.start("read", "robot/a")
        self.wait_for_members("robot", 1)
        self.expect(self.cove("rm", "robot"), FAILED, "force")
        self.expect(self.cove("rm", "--force", "robot/a"), FAILED, "have it let go there")
        self.assertIsNone(reader.poll())
        self.expect(self.cove("rm", "--force", "robot"), DONE)
        self.assertEqual(os.listdir(self.directory), [])
        reader.send_signal(signal.SIGINT)
        self.finish(reader)

    def test_the_rest_is_removed_when_one_is_missing(self):
        self.expect(self.cove("create", "aaa"), DONE)
        self.expect(self.cove("create", "ccc"), DONE)
        self.expect(self.cove("rm", "aaa", "bbbbbb", "ccc"), NONAME, "bbbbbb")
        self.assertEqual(os.listdir(self.directory), [])


class Mend(Trial):
    def doctor(self, *words):
        process = self.cove("doctor", "--json", *words)
        self.assertIn(process.returncode, (DONE, FAILED), process.stderr)
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        found = [line for line in lines if line["level"] == "finding"]
        self.assertEqual(process.returncode, FAILED if found else DONE)
        return found

    def kill_a_member(self, name):
        reader = self.start("read", name)
        self.wait_for_members(name.split("/")[0], 1)
        self.wait_until(lambda: self.cove("stat", name).returncode == DONE, f"{name} is there")
        reader.kill()
        reader.wait()

    def test_sound_segments_have_no_findings(self):
        self.expect(self.cove("write", "robot/a", input="text"), DONE)
        process = self.expect(self.cove("doctor", "robot"), DONE)
        self.assertRegex(process.stdout, r"ok +robot: sound")
        self.assertTrue(process.stdout.endswith("0 findings\n"))

    def test_working_members_are_no_findings(self):
        writer = self.start("write", "robot/a", "/dev/zero")
        reader = self.start("read", "robot/a", stdout=subprocess.DEVNULL)
        self.wait_for_members("robot", 2)
        for _ in range(20):
            self.assertEqual(self.doctor("robot"), [])
        self.assertIsNone(writer.poll())
        self.assertIsNone(reader.poll())

    def test_dead_member_is_found_and_gc_mends_it(self):
        self.kill_a_member("robot/a")
        found = self.doctor("robot")
        self.assertEqual([line["mend"] for line in found], ["cove gc"])
        before = self.expect(self.cove("gc", "--dry-run"), DONE).stdout
        self.assertIn("robot", before)
        self.assertEqual(len(self.doctor("robot")), 1, "a dry run changed something")
        self.assertIn("robot", self.expect(self.cove("gc"), DONE).stdout)
        self.assertEqual(self.doctor("robot"), [])
        self.assertRegex(self.expect(self.cove("gc"), DONE).stdout, "nothing to clear up")
        self.expect(self.cove("stat", "robot/a"), DONE)

    def test_dead_last_out_segment_goes(self):
        holder = self.start("create", "robot", "--lifetime", "last-out")
        self.wait_for_members("robot", 1)
        holder.kill()
        holder.wait()
        self.assertNotEqual(self.doctor(), [])
        self.expect(self.cove("gc", "--json"), DONE)
        self.assertEqual(os.listdir(self.directory), [])

    def test_damage_is_found_and_the_mending_command_works(self):
        self.expect(self.cove("write", "robot/a", input="text"), DONE)
        path = self.directory + "/robot.cove"
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(size // 2)
            file.write(os.urandom(size - size // 2))
        found = self.doctor("robot")
        self.assertNotEqual(found, [])
        mend = [line["mend"] for line in found if "mend" in line][-1].split("   ")[0]
        words = mend.split()
        subprocess.run([COVE if words[0] == "cove" else words[0], *words[1:]], env=self.environment, check=True,
                       timeout=PATIENCE_S)
        self.assertEqual(os.listdir(self.directory), [])

    def test_a_file_that_is_neither_segment_nor_region_is_found(self):
        with open(self.directory + "/empty.cove", "wb"):
            pass
        self.assertIn("empty", [line["about"] for line in self.doctor()])
        self.assertEqual([line["mend"].split("   ")[0] for line in self.doctor("empty")],
                         [f"rm {self.directory}/empty.cove"])

    def test_a_region_has_nothing_to_be_checked(self):
        with open(self.directory + "/raw.cove", "wb") as file:
            file.write(b"not a segment" * 1000)
        self.assertEqual(self.doctor("raw"), [])
        self.assertRegex(self.cove("doctor", "raw").stdout, r"ok +raw: a region of 12\.7 KiB")

    def test_missing_segment_is_status_4(self):
        self.expect(self.cove("doctor", "nowhere"), NONAME)

    def test_directory_that_is_missing_or_open_to_all_is_found(self):
        os.chmod(self.directory, 0o777)
        found = self.doctor()
        self.assertEqual([line["mend"] for line in found], [f"sudo chmod 1777 {self.directory}"])
        os.chmod(self.directory, 0o700)
        self.environment["COVE_DIR"] = self.directory + "/none"
        process = self.cove("doctor")
        self.assertNotEqual(process.returncode, DONE)
        self.assertIn("mkdir", process.stdout)

    def test_limits_are_found(self):
        process = subprocess.run(["sh", "-c", 'ulimit -f 1000; ulimit -v 4000000; exec "$0" doctor', COVE],
                                 env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S)
        if "AddressSanitizer" in process.stderr or "ThreadSanitizer" in process.stderr:
            self.skipTest("a sanitizer needs more address space")
        self.assertIn("RLIMIT_FSIZE", process.stdout)
        self.assertIn("RLIMIT_AS", process.stdout)
        self.assertEqual(process.returncode, FAILED)


def can_mount():
    return subprocess.run(["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "none", "/mnt"],
                          capture_output=True).returncode == 0


@unittest.skipUnless(shutil.which("unshare") and can_mount(), "no mounts of our own here")
class SmallMachine(Trial):
    def in_small_directory(self, size, script):
        """Run a script with a COVE_DIR that holds so much; the mount ends with the namespace."""
        return subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c",
             f'mount -t tmpfs -o size={size},mode=700 none "$COVE_DIR" && {script}', COVE],
            env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)

    def test_full_directory_is_a_sentence_with_figures(self):
        process = self.in_small_directory("1M", '"$0" create robot --size 8M; echo $?; ls "$COVE_DIR"')
        self.assertEqual(process.stdout, "1\n", process.stderr)
        self.assert_message(process.stderr)
        self.assertRegex(process.stderr, r"\d")
        self.assertRegex(process.stderr, "free|space")

    def test_doctor_finds_a_small_directory(self):
        process = self.in_small_directory("32M", '"$0" doctor')
        self.assertEqual(process.returncode, FAILED, process.stderr)
        self.assertIn("holds only 32 MiB in all", process.stdout)


if __name__ == "__main__":
    main()
