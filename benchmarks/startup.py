"""How long a user waits for the first answer: wall time of new processes, in turn, the files in the page cache.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import remask": ["-c", "import remask"],
    "import remask, all of its names": ["-c", "from remask import *"],
    "remask --help": ["-m", "remask", "--help"],
    "remask generate --help": ["-m", "remask", "generate", "--help"],
    "remask models": ["-m", "remask", "models"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="Each command once a round.")
    rounds = parser.parse_args().rounds
    for arguments in COMMANDS.values():
        seconds(arguments)
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            found[name].append(seconds(arguments))
    print(f"seconds, of {rounds} rounds; Python {sys.version.split()[0]}")
    print("| command | least | median |\n|---|---|---|")
    for name, times in found.items():
        print(f"| `{name}` | {min(times):.2f} | {statistics.median(times):.2f} |")
