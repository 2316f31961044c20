#!/usr/bin/env python3
"""Makes a shell's completion of its source and of what `ebb help --json` says.

    generate.py TEMPLATE EBB COMPLETION

In the template, a line "# @tables" is replaced by these, in the syntax that bash and zsh share:

    _ebb_subcommands   the subcommands
    _ebb_options       by subcommand: its options
    _ebb_operands      by subcommand: what follows, of machine, command, subcommand
    _ebb_values        by "SUBCOMMAND OPTION", for options with an argument: file, directory, or words
    _ebb_commands      the commands of a machine
    _ebb_choices       by command: words for its argument, or file
"""
import json
import re
import subprocess
import sys


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def value_kind(argument):
    """How the argument of an option is completed."""
    words = [re.sub(r"\[.*", "", word) for word in re.split(r"\|(?![^[]*\])", argument)]
    fixed = [word for word in words if re.fullmatch(r"[a-z0-9-]+=?", re.sub("=[A-Z]+$", "=", word))]
    if fixed:
        return " ".join(re.sub("=[A-Z]+$", "=", word) for word in fixed)
    if re.search(r"\b(FILE|PATH|SOCKET)\b", argument):
        return "file"
    return "directory" if re.search(r"\bDIR\b", argument) else "none"


def usage_lines(topic):
    return topic["help"].split("\n\n")[0]


def tables(facts):
    options, operands, values = {}, {}, {}
    for topic in facts["subcommands"]:
        name, usage = topic["name"], usage_lines(topic)
        found = re.findall(r"(--[a-z][a-z-]*)( [A-Z]+)?", usage)
        operand = []
        positional = re.sub(r"\[?--[a-z][a-z-]*( [A-Z]+)?\]?", "", usage)
        if re.search(r"\bNAME\b", positional):
            operand.append("machine")
        if re.search(r"\bCOMMAND\b", positional):
            operand.append("command" if operand else "subcommand")
        if name == "run":
            found = [("--" + row["name"], row["argument"]) for row in facts["run_options"]]
            operand = []
        options[name] = " ".join(dict.fromkeys([option for option, _ in found] + ["--help"]))
        operands[name] = " ".join(operand)
        values.update({f"{name} {option}": value_kind(argument.strip()) for option, argument in found if argument})
    commands = [row["name"] for row in facts["commands"]]
    choices = {row["name"]: "file" if row["takes_file"] else row["choices"] for row in facts["commands"]
               if row["takes_file"] or row["choices"]}
    return options, operands, values, commands, choices


def array(name, values):
    return f"typeset -ga {name}=(" + " ".join(map(quote, values)) + ")"


def table(name, entries):
    """Keys and values in turn, as zsh and bash (since 5.1) have it."""
    return f"typeset -gA {name}=(\n" + "".join(f"\t{quote(key)} {quote(value)}\n"
                                              for key, value in entries.items()) + ")"


def main():
    template, ebb, target = sys.argv[1:]
    facts = json.loads(subprocess.run([ebb, "help", "--json"], stdout=subprocess.PIPE, check=True).stdout)
    options, operands, values, commands, choices = tables(facts)
    text = "\n".join([array("_ebb_subcommands", list(options)), table("_ebb_options", options),
                      table("_ebb_operands", operands), table("_ebb_values", values),
                      array("_ebb_commands", commands), table("_ebb_choices", choices)])
    with open(template, encoding="utf-8") as file:
        source = file.read()
    if "# @tables\n" not in source:
        sys.exit(f"{template}: there is no line # @tables")
    with open(target, "w", encoding="utf-8") as file:
        file.write(source.replace("# @tables\n", text + "\n"))


if __name__ == "__main__":
    main()
