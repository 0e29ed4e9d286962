# test_machine_doctor.py - what the doctor says of a machine: its limits, mounts, control groups and processes.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Each trap is set in namespaces of the test's own: limits of the process, mounts over the files that the doctor reads,
# an IPC namespace with settings of its own. The machine itself is not touched.

import json
import os
import shutil
import subprocess
import unittest

from trial import COVE, DONE, FAILED, PATIENCE_S, Trial, main


# An ordinary user may be root in a user namespace, where the machine allows it.
UNSHARE = ["unshare"] if os.geteuid() == 0 else ["unshare", "--map-root-user"]


def can(*options):
    return bool(shutil.which("unshare")) and subprocess.run(
        [*UNSHARE, *options, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0


class Doctor(Trial):
    def doctor(self, setting="true", options=("--mount", "--ipc"), prefix='"$0"', **environment):
        """What the doctor says after the shell's `setting`: by what it is about, [(level, text, mend)]."""
        script = f'set -e; d="$1"; {setting}; exec {prefix} doctor --json'
        process = subprocess.run([*UNSHARE, *options, "sh", "-c", script, COVE, self.scratch], capture_output=True,
                                 text=True, env=dict(self.environment, **environment), timeout=PATIENCE_S)
        if "Sanitizer" in process.stderr:
            self.skipTest("not with a sanitizer")
        self.assertIn(process.returncode, (DONE, FAILED), process.stderr)
        said = {}
        for line in map(json.loads, process.stdout.splitlines()):
            said.setdefault(line["about"], []).append((line["level"], line["text"], line.get("mend", "")))
        found = [entry for entries in said.values() for entry in entries if entry[0] == "finding"]
        self.assertEqual(process.returncode, FAILED if found else DONE, said)
        for level, text, mend in found:
            self.assertTrue(mend, f"a finding without a command that mends it: {text}")
        return said

    def assert_said(self, said, about, level, text, mend=""):
        for entry in said.get(about, []):
            if entry[0] == level and text in entry[1] and mend in entry[2]:
                return
        self.fail(f"no {level} '{text}' ({mend}) about {about}: {said}")

    def file(self, name, text):
        path = self.path(name)
        with open(path, "w") as file:
            file.write(text)
        return path


@unittest.skipUnless(can("--mount", "--ipc"), "no namespaces of our own here")
class Kernel(Doctor):
    def test_system_v_limits_that_are_reached_are_found(self):
        said = self.doctor("echo 1 > /proc/sys/kernel/shmmni; ipcmk -M 4096 > $d/made")
        self.assert_said(said, "System V", "finding", "all 1 segments are taken", "kernel.shmmni=")
        said = self.doctor("echo 2 > /proc/sys/kernel/msgmni; ipcmk -Q > $d/made; ipcmk -Q >> $d/made")
        self.assert_said(said, "System V", "finding", "all 2 message queues are taken", "kernel.msgmni=")
        said = self.doctor("echo '250 32000 32 1' > /proc/sys/kernel/sem; ipcmk -S 2 > $d/made")
        self.assert_said(said, "System V", "finding", "all 1 sets of semaphores are taken", "kernel.sem=")

    def test_small_system_v_limits_are_found(self):
        said = self.doctor("echo 33554432 > /proc/sys/kernel/shmmax; echo 100 > /proc/sys/kernel/shmall")
        self.assert_said(said, "System V", "finding", "at most 32 MiB (kernel.shmmax)", "kernel.shmmax=")
        self.assert_said(said, "System V", "finding", "are left of what all segments may have together",
                         "kernel.shmall=")

    def test_segments_that_go_unasked_are_noted(self):
        said = self.doctor("echo 1 > /proc/sys/kernel/shm_rmid_forced")
        self.assert_said(said, "System V", "note", "go with their last user", "kernel.shm_rmid_forced=0")
        self.assertNotIn("shm_rmid_forced", str(self.doctor()))

    def test_queues_that_are_all_taken_are_found(self):
        said = self.doctor("echo 1 > /proc/sys/fs/mqueue/queues_max; mkdir $d/q; mount -t mqueue none $d/q; "
                           "touch $d/q/jobs")
        self.assert_said(said, "POSIX queues", "finding", "all 1 queues are taken", "fs.mqueue.queues_max=")
        self.assertNotIn("not mounted", str(said["POSIX queues"]))

    def test_queues_that_are_not_mounted_are_noted_with_the_command(self):
        said = self.doctor("while umount -t mqueue -a 2>$d/none && grep -q ' mqueue ' /proc/self/mounts; do :; done")
        self.assert_said(said, "POSIX queues", "note", "file system is not mounted", "mount -t mqueue none /dev/mqueue")

    def test_few_messages_a_queue_are_noted(self):
        said = self.doctor("echo 3 > /proc/sys/fs/mqueue/msg_default; echo 3 > /proc/sys/fs/mqueue/msg_max")
        self.assert_said(said, "POSIX queues", "note", "one holds at most 3 messages", "fs.mqueue.msg_max=")

    def memory(self, total, unused):
        return self.file("meminfo", f"MemTotal: 1 kB\nHugePages_Total: {total}\nHugePages_Free: {unused}\n"
                                    "Hugepagesize: 2048 kB\n")

    def test_huge_pages_missing_taken_and_free(self):
        none = f"mount --bind {self.memory(0, 0)} /proc/meminfo"
        over = f"mount --bind {self.file('zero', '0')} /proc/sys/vm/nr_overcommit_hugepages; "
        said = self.doctor(over + none)
        self.assert_said(said, "huge pages", "note", "none are reserved", "vm.nr_hugepages=64")
        said = self.doctor(over + f"mount --bind {self.memory(10, 0)} /proc/meminfo")
        self.assert_said(said, "huge pages", "note", "all 10 are taken", "vm.nr_hugepages=74")
        said = self.doctor(over + f"mount --bind {self.memory(10, 4)} /proc/meminfo")
        self.assert_said(said, "huge pages", "ok", "10 of 2 MiB, 4 of them free")

    def test_huge_pages_without_their_file_system_are_noted(self):
        said = self.doctor("while umount -t hugetlbfs -a 2>$d/none && grep -q ' hugetlbfs ' /proc/self/mounts; do :; done")
        self.assert_said(said, "huge pages", "note", "not mounted", "mount -t hugetlbfs")


class Limits(Doctor):
    """Limits of a process need no namespace, only a shell."""

    def doctor(self, setting, **_):
        process = subprocess.run(["bash", "-c", f'{setting}; exec "$0" doctor --json', COVE], capture_output=True,
                                 text=True, env=self.environment, timeout=PATIENCE_S)
        if "Sanitizer" in process.stderr:
            self.skipTest("not with a sanitizer")
        said = {}
        for line in map(json.loads, process.stdout.splitlines()):
            said.setdefault(line["about"], []).append((line["level"], line["text"], line.get("mend", "")))
        return said

    def test_queue_bytes_are_found(self):
        self.assert_said(self.doctor("ulimit -q 20000"), "POSIX queues", "finding", "RLIMIT_MSGQUEUE", "ulimit -q")

    def test_descriptors_files_and_address_space_are_found(self):
        said = self.doctor("ulimit -n 20; ulimit -f 1000; ulimit -v 8000000")
        self.assert_said(said, "open files", "finding", "limited to 20", "ulimit -n")
        self.assert_said(said, "file size", "finding", "RLIMIT_FSIZE", "ulimit -f unlimited")
        self.assert_said(said, "address space", "finding", "RLIMIT_AS", "ulimit -v unlimited")

    @unittest.skipIf(os.geteuid() == 0, "root may lock as much as it likes")
    def test_locked_memory_is_noted(self):
        self.assert_said(self.doctor("ulimit -l 64"), "locked memory", "note", "RLIMIT_MEMLOCK", "ulimit -l")


@unittest.skipUnless(can("--mount", "--ipc"), "no namespaces of our own here")
class Directories(Doctor):
    def test_missing_sticky_bit_of_libcs_directory_is_found_wherever_ours_is(self):
        said = self.doctor("mount -t tmpfs -o mode=777 none /dev/shm", COVE_DIR=self.scratch)
        self.assert_said(said, "/dev/shm", "finding", "no sticky bit", "chmod 1777 /dev/shm")

    def test_directory_that_is_mounted_read_only_is_found(self):
        said = self.doctor('mount -t tmpfs -o ro,mode=1777 none "$COVE_DIR"')
        self.assert_said(said, self.directory, "finding", "mounted read-only", "mount -o remount,rw")

    def test_sound_directories_are_none(self):
        said = self.doctor("mount -t tmpfs -o mode=1777,size=1G none /dev/shm", COVE_DIR="/dev/shm")
        self.assertEqual([entry[0] for entry in said["/dev/shm"]], ["ok"])


@unittest.skipUnless(can("--mount", "--ipc"), "no namespaces of our own here")
class ControlGroups(Doctor):
    """The files of control groups are ours, mounted over the machine's; which group this is stands in /proc."""

    def groups(self, lines, files):
        tree = self.path("groups")
        for name, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
            with open(os.path.join(tree, name), "w") as file:
                file.write(text)
        cgroup = self.file("cgroup", lines)
        return self.doctor(f"mount --bind {tree} /sys/fs/cgroup; mount --bind {cgroup} /proc/$$/cgroup")

    def test_version_2_that_is_nearly_full_is_found(self):
        said = self.groups("0::/app/robot\n", {
            "app/robot/memory.max": "max\n", "app/robot/memory.current": "1000\n",
            "app/robot/memory.events": "low 0\noom 3\noom_kill 2\n",
            "app/memory.max": "134217728\n", "app/memory.current": "100000000\n"})
        self.assert_said(said, "memory", "finding", "32.6 MiB of the control group's 128 MiB are left")
        self.assert_said(said, "memory", "finding", "/sys/fs/cgroup/app/memory.max")
        self.assert_said(said, "memory", "note", "has killed 2 processes")

    def test_version_2_beside_version_1_is_found(self):
        said = self.groups("1:cpu:/\n0::/robot\n", {"unified/robot/memory.max": "67108864\n",
                                                    "unified/robot/memory.current": "67108864\n"})
        self.assert_said(said, "memory", "finding", "0 B of the control group's 64 MiB are left")

    def test_version_1_is_found(self):
        said = self.groups("4:memory:/robot\n0::/\n", {
            "memory/robot/memory.limit_in_bytes": "67108864\n", "memory/robot/memory.usage_in_bytes": "1048576\n",
            "memory/robot/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "1048576\n"})
        self.assert_said(said, "memory", "finding", "63 MiB of the control group's 64 MiB are left")
        self.assert_said(said, "memory", "note", "has killed 1 process of")

    def test_a_large_one_is_noted_and_none_is_good(self):
        said = self.groups("0::/\n", {"memory.max": "17179869184\n", "memory.current": "1048576\n"})
        self.assert_said(said, "memory", "note", "limits it to 16 GiB")
        shutil.rmtree(self.path("groups"))
        said = self.groups("0::/\n", {"memory.max": "max\n", "memory.current": "1048576\n"})
        self.assert_said(said, "memory", "ok", "no control group limits it")

    def test_files_that_hold_nonsense_are_no_limit(self):
        said = self.groups("0::/x\n:\n::::\nnonsense\n", {"x/memory.max": "\n", "x/memory.current": "-5\n"})
        self.assert_said(said, "memory", "ok", "no control group limits it")


@unittest.skipUnless(can("--mount", "--ipc", "--pid", "--fork"), "no namespaces of our own here")
class Processes(Doctor):
    def test_pid_namespace_is_noted(self):
        said = self.doctor(options=("--mount", "--pid", "--fork", "--mount-proc"))
        self.assert_said(said, "processes", "note", "outside of this PID namespace are not shown", "--pid=host")

    def test_missing_proc_is_noted(self):
        said = self.doctor("mount -t tmpfs none /proc")
        self.assert_said(said, "processes", "note", "/proc does not show this process")


def can_be_user_1000():
    return os.geteuid() == 0 and shutil.which("setpriv") and subprocess.run(
        ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", COVE, "version"],
        capture_output=True).returncode == 0


@unittest.skipUnless(can("--mount", "--ipc") and can_be_user_1000(), "needs root, and the command where others may run it")
class Logout(Doctor):
    """The login manager's settings are ours, mounted over the machine's."""

    def logind(self, settings):
        setting = ("for p in /run/systemd /etc/systemd /usr/lib/systemd; do test -d $p || continue; "
                   "mount -t tmpfs none $p; done; "
                   "test -d /run/systemd || exit 77; mkdir -p /run/systemd/seats /run/systemd/logind.conf.d; "
                   f"printf '{settings}' > /run/systemd/logind.conf.d/test.conf")
        if not os.path.isdir("/run/systemd"):
            self.skipTest("no directory of the login manager's here")
        return self.doctor(setting, prefix='setpriv --reuid 1000 --regid 1000 --clear-groups "$0"', COVE_DIR="/dev/shm")

    def test_removal_at_logout_is_noted_unless_it_is_switched_off(self):
        self.assert_said(self.logind("[Login]\\n"), "logout", "note", "RemoveIPC", "RemoveIPC=no")
        self.assertNotIn("logout", self.logind("[Login]\\nRemoveIPC=no\\n"))


if __name__ == "__main__":
    main()
