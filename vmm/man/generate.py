#!/usr/bin/env python3
"""Makes a man page of its source and of what `ebb help --json` says.

    generate.py TEMPLATE EBB SCDOC PAGE     writes PAGE and PAGE.gz

The template is scdoc with these lines of its own:

    @subcommands            the subcommands, a line each
    @usage                  how each subcommand is called
    @options, @commands     the options of `ebb run`, the commands of the console, with their one-line
    NAME: TEXT              help; TEXT is added to that of NAME (further lines begin with a tab)
    @end

A NAME that ebb does not know is an error, so that nothing is documented that is not there. @VERSION@
is ebb's version.
"""
import gzip
import json
import os
import re
import subprocess
import sys


def escape(text):
    return re.sub(r"([\\_*])", r"\\\1", text)


def sentence(text):
    """A line of help as a sentence."""
    if text.split()[0].islower(): # "bzImage" stays
        text = text[0].upper() + text[1:]
    return escape(text if text.endswith((".", "?")) else text + ".")


def strong(text):
    return f"*{escape(text)}*"


def argument(text):
    return f" _{escape(text)}_" if text else ""


def summaries(facts):
    """The lines "  NAME  what it does" of `ebb help`."""
    return re.findall(r"^  ([a-z-]+) +(.*)$", facts["summary"], re.M)


def subcommands(facts):
    return "\n\n".join(f"*ebb {name}*\n\t{sentence(help_)}" for name, help_ in summaries(facts))


def usage(facts):
    lines = []
    for topic in facts["subcommands"]:
        first = topic["help"].split("\n\n")[0].replace("usage:", "")
        lines += [escape(" ".join(line.split())) + "++" for line in first.splitlines()]
    return "\n".join(lines)[:-2]


def definitions(rows, details, where):
    """Each of @rows (name, head, help) with its details."""
    unknown = set(details) - {name for name, _, _ in rows}
    if unknown:
        sys.exit(f"{where}: ebb has no {', '.join(sorted(unknown))}")
    return "\n\n".join(f"{head}\n\t{sentence(help_)}" + "".join(f" {line.strip()}" if line else "\n\n\t"
                                                               for line in details.get(name, []))
                       for name, head, help_ in rows)


def read_details(lines):
    """NAME: TEXT up to @end, as {NAME: [line]}."""
    details, name = {}, None
    for line in lines:
        if line == "@end":
            return details
        if line.startswith("\t") or not line:
            details[name].append(line.strip())
        else:
            name, _, text = line.partition(": ")
            details[name] = [text]
    sys.exit("@end is missing")


def fill_in(template, facts):
    options = [(row["name"], strong("--" + row["name"]) + argument(row["argument"]), row["help"]
                + ("; may be repeated" if row["repeats"] else "")) for row in facts["run_options"]]
    commands = [(row["name"], strong(row["name"]) + argument(row["arguments"]), row["help"])
                for row in facts["commands"]]
    lines = iter(template.replace("@VERSION@", facts["version"]).splitlines())
    for line in lines:
        if line == "@subcommands":
            yield subcommands(facts)
        elif line == "@usage":
            yield usage(facts)
        elif line == "@options":
            yield definitions(options, read_details(lines), "@options")
        elif line == "@commands":
            yield definitions(commands, read_details(lines), "@commands")
        else:
            yield line


def main():
    template, ebb, scdoc, page = sys.argv[1:]
    facts = json.loads(subprocess.run([ebb, "help", "--json"], stdout=subprocess.PIPE, check=True).stdout)
    with open(template, encoding="utf-8") as file:
        text = "\n".join(fill_in(file.read(), facts)) + "\n"
    # The same source makes the same bytes on every day.
    roff = subprocess.run([scdoc], input=text.encode(), stdout=subprocess.PIPE, check=True,
                          env=dict(os.environ, SOURCE_DATE_EPOCH=os.environ.get("SOURCE_DATE_EPOCH", "0"))).stdout
    os.makedirs(os.path.dirname(page), exist_ok=True)
    for path, content in ((page, roff), (page + ".gz", gzip.compress(roff, 9, mtime=0))):
        with open(path, "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main()
