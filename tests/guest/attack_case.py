"""The base of the tests whose guest attacks: the attacker, and a bystander that must not notice."""
from case import MIB, BareCase

# A guest may make ebb say something, but not fill the host's log: so many at once per kind, then one a minute.
BURST, INTERVAL = 10, 60


class AttackCase(BareCase):
    def attacker(self, *options, **arguments):
        disk = self.make_file("disk.raw", size=1 * MIB)
        return self.bare("--disk", disk, *options, **{"memory": "64M", "swap": False, **arguments})

    def bystander(self):
        """Another guest, whose memory is known. It is paused: it would poll, which takes half the machine."""
        guest = self.bare(memory="32M", swap=False)
        guest.serial.command("fillall 77")
        guest.ctl("pause")
        return guest

    def assert_untouched(self, guest, seed=77):
        if guest.ctl("status")["state"] == "paused":
            guest.ctl("resume")
        result = guest.serial.command(f"verifyall {seed}", timeout=60)
        self.assertEqual((result["bad"], result["lost"]), (0, 0))

    def assert_runs(self, guest):
        guest.serial.command("ping")
        self.assertEqual(guest.ctl("status")["state"], "running")

    def all_cases(self, guest, kind, prefix="", before=lambda: None):
        """Runs `attack KIND N` for all N; how many there were."""
        number, count = 0, 1
        while number < count:
            before()
            result = guest.serial.command(f"attack {kind} {number}", timeout=60)
            print(f"{kind}.{prefix}{result['name']}: status {result['status']:#x}")
            self.assertEqual((result.get("right", 1), result["healthy"]), (1, 1), result)
            number, count = number + 1, result["count"]
        print(f"{kind}: {count} cases")
        return count
