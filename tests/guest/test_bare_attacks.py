"""A guest that breaks every rule of virtio on purpose: ebb lives, the device recovers, nobody else notices."""
import collections
import re
import unittest

import network
from attack_case import AttackCase

Device = collections.namedtuple("Device", "number id queues")

KINDS = {1: "net", 2: "blk", 3: "console", 4: "rng", 5: "balloon", 19: "vsock"}
# A guest may make ebb say something, but not fill the host's log: a handful per device and five seconds.
LOG_LINES_MAX = 400
RACES = 9


class Attacks(AttackCase):
    def cases(self, guest):
        start = len(guest.serial.text)
        guest.serial.command("attack list")
        return re.findall(r"case=\d+ name=(\w+)", guest.serial.text[start:])

    def devices(self, guest):
        start = len(guest.serial.text)
        guest.serial.command("attack devices")
        found = re.findall(r"device=(\d+) id=(\d+) queues=(\d+)", guest.serial.text[start:])
        return [Device(*map(int, match)) for match in found]

    def attack(self, guest, kind):
        """All cases on all queues of the first device of @kind; how many there were."""
        device = next(device for device in self.devices(guest) if KINDS[device.id] == kind)
        count = 0
        for number, name in enumerate(self.cases(guest)):
            for queue in range(device.queues):
                with self.subTest(f"{kind}.{queue}.{name}"):
                    result = guest.serial.command(f"attack run {device.number} {queue} {number}", timeout=60)
                    self.assertEqual((result["name"], result["right"], result["healthy"]), (name, 1, 1), result)
                    print(f"{kind}.{queue}.{name}: status {result['status']:#x}")
                    count += 1
        print(f"{kind}: {count} cases")
        return count

    def run_on(self, kind, *options):
        bystander = self.bystander()
        guest = self.attacker(*options)
        self.assertGreater(self.attack(guest, kind), 60)
        self.assertEqual(guest.ctl("status")["state"], "running")
        self.assert_untouched(bystander)
        self.assertLess(guest.errors.count(b"\n"), LOG_LINES_MAX)

    def race_on(self, kind, queue, *options):
        """A second virtual CPU rewrites the rings while the device uses them."""
        bystander = self.bystander()
        guest = self.attacker("--cpus", "2", *options)
        device = next(device for device in self.devices(guest) if KINDS[device.id] == kind)
        for number in range(RACES):
            result = guest.serial.command(f"attack race {device.number} {queue} {number}", timeout=120)
            print(f"{kind}.{queue}.{result['name']}: {result['requests']} requests, {result['flips']} flips, "
                  f"{result['broken']} resets")
            self.assertEqual(result["healthy"], 1)
            self.assertGreaterEqual(result["flips"], result["requests"])
        self.assertEqual(guest.ctl("status")["state"], "running")
        self.assert_untouched(bystander)

    def test_races_on_entropy(self):
        self.race_on("rng", 0)

    def test_races_on_the_balloon(self):
        self.race_on("balloon", 0)

    def test_races_on_a_disk(self):
        self.race_on("blk", 0)

    def test_attacks_on_entropy(self):
        self.run_on("rng")

    def test_attacks_on_the_balloon(self):
        self.run_on("balloon")

    def test_attacks_on_a_disk(self):
        self.run_on("blk")

    def network_card(self):
        network.enter_namespace(self)
        network.Tap(self)
        return "--net", "tap=tap0"

    def test_attacks_on_a_network_card(self):
        self.run_on("net", *self.network_card())

    def test_races_on_a_network_card(self):
        self.race_on("net", 1, *self.network_card())

    def test_attacks_on_vsock(self):
        self.run_on("vsock", "--vsock", f"{self.directory}/v")

    def test_attacks_on_the_console(self):
        self.run_on("console", "--console", f"file={self.directory}/output")

    def test_accesses_to_every_port(self):
        guest = self.attacker()
        guest.serial.command("attack sweep 0", timeout=120)
        guest.serial.command("ping")
        self.assertEqual(guest.ctl("status")["state"], "running")
        self.assertLess(guest.errors.count(b"\n"), LOG_LINES_MAX)

    def test_accesses_all_over_the_hole_for_mmio(self):
        guest = self.attacker()
        guest.serial.command("attack sweep 1", timeout=120)
        guest.serial.command("ping")
        self.assertEqual(guest.ctl("status")["state"], "running")
        self.assertLess(guest.errors.count(b"\n"), LOG_LINES_MAX)


if __name__ == "__main__":
    unittest.main()
