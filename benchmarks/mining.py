"""Exact search over a memory-mapped file of synthetic vectors: memory, seconds, and what a kill -9 costs.

python benchmarks/mining.py [--quick] [--dtype F32|F16|BF16]   → benchmarks/results/mining.json

A child process searches, and tells its peak of resident memory (VmHWM). A second child is killed half-way; a third
goes on from its state. The results of the first and the third are compared byte for byte.
"""

import argparse
import json
import multiprocessing
import os
import re
import signal
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from common import write_results
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from burnish.models.topk import top_k
from burnish.models.vectors import TYPES, VectorFile, write_in_blocks
from burnish.run import checksum, write_json

WIDTH, K = 384, 100
FULL, QUICK = (1_000_000, 10_000), (100_000, 1_000)
MOST_MB = 4096  # of resident memory: what the search must stay under
WRITTEN = 8192  # vectors that are made at a time


def unit(first: int, rows: int) -> Tensor:
    """Return random vectors of unit length, the same for the same place."""
    made = torch.Generator().manual_seed(first)
    return functional.normalize(torch.randn(rows, WIDTH, generator=made), dim=1)


def peak_mb() -> float:
    """Return the largest resident memory that this process ever had, in MB, as the kernel counted it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def search(folder: Path, name: str, queries: int, pipe: Connection) -> None:
    """Search the file, tell how far it is, and write what was found and what it took."""
    began = time.perf_counter()
    passages = VectorFile.open(folder / "vectors.safetensors")
    asked = unit(2**40, queries)
    state = folder / f"{name}.state"
    heard = lambda done, of: pipe.send((done, of))  # noqa: E731
    scores, rows = top_k(asked, passages, K, state=state, every=0.1, progress=heard)
    save_file({"scores": scores, "rows": rows}, folder / f"{name}.safetensors")
    write_json(folder / f"{name}.json", {"seconds": time.perf_counter() - began, "peak_mb": peak_mb()})


def child(folder: Path, name: str, queries: int, *, kill_at: float = 2.0) -> dict[str, Any]:
    """Run a search in a process of its own; kill it once such a share of the passages is done.

    Return what it wrote, with the share at which it began; for a killed one, the share at which it was killed.

    Raises:
        SystemExit: the search failed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=search, args=(folder, name, queries, theirs))
    process.start()
    theirs.close()
    begun, share = None, 0.0
    while share < kill_at:
        try:
            done, of = ours.recv()
        except EOFError:
            break
        share = done / of
        begun = share if begun is None else begun
    if share >= kill_at and process.pid:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return {"killed_at": share}
    if process.exitcode:
        raise SystemExit(f"the search ended with exit code {process.exitcode}")
    return {"begun_at": begun, **json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))}


def measured(folder: Path, rows: int, queries: int, dtype: str) -> dict[str, Any]:
    """Write the vectors, search them whole, then killed and resumed; return the row of the results.

    Raises:
        SystemExit: the search could not be killed half-way.
    """
    path = folder / "vectors.safetensors"
    shape = (rows, WIDTH)
    write_in_blocks(path, lambda a, b: (unit(a, b - a), 0), shape=shape, dtype=TYPES[dtype], block=WRITTEN)
    whole = child(folder, "whole", queries)
    killed = child(folder, "resumed", queries, kill_at=0.5)
    if (folder / "resumed.safetensors").exists() or not (folder / "resumed.state").is_file():
        raise SystemExit("the search was not killed half-way: it was too fast, or wrote no state")
    resumed = child(folder, "resumed", queries)
    same = checksum(folder / "whole.safetensors") == checksum(folder / "resumed.safetensors")
    peak = max(whole["peak_mb"], resumed["peak_mb"])
    return {
        "workload": f"{rows:,} vectors of {WIDTH} in {dtype}, {queries:,} queries, the best {K}",
        "file_mb": path.stat().st_size / 2**20,
        "seconds": whole["seconds"],
        "peak_mb": peak,
        "within_4_gb": peak < MOST_MB,
        "killed_at": killed["killed_at"],
        "resumed_at": resumed["begun_at"],
        "resumed_seconds": resumed["seconds"],
        "byte_identical": same,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Measure, write the results, and fail where a promise does not hold.

    Raises:
        SystemExit: the search took too much memory, or a resumed one found something else.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 vectors and 1,000 queries: a check that it runs")
    parser.add_argument("--dtype", choices=TYPES, default="F32", help="how the vectors are stored")
    options = parser.parse_args()
    rows, queries = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="burnish-mining-") as folder:
        row = measured(Path(folder), rows, queries, options.dtype)
    write_results("mining", [row], quick=options.quick)
    for name, value in row.items():
        print(f"{name:16} {value:,.1f}" if isinstance(value, float) and value > 1 else f"{name:16} {value}")
    if not (row["within_4_gb"] and row["byte_identical"]):
        raise SystemExit("the search took too much memory, or a resumed search found something else")


if __name__ == "__main__":
    main()
