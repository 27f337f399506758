"""Cost: how the seconds of a step grow with its rows and passages, and how much of what is computed is padding.

python benchmarks/cost.py [--quick] → benchmarks/results/cost.json, docs/cost.svg, docs/benchmarks.md

Each workload of benchmarks/speed.py named here is run by burnish at four sizes. Seconds are the processor's, of steps
behind the first, of which the fastest counts. The exponent is the slope of a straight line through ln seconds over ln
size: 1 where twice as much takes twice as long, below 1 where a step also has a cost of its own.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import speed_encode
import speed_joint
import speed_retriever
import speed_sft
from common import ROOT, write_results, write_table
from matplotlib.figure import Figure
from speed_work import MODELS, Work
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

STEPS = 4  # of each size, the first not timed


@dataclass(frozen=True)
class Growth:
    """A workload whose `key` is set to each of the sizes; small: those of a check that it runs."""

    name: str
    work: Work
    key: str
    what: str
    sizes: tuple[int, ...]
    small: tuple[int, ...]


GROWTHS = (
    Growth("encode", speed_encode.WORK, "batch", "passages", (32, 64, 128, 256), (8, 16)),
    Growth("retriever", speed_retriever.WORK, "batch", "pairs", (16, 32, 64, 128), (8, 16)),
    Growth("sft", speed_sft.WORK, "batch", "rows", (2, 4, 8, 16), (1, 2)),
    Growth("joint", speed_joint.WORK, "top_k", "passages a question", (2, 4, 8, 16), (2, 4)),
)


@dataclass
class Places:
    """Counts the places that the layers of networks compute, and the tokens that they compute them for."""

    computed: int = 0
    tokens: int = 0

    @property
    def padding(self) -> float:
        """The share of places that hold no token."""
        return 1 - self.tokens / self.computed if self.computed else 0.0

    def note(self, module: nn.Module, given: tuple[Any, ...], settings: Mapping[str, Any]) -> None:
        """Add what a layer computes, which may be less than its network was called with, or a network's tokens."""
        if isinstance(module, GradientCheckpointingLayer):
            states = given[0] if given else settings["hidden_states"]
            self.computed += states.shape[0] * states.shape[1]
        elif isinstance(ids := settings.get("input_ids"), Tensor) and _is_whole(module):
            mask = settings.get("attention_mask")
            network: Any = module
            self.tokens += network.config.num_hidden_layers * int(ids.numel() if mask is None else mask.sum())


def _is_whole(module: nn.Module) -> bool:
    """Tell whether a module is a transformer that has its embeddings, and not what holds one."""
    return any(hasattr(module, name) for name in ("embed_tokens", "embeddings"))


@contextmanager
def watched() -> Iterator[Places]:
    """Count the places of all networks while this lasts."""
    places = Places()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, settings, _: places.note(module, given, settings), with_kwargs=True
    )
    try:
        yield places
    finally:
        handle.remove()


def main() -> None:
    """Time every workload at every size, and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small sizes: a check that it runs")
    quick = parser.parse_args().quick
    rows = [row for growth in GROWTHS for row in grown(growth, quick=quick)]
    write_results("cost", rows, quick=quick)
    if not quick:
        draw(rows, ROOT / "docs" / "cost.svg")
        write_page(rows)


def grown(growth: Growth, *, quick: bool) -> list[dict[str, Any]]:
    """Return a row for each size."""
    rows = []
    for size in growth.small if quick else growth.sizes:
        with tempfile.TemporaryDirectory() as folder, watched() as places:
            base = {**MODELS, **growth.work.size, **({"batch": 2} if growth.key != "batch" else {})}
            asked = {**base, "steps": 2 if quick else STEPS, growth.key: size, "precision": "auto", "system": "burnish"}
            asked |= growth.work.begin(Path(folder), asked)
            places.computed = places.tokens = 0
            told = growth.work.turn({**asked, "told": str(Path(folder) / "told.json")})
        each = [a / b for a, b in zip(told["seconds"], told.get("units", [1] * len(told["seconds"])), strict=True)]
        seconds = min(each[1:]) * (size if "units" in told else 1)
        row = {"workload": growth.name, "label": growth.work.label, "what": growth.what, "size": size}
        row |= {"seconds": seconds, "all_seconds": told["seconds"], "tokens": told["tokens"], "dtype": told["dtype"]}
        rows.append({**row, "padding": places.padding})
        print(growth.name, size, f"{seconds:.2f} s", f"{100 * rows[-1]['padding']:.1f} % padding", flush=True)
    return rows


def exponent(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the slope of a straight line through ln seconds over ln size."""
    sizes, seconds = (np.log([row[key] for row in rows]) for key in ("size", "seconds"))
    return float(np.polyfit(sizes, seconds, 1)[0])


def by_workload(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rows of each workload."""
    return {
        name: [row for row in rows if row["workload"] == name] for name in dict.fromkeys(r["workload"] for r in rows)
    }


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw seconds over size for each workload, beside a line through its largest size whose slope is 1."""
    groups = by_workload(rows)
    with mpl.rc_context({"svg.hashsalt": "burnish", "svg.fonttype": "none"}):
        figure = Figure(figsize=(3 * len(groups), 3), layout="constrained")
        for axis, own in zip(figure.subplots(1, len(groups)), groups.values(), strict=True):
            sizes, seconds = ([row[key] for row in own] for key in ("size", "seconds"))
            axis.plot(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], "--", color="0.6", label="linear")
            axis.plot(sizes, seconds, "o-", color="#1f5fa8", label=f"measured, exponent {exponent(own):.2f}")
            axis.set(xscale="log", yscale="log", xlabel=own[0]["what"], title=own[0]["label"].partition(",")[0])
            axis.set_xticks(sizes, [str(size) for size in sizes])
            axis.minorticks_off()
            axis.set_yticks(seconds, [f"{value:.2g}" for value in seconds])
            axis.legend(frameon=False, fontsize="small")
        figure.axes[0].set_ylabel("seconds a step")
        figure.savefig(path, metadata={"Date": None})


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put all rows into the page's table."""
    lines = []
    for own in by_workload(rows).values():
        for row in own:
            first = row is own[0]
            lines.append(
                [
                    row["label"] if first else "",
                    f"{row['size']} {row['what']}",
                    f"{row['seconds']:.2f}",
                    f"{100 * row['padding']:.1f} %",
                    f"{exponent(own):.2f}" if first else "",
                ]
            )
    note = (
        "Written by `python benchmarks/cost.py`. Seconds are the processor's of the fastest step behind the first, one "
        "thread. Exponent: the slope of ln seconds over ln size; 1 is linear. Padding: of the places that all layers "
        "compute in these runs, those without a token.\n\n![Seconds over size](cost.svg)"
    )
    write_table("cost", "How cost grows", ("workload", "size", "seconds", "padding", "exponent"), lines, note)


if __name__ == "__main__":
    main()
