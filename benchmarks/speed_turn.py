"""One system's turn at one kind of work, in a process of its own, for benchmarks/speed.py.

python benchmarks/speed_turn.py ASKED.json   → the file that ASKED.json names
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import torch
from mining import peak_mb

from burnish.run import write_json


def main() -> None:
    """Do the work, and write what it took."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    told = import_module(asked["module"]).WORK.turn(asked)
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_mb()
    write_json(Path(asked["told"]), {**told, "peak_mb": peak})


if __name__ == "__main__":
    main()
