"""Speed: burnish beside each peer, on the same rows, in the same batches, with the same weights to begin with.

python benchmarks/speed.py [--quick] [--workloads dpo,sft] [--turns 1] [--peer FOLDER]
→ benchmarks/results/speed.json, docs/benchmarks.md

Peers need `pip install trl datasets`, or --peer, a folder that holds them (`pip install --target FOLDER --no-deps …`).
Each turn is a process of its own, whose peak memory is told; systems take turns, and the median counts. The first step
warms up, and is not timed. On a processor, seconds are those that the process had of it: what else the machine does
counts for little, if OMP_NUM_THREADS is 1. Workloads that are not asked for keep the rows of earlier runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from common import RESULTS, names, write_results, write_table
from speed_work import MODELS, Asked, Told, Work, clock

from burnish.run import read_json
from burnish.train.processes import processes

SCRIPT = Path(__file__).with_name("speed_turn.py")
WORKLOADS: dict[str, Work] = {
    name: import_module(f"speed_{name}").WORK
    for name in ("retriever", "encode", "mine", "classify", "sft", "dpo", "joint", "generate", "metrics")
}
OURS = "burnish"
HEADINGS = (
    "workload",
    "system",
    "settings",
    "format",
    "a second",
    "tokens/s",
    "ours / theirs",
    "of the chip",
    "peak MB",
    "last loss",
    "gap",
)


def main() -> None:
    """Time every system on the workloads that are asked for, and write what came of it after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small steps of each: a check that it runs")
    parser.add_argument("--workloads", type=lambda text: names(text, WORKLOADS), default=[*WORKLOADS])
    parser.add_argument("--turns", type=int, default=1, help="of each system")
    parser.add_argument("--peer", default="", help="a folder with trl and datasets")
    told = parser.parse_args()
    path = RESULTS / "speed.json"
    earlier = read_json(path)["rows"] if path.is_file() and not told.quick else []
    rows = {name: [row for row in earlier if row.get("key") == name] for name in WORKLOADS}
    chip = chip_rates()
    for name in told.workloads:
        with tempfile.TemporaryDirectory() as folder:
            asked = {"workload": name, "turns": told.turns, "peer": told.peer, "quick": told.quick}
            rows[name] = compared(WORKLOADS[name], asked, Path(folder), chip)
        found = [row for each in rows.values() for row in each]
        write_results("speed", found, quick=told.quick)
        if not told.quick:
            write_page(found)


def chip_rates() -> dict[str, float]:
    """Return the operations a second of matrix products in both formats."""
    found = {name: gemm_rate(dtype) for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}
    print("matrix products, GFLOP/s:", {name: round(rate / 1e9) for name, rate in found.items()}, flush=True)
    return found


def gemm_rate(dtype: torch.dtype) -> float:
    """Return the operations a second of the best of a few square matrix products."""
    device = processes().device
    side = 2048 if device.type == "cpu" else 8192
    left, right = torch.randn(2, side, side, device=device).to(dtype).unbind()
    best = float("inf")
    for _ in range(5):
        began = clock()
        (left @ right).sum().item()
        best = min(best, clock() - began)
    return 2 * side**3 / best


def compared(work: Work, asked: Asked, folder: Path, chip: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row for each system. asked: the workload, turns, peer and quick, and what is given to `begin`."""
    asked = {**MODELS, **(work.quick if asked["quick"] else work.size), "module": work.turn.__module__, **asked}
    asked |= work.begin(folder, asked)
    turns: dict[str, list[Told]] = {system: [] for system in work.systems}
    for turn in range(asked["turns"]):
        for system in sorted(work.systems, reverse=bool(turn % 2)):
            turns[system].append(one_turn(work, {**asked, "system": system}, folder))
            told = {key: turns[system][-1][key] for key in ("seconds", "losses", "peak_mb")}
            print(asked["workload"], system, told, flush=True)
    flops = one_turn(work, {**asked, "system": OURS, "count": True}, folder)["flops"] if work.counted else 0.0
    return [row_of(work, system, turns, flops, chip, asked) for system in work.systems]


def row_of(
    work: Work, system: str, turns: Mapping[str, list[Told]], flops: float, chip: Mapping[str, float], asked: Asked
) -> dict[str, Any]:
    """Return what one system's turns came to, held against ours. flops: of all our steps."""
    found, ours = turns[system], turns[OURS]
    as_it_is, first = work.systems[system], found[0]
    alike = [one for one in [*turns.get(f"{OURS}-fp32", ()), *ours] if one["dtype"] == first["dtype"]]
    speed, whole = median(map(a_second, found)), median(with_before(turn) for turn in found)
    timed = sum(first["tokens"][1:])
    units = first.get("units", [asked["batch"]] * len(first["tokens"]))
    row = {
        "key": asked["workload"],
        "workload": work.label,
        "unit": work.unit,
        "peer": as_it_is.name,
        "settings": as_it_is.settings,
        "dtype": first["dtype"],
        "tokens_per_second": speed,
        "units_per_second": speed * sum(units[1:]) / timed,
        "tokens_per_second_with_before": whole,
        "seconds": first["seconds"],
        "seconds_before": first["before"],
        "tokens": first["tokens"],
        "peak_mb": median(turn["peak_mb"] for turn in found),
        "losses": first["losses"],
        "turns": len(found),
        "ratio": median(map(a_second, ours)) / speed,
        "ratio_with_before": median(map(with_before, ours)) / whole,
    }
    if alike and first["losses"]:
        row["loss_gap"] = max(abs(a - b) for a, b in zip(alike[0]["losses"], first["losses"], strict=True))
    if alike and "written" in first:
        row["same_answers"] = fmean(a == b for a, b in zip(alike[0]["written"], first["written"], strict=True))
    if flops and system == OURS:
        row["gflops_per_second"] = flops / sum(first["tokens"]) * speed / 1e9
        row["chip_gflops"] = chip[first["dtype"]] / 1e9
        row["share_of_chip"] = row["gflops_per_second"] / row["chip_gflops"]
    return row


def a_second(turn: Told) -> float:
    """Return tokens a second of the steps behind the first."""
    return float(sum(turn["tokens"][1:]) / sum(turn["seconds"][1:]))


def with_before(turn: Told) -> float:
    """Return the same with these steps' share of what was done before the first one."""
    timed = sum(turn["tokens"][1:])
    before = turn["before"] * timed / sum(turn["tokens"])
    return float(timed / (sum(turn["seconds"][1:]) + before))


def one_turn(work: Work, asked: Asked, folder: Path) -> Told:
    """Run one system in a process of its own, and return what it tells."""
    question, answer = folder / "asked.json", folder / "told.json"
    precision = work.systems[asked["system"]].precision
    question.write_text(json.dumps({**asked, "precision": precision, "told": str(answer)}))
    beside = os.pathsep.join(filter(None, [asked["peer"], os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": beside, "HF_HUB_OFFLINE": "1"}
    environment["BURNISH_CACHE"] = tempfile.mkdtemp(dir=folder)
    if not torch.accelerator.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(question)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{asked['workload']} {asked['system']}: {done.stderr[-2000:]}")
    found: Told = json.loads(answer.read_text())
    return found


def table_line(row: Mapping[str, Any]) -> list[str]:
    """Return a row of the page's table."""
    return [
        row["workload"] if row["peer"] == OURS and row["settings"] == "default" else "",
        row["peer"],
        row["settings"],
        {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16"}[row["dtype"]],
        f"{row['units_per_second']:,.1f} {row['unit']}",
        f"{row['tokens_per_second']:,.0f}",
        _ratio(row),
        f"{100 * row['share_of_chip']:.0f} %" if "share_of_chip" in row else "",
        f"{row['peak_mb']:,.0f}",
        f"{row['losses'][-1]:.4f}" if row["losses"] else "",
        _gap(row),
    ]


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put all rows into the page's table."""
    there = {row["key"] for row in rows}
    notes = " ".join(f"{work.label}: {work.note}" for name, work in WORKLOADS.items() if name in there)
    note = (
        "Written by `python benchmarks/speed.py`. Real tokens count, padding does not. Seconds are those of the "
        "processor, one thread, without the first step; all systems of a workload begin with the same weights and read "
        "the same rows in the same batches. `default` is each one's own, its number format included. In brackets: with "
        "what is read before the first step, as if there were but one epoch. `of the chip`: operations of matrix "
        "products that our steps make, counted, over what the chip gives in the best of five products of 2,048 by "
        "2,048. The gap is the largest between a system's loss and ours in the same format, in any step (autocast "
        f"rounds at other places than weights in bf16 do), or how many answers are ours word for word. {notes}"
    )
    write_table("speed", "Speed beside peers", HEADINGS, [*map(table_line, rows)], note)


def _gap(row: Mapping[str, Any]) -> str:
    if "same_answers" in row:
        return f"{100 * row['same_answers']:.0f} % alike"
    return f"{row['loss_gap']:.5f}" if "loss_gap" in row else ""


def _ratio(row: Mapping[str, Any]) -> str:
    with_it = f" ({row['ratio_with_before']:.2f})" if abs(row["ratio_with_before"] - row["ratio"]) > 0.005 else ""
    return f"{row['ratio']:.2f}{with_it}"


if __name__ == "__main__":
    main()
