"""Man pages and completions say what the program understands, all of it and nothing else."""
import json
import os
import re
import socket
import subprocess
import unittest

import host
from case import GuestCase

BUILT = os.path.dirname(host.BINARY)
PAGES = [os.path.join(BUILT, "man", f"man{name[-1]}", name)
         for name in ("ebb.1", "ebb-run.1", "ebb-console.7", "ebb-swap.7")]


def facts():
    return json.loads(subprocess.run([host.BINARY, "help", "--json"], stdout=subprocess.PIPE, check=True).stdout)


def plain(page):
    """The page as one reads it."""
    text = subprocess.run(["man", "-l", page], stdout=subprocess.PIPE, text=True, check=True,
                          env=dict(os.environ, MANWIDTH="200", MAN_KEEP_FORMATTING="", LC_ALL="C.UTF-8")).stdout
    return text


def heads(text, section):
    """The terms that are defined in a section."""
    body = re.search(rf"^{section}\n(.*?)(?=^\S)", text, re.M | re.S).group(1)
    return re.findall(r"^ {7}(\S.*)$", body, re.M)


class Help(GuestCase):
    def test_names_every_option_and_command(self):
        known = facts()
        help_run = self.run_ebb("help", "run")[1]
        for option in known["run_options"]:
            self.assertRegex(help_run, rf"(?m)^  --{option['name']}\b", option["name"])
        help_ctl = self.run_ebb("help", "ctl")[1]
        for command in known["commands"]:
            self.assertIn(command["name"], help_ctl)

    def test_knows_every_subcommand(self):
        known = facts()
        listed = re.findall(r"(?m)^  ([a-z]+)  ", known["summary"])
        self.assertEqual(sorted(listed), sorted(topic["name"] for topic in known["subcommands"]))
        for name in listed:
            self.assertEqual(self.run_ebb(name, "--help")[0] if name not in ("help", "version") else 0, 0, name)


class ManPages(GuestCase):
    def setUp(self):
        super().setUp()
        self.need("man", "man-db")
        if not os.path.exists(PAGES[0]):
            self.skipTest("the man pages are not built: cmake -DEBB_DOCS=ON")

    def test_are_free_of_warnings(self):
        self.need("mandoc", "mandoc")
        for page in PAGES:
            result = subprocess.run(["man", "--warnings", "-l", page], stdout=subprocess.DEVNULL, text=True,
                                    stderr=subprocess.PIPE, env=dict(os.environ, MANWIDTH="80"), check=True)
            self.assertEqual(result.stderr, "", page)
            result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], stdout=subprocess.PIPE,
                                    text=True, check=False)
            # scdoc writes paragraphs that are empty; everything else counts.
            lines = [line for line in result.stdout.splitlines() if "skipping paragraph macro" not in line]
            self.assertEqual(lines, [], page)

    def test_define_every_option_and_command_and_no_other(self):
        known = facts()
        defined = [head.split()[0] for head in heads(plain(PAGES[1]), "OPTIONS")]
        self.assertEqual(defined, ["--" + option["name"] for option in known["run_options"]] + ["--help"])
        defined = heads(plain(PAGES[2]), "COMMANDS")
        self.assertEqual(defined, [f"{command['name']} {command['arguments']}".strip()
                                   for command in known["commands"]])
        defined = [head.split()[1] for head in heads(plain(PAGES[0]), "COMMANDS") if head.startswith("ebb ")]
        for topic in known["subcommands"]:
            self.assertIn(topic["name"], defined)

    def test_speak_of_no_option_that_is_not_there(self):
        known = facts()
        options = {"--" + option["name"] for option in known["run_options"]}
        options |= set(re.findall(r"--[a-z][a-z-]*", json.dumps(known)))
        for page in PAGES:
            self.assertEqual(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", plain(page))) - options - {"--help"}, set())

    def test_refer_to_pages_that_are_there(self):
        ours = {os.path.basename(page) for page in PAGES}
        for page in PAGES:
            for name, section in re.findall(r"\b(ebb[a-z-]*)\((\d)\)", plain(page)):
                self.assertIn(f"{name}.{section}", ours, page)


class Completion(GuestCase):
    def setUp(self):
        super().setUp()
        if not os.path.exists(os.path.join(BUILT, "ebb.bash")):
            self.skipTest("the completions are not built: cmake -DEBB_DOCS=ON")
        self.machine = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.machine.close)
        os.mkdir(os.path.join(self.runtime, "ebb"))
        self.machine.bind(os.path.join(self.runtime, "ebb", "dev-box.sock"))
        self.make_file("kernel-file")

    def run_shell(self, *argv, script):
        result = subprocess.run(argv, input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=dict(os.environ, XDG_RUNTIME_DIR=self.runtime, TERM="dumb", LC_ALL="C.UTF-8"),
                                cwd=self.directory, timeout=60 * host.SLOWNESS, check=False)
        return result.stdout, result.stderr

    def bash(self, line):
        """What bash offers behind @line."""
        words = line.split(" ")
        script = (f"source {BUILT}/ebb.bash\ncompopt() {{ :; }}\nCOMP_WORDS=({' '.join(repr(w) for w in words)})\n"
                  f"COMP_CWORD={len(words) - 1}\n_ebb\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n")
        output, errors = self.run_shell("bash", "--norc", script=script)
        self.assertEqual(errors, "", line)
        return set(output.split())

    def zsh(self, line):
        """What zsh's completion leaves on the command line when Tab is pressed at @line, in a terminal."""
        # What is typed before the line editor is there (it switches bracketed paste on), the terminal would take.
        script = (f"zmodload zsh/zpty\nzpty z zsh -f -i\nzpty -w z 'PS1=; stty cols 200; fpath=({BUILT} $fpath); "
                  f"autoload -U compinit; compinit -u -D; zstyle \":completion:*\" list-prompt \"\"; "
                  f"setopt no_beep; print rea\"\"dy'\nzpty -r z text '*ready*2004h*'\n"
                  f"zpty -n -w z {subprocess.list2cmdline([line])}$'\\t'\n"
                  f"zpty -n -w z $'\\x15print e\"\"nd\\n'\nzpty -r z text '*end*'\nprint -r -- \"$text\"\n")
        output, _ = self.run_shell("zsh", "-f", script=script)
        return output

    def test_bash_completes_subcommands_and_options(self):
        known = facts()
        self.assertLessEqual({topic["name"] for topic in known["subcommands"]}, self.bash("ebb "))
        self.assertEqual(self.bash("ebb run --"),
                         {"--" + option["name"] for option in known["run_options"]} | {"--help"})
        self.assertEqual(self.bash("ebb run --swap-encrypt "), {"on", "off"})
        self.assertEqual(self.bash("ebb run --kernel ker"), {"kernel-file"})
        self.assertEqual(self.bash("ebb help chec"), {"check"})

    def test_bash_completes_machines_and_their_commands(self):
        known = facts()
        self.assertEqual(self.bash("ebb ctl dev"), {"dev-box"})
        self.assertIn("dev-box", self.bash("ebb console "))
        self.assertEqual(self.bash("ebb ctl --json dev-box "),
                         {command["name"].split()[0] for command in known["commands"]})
        self.assertIn("enable", self.bash("ebb ctl dev-box swap "))
        self.assertEqual(self.bash("ebb ctl dev-box swap in --"), {"--working-set"})
        self.assertEqual(self.bash("ebb ctl dev-box dump-memory ker"), {"kernel-file"})
        self.assertEqual(self.bash("ebb ls --j"), {"--json"})

    def test_zsh_completes(self):
        self.need("zsh", "zsh")
        self.assertIn("ctl dev-box", self.zsh("ebb ctl de"))
        self.assertIn("--working-set", self.zsh("ebb ctl dev-box swap in --w"))
        self.assertIn("--swap-compress", self.zsh("ebb run --swap-comp"))
        self.assertIn("--swap-io uring", self.zsh("ebb run --swap-io ur"))


if __name__ == "__main__":
    unittest.main()
