"""`ebb run --config` and `--print-config`, by the program itself."""
import json
import os

import host
from case import BareCase, GuestCase
from ebb import Ebb


class ConfigCase(GuestCase):
    def write(self, options):
        return self.make_file("vm.json", content=json.dumps(options, indent=1).encode())


class Files(ConfigCase):
    def test_errors_name_file_line_and_column_and_cost_status_2(self):
        path = self.make_file("vm.json", content=b'{\n  "kernel": "k",\n  "memroy": "1G"\n}\n')
        status, output, errors = self.run_ebb("run", "--config", path)
        self.assertEqual((status, output), (2, ""))
        self.assertIn(f'{path}:3:3: "memroy": no such option; did you mean "memory"?', errors)

    def test_what_is_printed_prints_itself(self):
        path = self.write({"kernel": "k", "disk": ["a,ro"], "swap-encrypt": False})
        arguments = ["--disk", "b,id=x", "--cpus", "2", "--cmdline", "quiet 'x' \"y\""]
        status, first, errors = self.run_ebb("run", "--config", path, "--print-config", *arguments)
        self.assertEqual(status, 0, errors)
        self.assertEqual(json.loads(first), {"kernel": "k", "cmdline": "quiet 'x' \"y\"", "cpus": 2,
                                             "disk": ["a,ro", "b,id=x"], "swap-encrypt": False})
        again = self.make_file("again.json", content=first.encode())
        self.assertEqual(self.run_ebb("run", "--print-config", "--config", again), (0, first, ""))

    def test_print_config_judges_what_it_prints(self):
        status, output, errors = self.run_ebb("run", "--print-config", "--kernel", "k", "--cpus", "99")
        self.assertEqual((status, output), (2, ""))
        self.assertIn("1 to 64", errors)


class Guests(ConfigCase, BareCase):
    def test_guest_runs_as_its_file_says(self):
        disk = self.make_file("disk.raw", size=1 << 20)
        path = self.write({"name": "from-file", "kernel": host.image("bare.elf"), "cmdline": "test",
                           "memory": "64M", "cpus": 2, "disk": [disk + ",ro"], "swap-dir": self.swap_dir,
                           "swap-encrypt": True, "swap-compress": "zstd:3"})
        # The name is that of the command line.
        guest = self.ebb("--config", path, "--memory", "128M", name="by-hand")
        guest.serial.ready()
        status = guest.ctl("status")
        self.assertEqual((status["name"], status["vcpus"], status["memory_bytes"]), ("by-hand", 2, 128 << 20))
        free = guest.serial.command("fillall 1")["pages"]
        guest.swap("enable")
        guest.swap("out")
        store = guest.ctl("swap", "status")["store"]
        self.assertEqual((store["compression"], store["level"], store["encryption"]), ("zstd", 3, True))
        self.assertEqual(guest.serial.command("verifyall 1", timeout=60)["pages"], free)
        guest.signal_twice()
        self.assertEqual(guest.wait(), 0)

    def test_relative_paths_are_those_of_the_current_directory(self):
        os.symlink(host.image("bare.elf"), os.path.join(self.directory, "kernel.elf"))
        configs = self.make_dir("configs")
        path = os.path.join(configs, "vm.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"kernel": "kernel.elf", "cmdline": "test", "memory": "64M"}, file)
        guest = self.enter(Ebb("--config", "configs/vm.json", runtime_dir=self.runtime, cwd=self.directory))
        guest.serial.ready()
