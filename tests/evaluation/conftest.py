"""A finished ladder, made up: twelve rungs, two trainings, and samples; plain, or written by someone hostile."""

import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ATTACKS = (
    "<script>alert(1)</script>",
    "</script></style></pre></details>",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover=alert(1) x='",
    "javascript:alert(1)",
    "\x1b[31mred\x1b[0m\x07",
    "{{ 7919 * 7919 }}{% raw %}",
    "\u202eevil\u2028\u2029\ufffe$x_1$",
)
# name, value, trained weights, seconds
RETRIEVAL = (
    ("BM25", 0.361, 0, 0.8),
    ("off-the-shelf dense", 0.522, 0, 61.0),
    ("hybrid: BM25 and off-the-shelf dense", 0.548, 0, 61.4),
    ("dense, head alone fine-tuned", 0.561, 148_224, 96.0),
    ("dense, fine-tuned without hard negatives", 0.609, 22_713_216, 141.0),
    ("dense, fine-tuned with mined hard negatives", 0.634, 22_713_216, 188.0),
    ("hybrid: BM25 and fine-tuned dense", 0.641, 22_713_216, 189.0),
)
ANSWERS = (
    ("no passages", 0.007, 0, 40.0, (0, 0, 1, 149)),
    ("few-shot, off-the-shelf dense", 0.087, 0, 92.0, (12, 84, 1, 53)),
    ("zero-shot, off-the-shelf dense", 0.113, 0, 66.0, (16, 80, 1, 53)),
    ("zero-shot, best retriever", 0.14, 0, 66.5, (20, 97, 1, 32)),
    ("LoRA fine-tuned, best retriever", 0.553, 4_884_480, 214.0, (82, 35, 1, 32)),
)


def score(value: float, n: int, wide: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - wide), "high": value + wide, "n": n}


def versus(before: str, metric: str, difference: float) -> dict[str, Any]:
    p = 0.0002 if abs(difference) > 0.03 else 0.214
    low, high = difference - 0.029, difference + 0.03
    return {"name": before, "metric": metric, "difference": difference, "low": low, "high": high, "p": p, "wins": 9}


def rungs() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, value, trainable, seconds in RETRIEVAL:
        metrics = {"nDCG@10": value, "Recall@1": value * 0.75, "Recall@10": value * 1.21, "MRR@10": value * 0.94}
        scores = {label: score(mean, 410, 0.034) for label, mean in metrics.items()}
        gain = versus(found[-1]["name"], "nDCG@10", value - found[-1]["scores"]["nDCG@10"]["value"]) if found else None
        one = {"name": name, "kind": "retrieval", "scores": scores, "seconds": seconds, "trainable": trainable}
        found.append({**one, "versus": gain, "quadrants": None, "ceiling": None})
    keys = ("retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong")
    for name, value, trainable, seconds, counts in ANSWERS:
        scores = {"exact match": score(value, 150, 0.07), "token F1": score(value + 0.08, 150, 0.06)}
        last = found[-1]["scores"].get("exact match")
        gain = versus(found[-1]["name"], "exact match", value - last["value"]) if last else None
        ceiling = sum(counts[:2]) / 150 or None
        one = {"name": name, "kind": "answer", "scores": scores, "seconds": seconds, "trainable": trainable}
        quadrants = dict(zip(keys, counts, strict=True))
        found.append({**one, "versus": gain, "quadrants": quadrants, "ceiling": ceiling})
    return found


def ladder() -> dict[str, Any]:
    return {
        "name": "demo",
        "rungs": rungs(),
        "verdict": (
            "LoRA fine-tuned, best retriever pays: +0.413 exact match against zero-shot, best retriever "
            "[+0.384, +0.443]. dense, fine-tuned with mined hard negatives pays: +0.112 nDCG@10 against off-the-shelf "
            "dense [+0.083, +0.142]. Not better by more than chance explains: hybrid: BM25 and fine-tuned dense over "
            "dense, fine-tuned with mined hard negatives."
        ),
        "main": {"retrieval": "nDCG@10", "answer": "exact match"},
        "device": "CPU, 2 cores, bf16",
        "versions": {"python": "3.11.9", "burnish": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "seed": 13,
        "seconds": 661.4,
        "peak_mb": 4312.7,
        "best_retriever": "hybrid: BM25 and fine-tuned dense",
    }


def card() -> dict[str, Any]:
    return {
        "passages": 4812,
        "questions": {"train": 3011, "dev": 409, "test": 410},
        "groups": {"train": 141, "dev": 33, "test": 37},
        "rejected": {"no docstring": 8123, "duplicate passage": 61, "leak out of train": 12},
        "words_per_passage": {"least": 6, "half": 58, "p90": 221, "p99": 688, "most": 2904},
        "words_per_question": {"least": 14, "half": 21, "p90": 39, "p99": 71, "most": 166},
        "fingerprint": "58a1c0de9f3b7a12",
        "name": "stdlib",
        "seed": 13,
        "shares": {"train": 0.8, "dev": 0.1, "test": 0.1},
        "largest_component": 0.0731,
        "leaks_left": 0,
        "leaks": [],
        "near_duplicates": [[f"mailbox.{one}.lock", f"mailbox.{one}.unlock"] for one in range(40)],
    }


def samples(hostile: str = "") -> list[dict[str, Any]]:
    asked = (
        "Return True if the file is a zip archive, False otherwise",
        "Split a pathname into drive and path; on other systems than Windows the drive is always empty",
        "Run the event loop until a future is done and return its result, or raise what it raised",
    )
    rows = []
    for number in range(24):
        names = [f"module{(number + place) % 9}.Class.function_{place}" for place in range(5)]
        body = "def function(self, path):\n    try:\n        with open(path, 'rb') as file:\n            return True\n"
        found = [{"id": name, "title": name, "text": body + "    # é 漢\n" * place} for place, name in enumerate(names)]
        before, after = number % 5 == 4, number % 3 != 2
        rambling = "You can use the `os.path` module for that. It offers several functions " * 3
        rows.append(
            {
                "id": f"q{number}",
                "question": f"Which function of the standard library does this: {asked[number % 3]}? {hostile}",
                "answers": [names[number % 2]],
                "gold": [names[number % 2]],
                "passages": found,
                "before": {
                    "rung": "zero-shot, best retriever",
                    "text": names[number % 2] if before else rambling,
                    "right": before,
                },
                "after": {
                    "rung": "LoRA fine-tuned, best retriever",
                    "text": names[number % 2] if after else "os.path.join",
                    "right": after,
                },
            }
        )
    return rows


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_folder(run: Path, *, told: Mapping[str, Any] | None = None, rows: list[dict[str, Any]] | None = None) -> Path:
    (run / "data").mkdir(parents=True)
    (run / "ladder.json").write_text(json.dumps(told or ladder()), encoding="utf-8")
    (run / "data" / "card.json").write_text(json.dumps(card()), encoding="utf-8")
    (run / "samples.jsonl").write_text(lines(samples() if rows is None else rows), encoding="utf-8")
    for name, steps, metric in (("generator", 190, "exact match"), ("retriever", 66, "nDCG@10")):
        folder, noise = run / "trainings" / name, random.Random(steps)
        folder.mkdir(parents=True)
        log = [
            {
                "step": s,
                "of": steps,
                "loss": 0.4 + 2 * math.exp(-s / 25) + noise.gauss(0, 0.1),
                "lr": 1e-4,
                "grad_norm": 1.0,
            }
            for s in range(1, steps + 1)
        ]
        dev = [
            {"step": s, "metric": metric, "value": 0.63 - 0.1 * math.exp(-s / 20) - s * s / 1e6}
            for s in range(steps // 6, steps + 1, steps // 6)
        ]
        (folder / "log.jsonl").write_text(lines(log), encoding="utf-8")
        (folder / "dev.jsonl").write_text(lines(dev), encoding="utf-8")
    return run


def hostile_folder(run: Path) -> Path:
    attack = " ".join(ATTACKS)
    told = ladder()
    told |= {
        "name": attack,
        "verdict": attack,
        "device": attack,
        "versions": {attack: attack},
        "best_retriever": attack,
    }
    for rung in told["rungs"]:
        rung["name"] = f"{attack} {rung['name']}"
        rung["scores"] = {**rung["scores"], attack: score(0.5, 3, 0.1)}
        if rung["versus"]:
            rung["versus"]["name"] = attack
    rows = samples(attack)
    for row in rows:
        row |= {"answers": [attack], "id": row["id"] + attack}
        row["before"] |= {"rung": attack, "text": attack}
        row["after"] |= {"rung": attack, "text": attack}
        row["passages"] = [{"id": attack, "title": attack, "text": attack}]
    write_folder(run, told=told, rows=rows)
    told_card = card() | {attack: attack, "lists": [[attack]], "inside": {attack: {attack: [attack]}}}
    (run / "data" / "card.json").write_text(json.dumps(told_card), encoding="utf-8")
    return run


class Example:
    """What the made-up ladder holds, and how it is written to a folder."""

    attacks = ATTACKS
    rungs_made = (*RETRIEVAL, *ANSWERS)
    card = staticmethod(card)
    ladder = staticmethod(ladder)
    rungs = staticmethod(rungs)
    write = staticmethod(write_folder)
    write_hostile = staticmethod(hostile_folder)


@pytest.fixture(scope="session")
def example() -> type[Example]:
    return Example


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("runs") / "demo")
