"""`ebb ctl NAME events`: what a bare guest does, told as it happens."""
import signal
import subprocess

import host
from case import MIB, BareCase
from follower import Follower


class Events(BareCase):
    def follow(self, guest, *words):
        follower = self.enter(Follower(guest, *words))
        self.assertEqual(follower.next()["type"], "subscribed")
        return follower

    def test_states_and_swap_operations_are_told_until_the_end(self):
        guest = self.bare()
        follower = self.follow(guest)
        self.assertEqual(follower.seen[0]["state"], "running")
        guest.ctl("pause")
        follower.wait("state", state="paused", was="running", reason="")
        guest.ctl("resume")
        follower.wait("state", state="running", was="paused")
        guest.serial.command("fillall 1")
        for operation, state in (("enable", "staged"), ("out", "out"), ("in", "resident"), ("disable", "disabled")):
            report = guest.swap(operation)
            follower.wait("swap_started", operation=operation, by="user")
            ended = follower.wait("swap_ended", operation=operation, state=state, result=0)
            self.assertEqual(ended["pages_moved"], report["pages_moved"])
        guest.ctl("reset")
        follower.wait("reset", resets=1)
        guest.serial.ready(start=len(guest.greeting))
        guest.ctl("quit")
        events = follower.rest()
        self.assertEqual((events[-1]["type"], events[-1]["state"], events[-1]["reason"]),
                         ("state", "stopped", "quit"))
        self.assertEqual(follower.process.wait(), 0)
        sequences = [event["sequence"] for event in events]
        self.assertEqual(sequences[1:], list(range(sequences[1], sequences[1] + len(events) - 1)))
        times = [event["time_ns"] for event in events]
        self.assertEqual(times, sorted(times))

    def test_power_off_and_crash_are_told_with_the_reason(self):
        guest = self.bare(swap=False)
        follower = self.follow(guest)
        guest.serial.begin("poweroff")
        self.assertIn("powered down", follower.rest()[-1]["reason"])
        guest = self.bare(swap=False)
        follower = self.follow(guest)
        guest.serial.begin("triple")
        events = follower.rest()
        self.assertEqual((events[-1]["type"], events[-1]["state"]), ("state", "stopped"))
        self.assertTrue(any(event["type"] == "log" and "crashed" in event["message"] for event in events), events)

    def test_balloon_is_told_up_to_its_last_step(self):
        guest = self.bare()
        follower = self.follow(guest)
        guest.ctl("balloon", "96M")
        follower.wait("balloon", target_bytes=32 * MIB, actual_bytes=0)
        guest.serial.command("balloon follow", timeout=60)
        follower.wait("balloon", target_bytes=32 * MIB, actual_bytes=32 * MIB)

    def test_panic_is_told_once_and_the_guest_goes_on(self):
        guest = self.bare(swap=False)
        follower = self.follow(guest)
        self.assertFalse(guest.ctl("status")["panicked"])
        for _ in range(50):
            guest.serial.command("panic 1")
        self.assertFalse(follower.wait("guest_panicked")["crash_loaded"])
        self.assertTrue(guest.ctl("status")["panicked"])
        self.assertEqual(guest.ctl("status")["state"], "running")
        guest.serial.command("panic 2")
        self.assertTrue(follower.wait("guest_panicked")["crash_loaded"])
        guest.serial.command("panic 252")
        guest.ctl("reset")
        follower.wait("reset")
        self.assertFalse(guest.ctl("status")["panicked"])
        self.assertEqual([event["type"] for event in follower.seen].count("guest_panicked"), 2)
        guest.expect_error("panicked")

    def test_steps_of_the_automatic_policy_are_told(self):
        guest = self.bare("--swap-auto", "idle=1", memory="32M")
        follower = self.follow(guest, "0")
        guest.ctl("pause")  # a bare guest polls; it is idle only so
        for phase in ("watching", "staging", "settling", "trimming", "writing", "asleep"):
            follower.wait("auto", phase=phase)
        for operation in ("enable", "trim", "out"):
            self.assertTrue(any(event["type"] == "swap_ended" and event["operation"] == operation and
                                event["by"] == "auto" for event in follower.seen), follower.seen)

    def test_people_get_lines_and_end_it_with_control_c(self):
        guest = self.bare(swap=False)
        process = subprocess.Popen([host.BINARY, "ctl", guest.name, "events"], env=guest.env, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            self.assertIn("running", process.stdout.readline())
            guest.ctl("pause")
            self.assertIn("paused (was running)", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(20 * host.SLOWNESS), -signal.SIGINT)
            self.assertEqual(process.stderr.read(), "")
        guest.ctl("resume")

    def test_follower_that_stops_reading_costs_nothing(self):
        guest = self.bare(swap=False)
        follower = self.follow(guest)
        follower.process.send_signal(signal.SIGSTOP)
        before = guest.own_bytes()
        connection = guest.ctl_process("help")
        connection.communicate()
        for _ in range(4):
            commands = "pause\nresume\n" * 2000
            subprocess.run([host.BINARY, "console", guest.name], input=commands, env=guest.env, text=True,
                           stdout=subprocess.DEVNULL, check=True, timeout=60 * host.SLOWNESS)
        if "asan" not in host.BINARY:  # which keeps what was freed
            self.assertLess(guest.own_bytes() - before, 2 * MIB)
        follower.process.send_signal(signal.SIGCONT)
        self.assertGreater(follower.wait("lost")["count"], 0)
        guest.ctl("quit")
        self.assertEqual(follower.rest()[-1]["state"], "stopped")
