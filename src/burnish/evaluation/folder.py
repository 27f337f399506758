"""The folder of a finished ladder, read and checked: everything that the report is made from."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, ValidationError, model_validator

from burnish.errors import DataError, near_miss
from burnish.records import raise_faults, read_jsonl
from burnish.spec import Spec, faults
from burnish.text import printable

Card = dict[str, Any]  # plain numbers, texts, lists and dictionaries
Kind = Literal["retrieval", "answer"]
State = Literal["fixed", "broken", "wrong", "right"]
_MISLEADING = re.compile("[\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")

W = TypeVar("W", bound="Written")


def shown(text: str) -> str:
    """Return the text without control characters and terminal escapes; what could mislead the eye becomes U+FFFD.

    That is: halves of characters, what XML forbids, and what turns the direction of writing around
    (Boucher and Anderson 2021, arXiv 2111.00169).
    """
    return _MISLEADING.sub("\ufffd", printable(text))


Text = Annotated[str, BeforeValidator(lambda value: shown(value) if isinstance(value, str) else value)]


class Written(Spec):
    """What a file of the folder says; keys that the report has no use for are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Score(Written):
    """A mean over n questions, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Versus(Written):
    """The paired difference to the rung `name`: ours minus theirs, its 95 % interval and its p-value."""

    name: Text
    metric: Text
    difference: float
    low: float
    high: float
    p: float


class Quadrants(Written):
    """Answers counted by whether a gold passage was among those shown, and whether the answer is right."""

    retrieved_right: int
    retrieved_wrong: int
    missed_right: int
    missed_wrong: int


class Rung(Written):
    """One system on the ladder."""

    name: Text
    kind: Kind
    scores: dict[Text, Score]
    seconds: float
    trainable: int  # weights that moved for this rung
    versus: Versus | None = None
    quadrants: Quadrants | None = None
    ceiling: float | None = None  # share of the questions whose gold passage was shown

    @property
    def tuned(self) -> bool:
        """Whether something was trained for this rung."""
        return self.trainable > 0


class Ladder(Written):
    """`ladder.json`: the rungs in their order, what they were measured with, and the verdict."""

    name: Text
    rungs: tuple[Rung, ...]
    verdict: Text
    advice: tuple[Text, ...] = ()  # what may help where a rung was not better than another
    notes: tuple[Text, ...] = ()  # what was decided on the way
    main: dict[Kind, Text]  # the metric that the rungs of a kind are compared on
    device: Text
    versions: dict[Text, Text]
    seed: int
    seconds: float
    peak_mb: float
    best_retriever: Text

    @model_validator(mode="after")
    def _has_main_scores(self) -> "Ladder":
        for rung in self.rungs:
            metric = self.main.get(rung.kind)
            if metric is None:
                raise ValueError(f"rung {rung.name!r} is of kind {rung.kind!r}, for which `main` names no metric")
            if metric not in rung.scores:
                hint = near_miss(metric, rung.scores)
                raise ValueError(f"rung {rung.name!r} has no score for {metric!r}, the metric of `main`.{hint}")
        return self

    def of_kind(self, kind: Kind) -> list[Rung]:
        """Return the rungs of one kind, in their order."""
        return [rung for rung in self.rungs if rung.kind == kind]


class Passage(Written):
    """A passage as it was shown with a question."""

    id: Text
    title: Text
    text: Text


class Said(Written):
    """What one rung answered."""

    rung: Text
    text: Text
    right: bool


class Sample(Written):
    """One question, the passages found for it, and its answer before and after the adaptation."""

    id: Text
    question: Text
    answers: tuple[Text, ...]
    gold: tuple[Text, ...]
    passages: tuple[Passage, ...]
    before: Said
    after: Said

    @property
    def state(self) -> State:
        """What the adaptation did to this answer."""
        if self.after.right:
            return "right" if self.before.right else "fixed"
        return "broken" if self.before.right else "wrong"


class LossLine(Written):
    """One step of a training."""

    step: int
    of: int
    loss: float


class DevLine(Written):
    """The score on the dev set after a step; higher is better."""

    step: int
    metric: Text
    value: float


@dataclass(frozen=True, slots=True)
class Training:
    """The logs of one training; `dev` is empty where none was scored while it ran."""

    name: str
    log: list[LossLine]
    dev: list[DevLine]


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything a finished ladder left."""

    ladder: Ladder
    card: Card
    trainings: list[Training]
    samples: list[Sample]


def read_ladder(run: Path) -> Ladder:
    """Read `ladder.json`.

    Raises:
        DataError: it is missing, or holds something else than a ladder; every fault is named.
    """
    path = run / "ladder.json"
    try:
        return Ladder.model_validate(_object(path))
    except ValidationError as error:
        raise DataError("\n".join(f"{path}: {fault}" for fault in faults(error, Ladder))) from error


def read_finished(run: Path) -> Finished:
    """Read the whole folder; `trainings/` may be missing.

    Raises:
        DataError: a file is missing or damaged; the message says which, and what makes it.
    """
    needed = [run / "ladder.json", run / "data" / "card.json", run / "samples.jsonl"]
    raise_faults([_missing(path) for path in needed if not path.is_file()])
    ladder, card = read_ladder(run), _object(run / "data" / "card.json")
    samples = _rows(run / "samples.jsonl", Sample)
    folders = [path.parent for path in (run / "trainings").glob("*/log.jsonl")]
    # The retriever is trained first, whatever the alphabet says.
    folders.sort(key=lambda folder: (folder.name != "retriever", folder.name))
    trainings = [
        Training(shown(folder.name), _rows(folder / "log.jsonl", LossLine), _rows(folder / "dev.jsonl", DevLine))
        for folder in folders
    ]
    return Finished(ladder, card, [training for training in trainings if training.log], samples)


def _rows(path: Path, record: type[W]) -> list[W]:
    """Return the rows of a file; none where it is missing or empty."""
    return read_jsonl(path, record) if path.is_file() and path.stat().st_size else []


def _object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or does not hold one.
    """
    if not path.is_file():
        raise DataError(_missing(path))
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: this file is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: this is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{path}: this JSON is nested too deeply") from error
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: keys and values are needed here (found {type(found).__name__})")
    return dict(found)


def _missing(path: Path) -> str:
    return f"{path}: there is no such file. `burnish ladder RECIPE` makes it, once its last rung is measured"
