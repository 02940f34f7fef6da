"""Compiles C code of the tests and of the package."""

import os
import shlex
import subprocess

COMPILER = shlex.split(os.environ.get("CC", "cc"))
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi", "-Werror"]


def compiling(*compiler):
    """A function that makes a program or library of C code."""

    def run(source, output, *options):
        command = [*compiler, "-std=gnu11", "-ffp-contract=fast", *WARNINGS]
        command += [*options, "-x", "c", "-", "-o", output, "-lm"]
        subprocess.run(command, input=source, text=True, check=True)
        return output

    return run
