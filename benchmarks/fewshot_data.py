"""The tasks of benchmarks/fewshot.py: sources that a start is learned from, and tasks held out, with our templates."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from common import ROOT, data_folder

from burnish.choice_rows import Choice
from burnish.ladder_recipe import Ladder
from burnish.preference_rows import Preference
from burnish.prepare.draw import drawn
from burnish.prepare.synthesize import sample
from burnish.recipe import read_recipe
from burnish.records import Labelled, Record, dump_jsonl
from burnish.run import write_text
from burnish.steps.ladder import prepared
from burnish.tables import read_rows

SEED = 0
WORDS = 60  # of a text; longer ones are cut
OTHERS = 3  # wrong choices beside the right one, where choices are texts
# Words of Banking77's labels that make a coarse group, the first that fits.
GROUPS = {
    "transfers": ("transfer", "beneficiary", "receiving_money"),
    "topping up": ("top_up", "topping"),
    "exchange": ("exchange", "currency", "fiat"),
    "cash": ("cash", "atm", "withdrawal"),
    "cards": ("card", "pin", "contactless", "apple_pay"),
    "identity": ("identity", "verify", "details", "passcode", "age_limit", "country"),
    "payments": ("payment", "charge", "refund", "debit", "fee", "statement"),
}


@dataclass(frozen=True)
class Given:
    """A task: its rows to learn from and to test, and how they are asked about. held_out: no start has seen it."""

    name: str
    train: Sequence[Record]
    test: Sequence[Record]
    templates: tuple[Mapping[str, Any], ...] = ()
    held_out: bool = False

    def written(self, folder: Path) -> dict[str, Any]:
        """Write both tables; return what a recipe of many tasks says of this one."""
        for side, rows in (("train", self.train), ("test", self.test)):
            write_text(folder / f"{self.name}.{side}.jsonl", dump_jsonl(rows))
        task = {"kind": "fewshot", **({"templates": self.templates} if self.templates else {})}
        places = {side: str(folder / f"{self.name}.{side}.jsonl") for side in ("train", "test")}
        return {**places, "task": task}


def tasks(work: Path, *, quick: bool) -> list[Given]:
    """Return all tasks, each with at most so many rows."""
    most = 48 if quick else 400
    made = [*_banking(), _same(), _pubmed(), _begin(), _summaries(), _preferences(), _functions(work)]
    return [
        Given(
            one.name,
            drawn(one.train, min(most, len(one.train)), seed=SEED),
            sample(one.test, 24 if quick else 100, seed=SEED),
            one.templates,
            one.held_out,
        )
        for one in made
    ]


def _banking() -> Iterator[Given]:
    """Yield Banking77 by coarse groups, and, held out, eight intents about cards and cash."""
    sides = {side: _intents(side) for side in ("train", "test")}
    asked = (
        {"ask": "A customer of a bank writes: {text}\nThis is about"},
        {"ask": "{text}\nWhich of these is it about: {choices}?"},
    )
    grouped = {
        side: [row.model_copy(update={"label": _group(str(row.label))}) for row in of] for side, of in sides.items()
    }
    held = sorted({str(row.label) for row in sides["train"] if _group(str(row.label)) == "identity"})[:8]
    coarse = {side: [row for row in of if row.label not in ("identity", "others")] for side, of in grouped.items()}
    yield Given("groups", coarse["train"], coarse["test"], asked)
    fine = {side: [row for row in of if row.label in held] for side, of in sides.items()}
    yield Given("intents", fine["train"], fine["test"], asked, held_out=True)


def _intents(side: str) -> list[Labelled]:
    columns = {"text": "text", "label": "category"}
    return [*read_rows(data_folder("banking77") / f"{side}.csv", Labelled, columns)]


def _group(label: str) -> str:
    found = (group for group, parts in GROUPS.items() if any(part in label.lower() for part in parts))
    return next(found, "others")


def _same() -> Given:
    """Return pairs of messages, of one intent or of two; no intent of the task that is held out."""
    sides = {}
    for side in ("train", "test"):
        rows = [row for row in _intents(side) if _group(str(row.label)) != "identity"]
        chance, made = Random(f"same {side}"), []
        for number in range(800):
            first = chance.choice(rows)
            alike = number % 2 == 0
            others = [row for row in rows if (row.label == first.label) == alike and row.id != first.id]
            second = chance.choice(others)
            made.append(
                Labelled(id=f"{side}:{number}", text=first.text, pair=second.text, label="yes" if alike else "no")
            )
        sides[side] = made
    asked = (
        {"ask": "1: {text}\n2: {pair}\nDo both ask for the same thing?"},
        {"ask": "{text}\n{pair}\nIs this one request, {choices}?"},
    )
    return Given("same_intent", sides["train"], sides["test"], asked)


def _pubmed() -> Given:
    """Return questions on abstracts with yes, no or maybe, held out; the official test ids are tested."""
    folder = data_folder("pubmedqa")
    found = json.loads((folder / "ori_pqal.json").read_text(encoding="utf-8"))
    official = json.loads((folder / "test_ground_truth.json").read_text(encoding="utf-8"))
    rows = [
        Labelled(
            id=key, text=_cut(str(row["LONG_ANSWER"])), pair=str(row["QUESTION"]), label=str(row["final_decision"])
        )
        for key, row in found.items()
    ]
    asked = (
        {"ask": "{text}\nDoes this answer the question with {choices}? {pair}"},
        {"ask": "Question: {pair}\nFinding: {text}\nSo the answer is"},
    )
    sides = ([row for row in rows if row.id not in official], [row for row in rows if row.id in official])
    return Given("decisions", *sides, asked, held_out=True)


def _begin() -> Given:
    """Return answers of a dialogue with their knowledge, borne by it or not, held out."""
    sides = []
    for part in ("wow", "cmu"):
        table = data_folder("begin") / f"begin_dev_{part}.tsv"
        found = read_rows(table, Labelled, {"text": "knowledge", "pair": "response", "label": "begin_label"})
        words = {"Fully attributable": "yes"}
        sides.append(
            [row.model_copy(update={"text": _cut(row.text), "label": words.get(str(row.label), "no")}) for row in found]
        )
    asked = (
        {"ask": "Known: {text}\nSaid: {pair}\nIs all that is said known?"},
        {"ask": "{text}\nDoes it follow that: {pair}"},
    )
    return Given("borne", *sides, asked, held_out=True)


def _summaries() -> Given:
    """Return abstracts with their summary among those of others."""
    sides = []
    for side in ("train", "test"):
        lines = (data_folder("scitldr") / f"{side}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in islice(lines, 800)]
        told = [(_cut(" ".join(row["source"])), _cut(" ".join(row["target"][0].split()), 30)) for row in rows]
        sides.append(_choices(f"summary {side}", told, "{}\nIn one sentence:"))
    return Given("summaries", *sides)


def _functions(work: Path) -> Given:
    """Return descriptions of the library's functions with their name among others."""
    recipe = read_recipe(ROOT / "src" / "burnish" / "recipes" / "demo.yaml", Ladder)
    data = prepared(recipe, work / "stdlib", progress=lambda *_: None)
    sides = [
        _choices(
            f"function {side}",
            [(_cut(row.question), row.answers[0]) for row in of if row.answers],
            "Which function of the standard library does this: {}",
        )
        for side, of in (("train", data.train), ("test", data.test))
    ]
    return Given("functions", *sides)


def _preferences() -> Given:
    """Return prompts with the better of two answers; every fifth row is tested."""
    rows = read_rows(data_folder("preferences") / "dpo_en_demo.json", Preference)
    made = []
    for number, row in enumerate(rows):
        prompt = row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content
        pair = (_cut(row.chosen, 40), _cut(row.rejected, 40))
        if pair[0] != pair[1]:
            made.append(
                Choice(id=str(number), prompt=_cut(prompt), choices=pair[:: 1 if number % 2 else -1], answer=pair[0])
            )
    return Given("preferences", [r for n, r in enumerate(made) if n % 5], made[::5])


def _choices(name: str, told: Sequence[tuple[str, str]], ask: str) -> list[Choice]:
    """Return each text with its own answer among some of the others'."""
    chance, made = Random(name), []
    for number, (text, answer) in enumerate(told):
        others = [other for _, other in chance.sample(told, min(len(told), 4 * OTHERS)) if other != answer]
        wrong = [*dict.fromkeys(others)][:OTHERS]
        if answer and wrong:
            choices = chance.sample([answer, *wrong], 1 + len(wrong))
            made.append(Choice(id=f"{name}:{number}", prompt=ask.format(text), choices=tuple(choices), answer=answer))
    return made


def _cut(text: str, words: int = WORDS) -> str:
    """Return the first words, and of words without end (a table, a formula) ten letters each."""
    return " ".join(text.split()[:words])[: 10 * words]
