#!/usr/bin/env python3
"""Runs a command while its processes stand still now and then, as on a machine that is shared: one or two of them, or all at once.

usage: stalls.py [--seed N] [--longest SECONDS] COMMAND [ARGUMENT ...]

Tests that hold here judge by what happened, not by how soon. Exits as the command does. Linux only.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time


def below(root):
    """Returns the descendants of a process; processes that end while they are listed are left out."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The process name, which ends at the last parenthesis, may contain any characters.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, left = [], [root]
    while left:
        found.extend(more := children.get(left.pop(), []))
        left.extend(more)
    return found


def tell(processes, what):
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, what)


def stall(root, dice, longest):
    """Stops some or all processes for at least a fifth of a second, and waits before the next stall."""
    processes = below(root)
    if processes and dice.random() < 0.75:
        processes = dice.sample(processes, min(len(processes), dice.choice([1, 1, 2])))
    tell(processes, signal.SIGSTOP)
    time.sleep(dice.uniform(0.2, longest))
    tell(processes, signal.SIGCONT)
    time.sleep(dice.uniform(0.2, 1.5))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=2.0, help="seconds of the longest stall (default: 2)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if not given.command:
        parser.error("a command is needed")
    command = subprocess.Popen(given.command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dice, count = random.Random(given.seed), 0
    while command.poll() is None:
        stall(command.pid, dice, given.longest)
        count += 1
    print(f"stalls: {count}, each of up to {given.longest} s", file=sys.stderr)
    return command.returncode


if __name__ == "__main__":
    sys.exit(main())
