"""Every method on two tasks: Banking77 with MiniLM, and SciTLDR summaries with SmolLM2.

python benchmarks/methods.py [--quick] [--work FOLDER]   → benchmarks/results/methods.json, docs/benchmarks.md
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from common import banking77, leaked, scitldr, write_results, write_table

from burnish.methods import Method
from burnish.recipe import Recipe
from burnish.records import Labelled, read_jsonl
from burnish.steps.methods import methods
from burnish.terminal import Screen


def classify_recipe(data: dict[str, str], *, quick: bool) -> Recipe:
    """Return the recipe of Banking77; the methods bring their own rates."""
    return Recipe.model_validate(
        {
            "task": {"kind": "classify", "max_tokens": 64},
            "model": "embedded/minilm",
            "method": {"kind": "full", "learning_rate": 5e-4},  # of 2e-4 and 5e-4 the better one on dev rows
            "data": data,
            "training": {"epochs": 2 if quick else 5, "batch": 32, "evaluations": 1, "dropout": 0.0},
        }
    )


def summary_recipe(data: dict[str, str], *, quick: bool) -> Recipe:
    """Return the recipe of SciTLDR."""
    return Recipe.model_validate(
        {
            "task": {
                "kind": "generate",
                "metrics": [{"kind": "rouge", "variant": "l"}, {"kind": "rouge", "variant": "1"}, "perplexity"],
                "max_tokens": 768,
                "max_new_tokens": 48,
            },
            "model": "embedded/smollm2",
            "method": "lora",
            "data": data,
            "training": {"epochs": 1, "batch": 4 if quick else 8, "micro_tokens": 2048, "evaluations": 0},
        }
    )


def without_leaks(folder: Path, data: dict[str, str], method: str) -> dict[str, float]:
    """Return the accuracy on the test rows that do not stand in the training rows, and how many do."""
    train, test = (read_jsonl(Path(data[side]), Labelled) for side in ("train", "test"))
    seen = leaked(train, test)
    lines = (folder / f"{method}-0" / "evaluation" / "test.predictions.jsonl").read_text(encoding="utf-8").splitlines()
    said = {line["id"]: line["answers"] for line in map(json.loads, lines)}
    clean = [row for row in test if row.id not in seen]
    right = sum(said[row.id] == row.label for row in clean)
    return {"unleaked": right / len(clean), "leaked_rows": len(seen)}


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows: a check that it runs, no result to quote")
    parser.add_argument("--work", type=Path, help="keep runs here, and go on with what is finished")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="burnish-methods-"))
    quick = options.quick
    rows: list[dict[str, Any]] = []
    lines: list[list[str]] = []
    banking = banking77(work / "banking77", train_rows=770 if quick else None, test_rows=154 if quick else None)
    papers = scitldr(work / "scitldr", train_rows=16 if quick else 64, test_rows=8 if quick else 32)
    jobs = [
        ("Banking77", classify_recipe(banking, quick=quick), banking),
        ("SciTLDR", summary_recipe(papers, quick=quick), papers),
    ]
    with Screen() as screen:
        for name, recipe, data in jobs:
            screen.say(f"{name}:")
            folder = work / f"{name}-runs"
            names = Method.names()
            found = methods(recipe, folder, names=names, seeds=options.seeds, say=screen.say, progress=screen.progress)
            for measured in found["rows"]:
                row = {"task": name, "model": recipe.model, **measured}
                if name == "Banking77" and "refused" not in row:
                    row |= without_leaks(folder, data, row["method"])
                rows.append(row)
                lines.append(table_line(row))
    write_results("methods", rows, quick=quick)
    if not quick:
        headings = ["task", "method", "score", "without leaked rows", "trained", "seconds", "peak MB", "MB on disk"]
        note = "Written by `python benchmarks/methods.py`; shipped settings, seconds of training alone."
        write_table("methods", "Methods", headings, lines, note)
    for line in lines:
        print(" | ".join(line))


def table_line(row: dict[str, Any]) -> list[str]:
    """Return a row of the page's table."""
    if "refused" in row:
        return [row["task"], row["method"], "does not fit: " + row["refused"], "", "", "", "", ""]
    score = f"{row['metric']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
    clean = f"{row['unleaked']:.3f}" if "unleaked" in row else ""
    costs = [f"{row['trainable']:,}", f"{row['seconds']:.0f}", f"{row['peak_mb']:,.0f}", f"{row['adapter_mb']:.2f}"]
    return [row["task"], row["method"], score, clean, *costs]


if __name__ == "__main__":
    main()
