"""What the benchmarks share: the real data sets, a place for results, and the tables in docs/benchmarks.md."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.models.precision import device_words
from burnish.prepare.leaks import Text, leaks
from burnish.prepare.stratify import split_labelled
from burnish.prepare.synthesize import sample
from burnish.records import Completion, Labelled, Message, dump_jsonl
from burnish.run import versions, write_json, write_text
from burnish.tables import read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"


def data_folder(name: str) -> Path:
    """Return the folder of a data set: under $BURNISH_DATA, or `shared/data` in or beside the repository."""
    places = [os.environ.get("BURNISH_DATA"), ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    for place in places:
        if place and (Path(place) / name).is_dir():
            return Path(place) / name
    sys.exit(f"the data set {name} is not there: name the folder that holds it in BURNISH_DATA")


def banking77(folder: Path, *, train_rows: int | None, test_rows: int | None, seed: int = 0) -> dict[str, str]:
    """Write Banking77's sides as tables: a tenth of its training rows, stratified, is the dev side."""
    source = data_folder("banking77")
    columns = {"text": "text", "label": "category"}
    rows = read_rows(source / "train.csv", Labelled, columns)
    test = read_rows(source / "test.csv", Labelled, columns)
    sides = split_labelled(rows, shares={"train": 0.9, "dev": 0.1}, seed=seed)
    train, dev = ([row for row, on in zip(rows, sides, strict=True) if on == side] for side in ("train", "dev"))
    train, dev = sample(train, train_rows, seed=seed), sample(dev, train_rows and train_rows // 5, seed=seed)
    return _written(folder, {"train": train, "dev": dev, "test": sample(test, test_rows, seed=seed)})


def leaked(train: Sequence[Labelled], test: Sequence[Labelled]) -> set[str]:
    """Return the ids of test rows that stand in the training rows, word for word or nearly."""
    ours = [Text(row.id, row.text) for row in test]
    return {leak.ours for leak in leaks(ours, [Text(row.id, row.text) for row in train])}


def scitldr(folder: Path, *, train_rows: int | None, test_rows: int | None, seed: int = 0) -> dict[str, str]:
    """Write SciTLDR's sides as chats: an abstract, and its summary in one sentence."""
    source = data_folder("scitldr")
    sides = {side: _summaries(source / f"{side}.jsonl") for side in ("train", "dev", "test")}
    cut = {"train": train_rows, "dev": 8 if train_rows else 64, "test": test_rows}
    return _written(folder, {side: sample(rows, cut[side], seed=seed) for side, rows in sides.items()})


def _summaries(path: Path) -> list[Completion]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        text = " ".join(" ".join(row["source"]).split())
        first, *others = [" ".join(target.split()) for target in row["target"]]
        ask = Message(role="user", content=f"Summarize the abstract in one sentence.\n\n{text}")
        rows.append(Completion(id=f"{path.stem}:{number}", prompt=(ask,), completion=first, others=tuple(others)))
    return rows


def _written(folder: Path, sides: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    for side, rows in sides.items():
        write_text(folder / f"{side}.jsonl", dump_jsonl(rows))
    return {side: str(folder / f"{side}.jsonl") for side in sides}


def write_results(name: str, rows: Sequence[Mapping[str, Any]], *, quick: bool) -> None:
    """Write `results/NAME.json`; a quick run has a file of its own."""
    found = {"rows": rows, "versions": versions(), "device": device_words(), "seed": 0}
    found["command"] = f"python benchmarks/{name}.py{' --quick' if quick else ''}"
    write_json(RESULTS / f"{name}{'-quick' if quick else ''}.json", found)


def write_table(name: str, title: str, headings: Sequence[str], lines: Sequence[Sequence[str]], note: str) -> None:
    """Put a table into docs/benchmarks.md, in the place of the one that stands there under this name."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    table = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}", *(f"| {' | '.join(row)} |" for row in lines)]
    block = "\n".join([first, f"## {title}", "", *table, "", note, last])
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "# Benchmarks\n"
    if first in text:
        text = text[: text.index(first)] + block + text[text.index(last) + len(last) :]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    write_text(PAGE, text)


def names(text: str, known: Mapping[str, Any]) -> list[str]:
    """Return the names that are asked for, in the order in which they are known; all, where none are.

    Raises:
        ArgumentTypeError: one is not known.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; there are {', '.join(known)}")
    return [name for name in known if name in asked or not asked]


def bounded(found: Mapping[str, Any], key: str = "value") -> str:
    """Return a value, or a difference, with its interval."""
    sign = "+" if key == "difference" else ""
    value, low, high = (f"{found[name]:{sign}.3f}" for name in (key, "low", "high"))
    return f"{value} [{low}, {high}]"


def json_object(values: Mapping[str, str]) -> str:
    """Return JSON texts as an object, one a line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {value}" for name, value in values.items()) + "\n}"
