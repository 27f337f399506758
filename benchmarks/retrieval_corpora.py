"""The corpora of benchmarks/retrieval.py: passages, and questions that models do not see before they are scored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from common import ROOT, data_folder

from burnish.ladder_recipe import Ladder
from burnish.prepare.beir import write_beir
from burnish.prepare.dedup import clusters, near_duplicates
from burnish.prepare.split import split
from burnish.prepare.synthesize import sample
from burnish.readers.cranfield import Cranfield
from burnish.recipe import read_recipe
from burnish.records import Chunk, Question
from burnish.steps.ladder import prepared

Side = Literal["dev", "test"]
SEED = 0


@dataclass(frozen=True)
class Setting:
    """What every training on a corpus has in common; tokens: where queries and passages are cut, by all systems."""

    tokens: int
    batch: int
    steps: int
    rate: float


@dataclass(frozen=True)
class Fold:
    """Passages, and questions to train on, to choose settings by, and to score.

    place: a folder for what is made of it. data: a BEIR folder with the passages and the training questions.
    """

    corpus: str
    setting: Setting
    place: Path
    data: Path
    chunks: Sequence[Chunk]
    sides: Mapping[str, Sequence[Question]]


@dataclass(frozen=True)
class Corpus:
    """The folds of a corpus, each with a model of its own, and all their questions in one for what is not trained."""

    name: str
    folds: Sequence[Fold]
    whole: Fold


# Steps: one epoch of the library's labelled pairs, half of one of a fold of Cranfield's.
STDLIB = Setting(tokens=128, batch=32, steps=84, rate=1e-4)
CRANFIELD = Setting(tokens=128, batch=16, steps=40, rate=1e-4)
QUICK = Setting(tokens=64, batch=16, steps=4, rate=1e-4)


def stdlib(work: Path, *, quick: bool) -> Corpus:
    """Return the running Python's library, its questions split by module as `burnish demo` splits them: one fold."""
    recipe = read_recipe(ROOT / "src" / "burnish" / "recipes" / "demo.yaml", Ladder)
    found = prepared(recipe, work / "stdlib" / "prepared", progress=lambda *_: None)
    sides = {"train": found.train, "dev": found.dev, "test": found.test}
    if quick:
        cut = {"train": 96, "dev": 24, "test": 48}
        sides = {side: sample(rows, cut[side], seed=SEED) for side, rows in sides.items()}
    chunks = _cut(found.chunks, chain(*sides.values()), 400 if quick else None)
    fold = _fold(work / "stdlib" / "0", QUICK if quick else STDLIB, chunks, sides)
    return Corpus("stdlib", [fold], fold)


def cranfield(work: Path, *, quick: bool) -> Corpus:
    """Return Cranfield, each of its questions scored by the model of the one fold of five that has not seen it.

    A fold trains on seven tenths of the questions. Another tenth, no question of which is another fold's, is its dev
    side. Questions that read nearly alike stay together; passages that are right for several questions do not part
    them, so that a passage may be known from training, as in a corpus that stays while its questions come. Rows with
    the code -1 have grade 1.
    """
    source = Cranfield(path=data_folder("cranfield")).load()
    questions = sample(source.questions, 40 if quick else None, seed=SEED)
    folds = 2 if quick else 5
    alike = clusters(len(questions), near_duplicates([question.question for question in questions], seed=SEED))
    shares = {str(part): 1.0 for part in range(2 * folds)}
    parts = split([questions[first].id for first in alike], shares=shares, seed=SEED)
    chunks = _cut(source.chunks, questions, 300 if quick else None)
    setting = QUICK if quick else CRANFIELD
    made = []
    for number in range(folds):
        test, dev = {str(2 * number), str(2 * number + 1)}, {str((2 * number + 2) % (2 * folds))}
        sides: dict[str, list[Question]] = {"train": [], "dev": [], "test": []}
        for question, part in zip(questions, parts, strict=True):
            sides["test" if part in test else "dev" if part in dev else "train"].append(question)
        made.append(_fold(work / "cranfield" / str(number), setting, chunks, sides))
    everything = {side: [question for fold in made for question in fold.sides[side]] for side in ("dev", "test")}
    whole = replace(made[0], place=work / "cranfield" / "whole", sides=everything)
    return Corpus("cranfield", made, whole)


CORPORA: dict[str, Callable[..., Corpus]] = {"stdlib": stdlib, "cranfield": cranfield}


def _cut(chunks: Sequence[Chunk], questions: Iterable[Question], count: int | None) -> list[Chunk]:
    """Return the right passages of the questions, and others up to so many in all; every one where none are counted."""
    if count is None:
        return [*chunks]
    right = {key for question in questions for key in question.gold}
    others = sample([chunk for chunk in chunks if chunk.id not in right], max(0, count - len(right)), seed=SEED)
    kept = right | {chunk.id for chunk in others}
    return [chunk for chunk in chunks if chunk.id in kept]


def _fold(place: Path, setting: Setting, chunks: Sequence[Chunk], sides: Mapping[str, Sequence[Question]]) -> Fold:
    """Return a fold whose folder is written, or stands there from an earlier run."""
    fold = Fold(place.parent.name, setting, place, place / "data", chunks, sides)
    if not fold.data.is_dir():
        write_beir(fold.data, chunks, sides)
    return fold
