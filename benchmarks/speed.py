"""A step of preference training against TRL's, in one run: the same rows, batches, rate and number format.

python benchmarks/speed.py [--quick] [--peer FOLDER]

Needs `pip install trl datasets`, or --peer, a folder that holds them (`pip install --target FOLDER --no-deps …`).
Writes results/speed.json and its table in docs/benchmarks.md. Each turn is a process of its own, whose peak memory is
told; turns take turns, and the median counts. Tokens are those of a prompt with an answer: a prompt's count twice,
whether it is read twice or once. The first step warms up, and is not timed. On a processor, seconds are those that the
process had of it: what else the machine does counts for nothing, if OMP_NUM_THREADS is 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import common
import torch
from safetensors.torch import save_file
from speed_dpo import begun

from burnish.preference_rows import Preference
from burnish.records import dump_jsonl, read_jsonl
from burnish.run import write_text
from burnish.tables import read_rows
from burnish.tasks.prefer import Prefer
from burnish.train.batches import Plan

SCRIPT = Path(__file__).with_name("speed_dpo.py")
SYSTEMS = {  # of each what it is called and how it is set
    "burnish": ("burnish", "default"),
    "trl": ("TRL DPOTrainer", "default"),
    "trl-best": ("TRL DPOTrainer", "best"),
}
SIZE = {"steps": 9, "batch": 4, "turns": 1, "tokens": 512}  # of rows, the longest
QUICK = {"steps": 2, "batch": 2, "turns": 1, "tokens": 384}
RATES = {"lora": 1e-4, "full": 1e-5}
WORKLOADS = (("lora", "fp32"), ("lora", "bf16"))
NOTE = (
    "Written by `python benchmarks/speed.py`: DPO steps on `preferences/` with SmolLM2-135M, LoRA of rank 16 on all "
    "linear layers, β .1, rows of at most {tokens} tokens, {batch} rows a step, {timed} steps behind a first; "
    "all begin with the same factors. Seconds are those of the processor, one thread. TRL `default`: as it comes but "
    "for the format, which is bf16 by autocast if not said otherwise: activations are checkpointed, and the reference "
    "is read in each step. `best`: log-probabilities of the reference computed before, activations kept. `ours / "
    "theirs` are tokens a second of the steps alone; `with reference` counts what is read before the first step, as if "
    "there were but one epoch. The gap is the largest between our loss and theirs in any step; bf16 is another bf16 "
    "with each: ours rounds what runs through the layers too, autocast does not."
)


def main() -> None:
    """Write the rows, time every system on them, and write what came of it."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--quick", action="store_true", help="two steps of two short rows in bf16")
    asked.add_argument("--steps", type=int, default=0, help="of each workload, the first one included")
    asked.add_argument("--peer", default="", help="a folder with trl and datasets")
    told = asked.parse_args()
    size = QUICK if told.quick else SIZE
    steps = told.steps or size["steps"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        for method, dtype in WORKLOADS[:1] if told.quick else WORKLOADS:
            _write_rows(data, steps * size["batch"], tokens=size["tokens"])
            settings = {
                **size,
                "rows": str(data),
                "method": method,
                "dtype": dtype,
                "rate": RATES[method],
                **_begun(method, data, Path(folder), size),
            }
            rows += _compared(settings, Path(folder), told.peer)
            common.write_results("speed", rows, quick=told.quick)
            if not told.quick:
                _write_table(rows, size)


def _write_rows(path: Path, count: int, *, tokens: int) -> None:
    """Write the first preferences that are surely not cut: a token is 2.5 characters or more, nearly always."""
    found = read_rows(common.data_folder("preferences") / "dpo_en_demo.json", Preference)
    short = [row for row in found if _characters(row) < 2.5 * tokens]
    write_text(path, dump_jsonl(short[:count]))


def _begun(method: str, data: Path, folder: Path, size: dict[str, int]) -> dict[str, Any]:
    """Return the order in which burnish's steps read the rows, and where the factors are that both begin with."""
    task = Prefer(max_tokens=size["tokens"])
    _, built, model = begun(task, method)
    items = task.encode(read_jsonl(data, Preference), built).items
    plan = Plan(tuple(item.tokens for item in items), size["batch"], 1, 0)
    factors = folder / "factors.safetensors"
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items() if ".lora_" in name}, factors)
    return {
        "order": [place for step in range(plan.steps) for place in plan.rows(step)],
        "factors": str(factors),
    }


def _characters(row: Preference) -> int:
    prompt = row.prompt if isinstance(row.prompt, str) else "".join(message.content for message in row.prompt)
    return len(prompt) + max(len(row.chosen), len(row.rejected))


def _compared(settings: dict[str, Any], folder: Path, peer: str) -> list[dict[str, Any]]:
    """Return a row for each system."""
    turns: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    for turn in range(settings["turns"]):
        for system in sorted(SYSTEMS, reverse=bool(turn % 2)):
            turns[system].append(_turn({**settings, "system": system}, folder, peer))
            print(settings["method"], system, turns[system][-1], flush=True)
    ours = turns["burnish"]
    return [_row(system, turns[system], ours, settings) for system in SYSTEMS]


def _row(
    system: str, found: list[dict[str, Any]], ours: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return what one system's turns came to, held against ours."""
    name, how = SYSTEMS[system]
    speed, whole = median(map(_speed, found)), median(_speed_with_reference(turn) for turn in found)
    pairs = zip(ours[0]["losses"], found[0]["losses"], strict=True)
    return {
        "workload": f"DPO, SmolLM2-135M, {settings['method']}",
        "peer": name,
        "settings": how,
        "dtype": settings["dtype"],
        "method": settings["method"],
        "tokens_per_second": speed,
        "tokens_per_second_with_reference": whole,
        "seconds": found[0]["seconds"],
        "seconds_reference": found[0]["before"],
        "tokens": found[0]["tokens"],
        "peak_mb": median(turn["peak_mb"] for turn in found),
        "losses": found[0]["losses"],
        "loss_gap": max(abs(one - other) for one, other in pairs),
        "turns": len(found),
        "ratio": median(map(_speed, ours)) / speed,
        "ratio_with_reference": median(map(_speed_with_reference, ours)) / whole,
    }


def _speed(turn: dict[str, Any]) -> float:
    """Return tokens a second of the steps behind the first."""
    return float(sum(turn["tokens"][1:]) / sum(turn["seconds"][1:]))


def _speed_with_reference(turn: dict[str, Any]) -> float:
    """Return the same with these steps' share of what was read before the first one."""
    timed = sum(turn["tokens"][1:])
    before = turn["before"] * timed / sum(turn["tokens"])
    return float(timed / (sum(turn["seconds"][1:]) + before))


def _turn(settings: dict[str, Any], folder: Path, peer: str) -> dict[str, Any]:
    """Run one system in a process of its own, and return what it tells."""
    asked, told = folder / "asked.json", folder / "told.json"
    asked.write_text(json.dumps({**settings, "told": str(told)}))
    beside = os.pathsep.join(filter(None, [peer, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": beside, "HF_HUB_OFFLINE": "1"}
    environment |= {"BURNISH_CACHE": tempfile.mkdtemp(dir=folder), "ACCELERATE_USE_CPU": "true"}
    if torch.accelerator.is_available():
        del environment["ACCELERATE_USE_CPU"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(asked)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{settings['system']}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(told.read_text())
    return found


def _write_table(rows: Sequence[dict[str, Any]], size: dict[str, int]) -> None:
    headings = [
        "system",
        "settings",
        "format",
        "tokens/s",
        "ours / theirs",
        "with reference",
        "peak MB",
        "mean loss",
        "gap",
    ]
    lines = [
        [
            row["peer"],
            row["settings"],
            row["dtype"],
            f"{row['tokens_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_with_reference']:.2f}",
            f"{row['peak_mb']:,.0f}",
            f"{fmean(row['losses']):.5f}",
            f"{row['loss_gap']:.5f}",
        ]
        for row in rows
    ]
    common.write_table(
        "speed", "Speed of a preference step", headings, lines, NOTE.format(**size, timed=len(rows[0]["losses"]) - 1)
    )


if __name__ == "__main__":
    main()
