"""What a trained detector of unsupported answers brings along: its label, and the threshold calibrated for it."""

import re
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError
from snowballstemmer import stemmer

from burnish.errors import ModelError
from burnish.run import read_json, write_json
from burnish.spec import Spec, faults
from burnish.text import words

_PORTER = stemmer("porter")
_WORD = re.compile(r"\S+")
FILE = "grounding.json"  # beside the weights, so that it moves with them


class Calibrated(Spec):
    """How a classifier's probabilities become verdicts on claims."""

    label: str  # of `labels`: the passage bears the claim
    labels: tuple[str, ...]  # in the order of the head's outputs
    threshold: float = Field(ge=0, le=1)  # of the support, from which on a claim counts as supported
    max_tokens: int = Field(ge=4)  # of passage and claim together, as it was trained to read them
    mark_new: str = ""  # as it was trained to read claims, see `marked`
    by_words: float = Field(
        default=0.0, ge=0, le=1
    )  # share of `word_support` in a claim's support; the rest is its own
    rows: int = Field(ge=1)  # that the threshold was calibrated on
    balanced_accuracy: float = Field(ge=0, le=1)  # on those rows: higher than on others


def marked(passage: str, claim: str, mark: str) -> str:
    """Return the claim with a mark before each word whose stem (Porter) the passage does not have.

    A small network then sees at once what would take it many rows to learn to look for: whether a word stands in
    both texts. Marks stand apart, `* word`; words are what white space separates. An empty mark changes nothing.
    """
    if not mark:
        return claim
    there = frozenset(map(_stem, words(passage)))

    def told(word: re.Match[str]) -> str:
        return word[0] if there.issuperset(map(_stem, words(word[0]))) else f"{mark} {word[0]}"

    return _WORD.sub(told, claim)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    found: str = _PORTER.stemWord(word)
    return found


def read_calibrated(folder: Path) -> Calibrated | None:
    """Return what stands beside a model, None where nothing does.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Calibrated.model_validate(read_json(path))
    except ValidationError as error:
        raise ModelError("\n".join(f"{path}: {fault}" for fault in faults(error, Calibrated))) from error


def write_calibrated(found: Calibrated, folder: Path) -> None:
    """Write it beside the model."""
    write_json(folder / FILE, found.model_dump(mode="json"))
