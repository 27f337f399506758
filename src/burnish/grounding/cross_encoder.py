"""Grounding by a network that reads passage and claim together: any local NLI model, or a detector of one's own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from transformers import AutoConfig

from burnish.claims import Case, Judged, sentences
from burnish.errors import ModelError
from burnish.grounding import Check, Grounder, Pair, check_by_pairs
from burnish.models.adapted import base_of
from burnish.models.detector import Calibrated, marked, read_calibrated
from burnish.models.encode import tokens_at_once
from burnish.models.load import Problem, load_classifier, load_regressor, resolve
from burnish.models.loading import loading
from burnish.models.packing import micro_batches
from burnish.models.padding import longest_input, network_inputs, pad_right
from burnish.models.safety import transformer_folder
from burnish.models.token_ids import Cut, cut_ids
from burnish.retrievers import Progress
from burnish.text import normal
from burnish.word_support import supports_by_words

_ENTAILED = ("entailment", "entailed", "supported", "supports", "attributable", "fully attributable")
SUPPORTS = frozenset([*_ENTAILED, "grounded", "faithful", "consistent", "factual"])  # labels that say it is borne
LONGEST = 512  # tokens of a window, where the model reads more
EVEN = 0.5  # the threshold where none is calibrated


class CrossEncoder(Grounder):
    """The probability that the passage entails the claim: of a classifier's label, or a sigmoid of a single score.

    The passage stands first, as the premise of natural language inference. The label is found by its name
    (`entailment`, `supported`, `attributable`, …). A passage is read whole and sentence by sentence, and the best
    reading counts: a network that was trained on short premises finds less in long ones (SummaC, Laban et al. 2022,
    arXiv 2111.09525). What is longer than the model reads goes through in windows that overlap by half; of a claim too
    long to leave room for one, each part must be borne. A detector that `burnish calibrate` has seen brings its own
    label, its own threshold, and a share of `word_support` where that told its dev rows better apart.
    """

    model: str
    label: str = ""  # which label says that the passage bears the claim; "": found by its name
    threshold: float | None = Field(default=None, ge=0, le=1)  # None: the one calibrated with the model, else 0.5

    def load(self) -> Check:
        """Return what judges answers, with the network loaded.

        Raises:
            ModelError: it cannot be found, has an untrained head, or no label that says so.
        """
        return _Reading(self.model, read_calibrated(resolve(self.model)), label=self.label, threshold=self.threshold)


def judged_by(
    model: str, known: Calibrated, cases: Sequence[Case], *, by_words: Sequence[float], progress: Progress
) -> list[list[Judged]]:
    """Return what a trained detector that nothing stands beside yet says of answers, for each share by words.

    The network reads once, whatever the number of shares; `known.by_words` is none of them.

    Raises:
        ModelError: the model cannot be found, or has no such label.
    """
    reading, own = _Reading(model, known, label="", threshold=None), list[float]()

    def supports(share: float, pairs: Sequence[Pair]) -> list[float]:
        own[:] = own or reading.supports(pairs, progress)  # the pairs are those of the cases, for every share
        return _mixed(own, pairs, share)

    return [check_by_pairs(cases, partial(supports, share), threshold=known.threshold) for share in by_words]


class _Loaded(NamedTuple):
    network: Any
    tokenizer: Any
    label: int | None  # None: the network gives one score
    many: bool  # labels are each a question of its own


class _Reading:
    def __init__(self, model: str, known: Calibrated | None, *, label: str, threshold: float | None) -> None:
        self._loaded = _load(model, resolve(model), label, known)
        self._loaded.network.eval()
        longest = longest_input(self._loaded.network, self._loaded.tokenizer)
        self._tokens = min(longest, LONGEST if known is None else known.max_tokens)
        self._mark = "" if known is None else known.mark_new
        self._by_words = 0.0 if known is None else known.by_words
        own = EVEN if known is None else known.threshold
        self._threshold = own if threshold is None else threshold

    def __call__(self, cases: Sequence[Case], *, progress: Progress) -> list[Judged]:
        def mixed(pairs: Sequence[Pair]) -> list[float]:
            return _mixed(self.supports(pairs, progress), pairs, self._by_words)

        return check_by_pairs(cases, mixed, threshold=self._threshold)

    def supports(self, pairs: Sequence[Pair], progress: Progress) -> list[float]:
        """Return each pair's support: of the claim's parts the least, and of each part that of its best window."""
        tokenizer = self._loaded.tokenizer
        asked: list[tuple[int, int, str, str]] = []  # which pair, which part of its claim, window, part
        for place, (passage, claim) in enumerate(pairs):
            half = self._tokens // 2
            for number, part in enumerate(_windows(claim, tokenizer, room=half, apart=half)):
                length = _length(marked("", part, self._mark), tokenizer)  # with as many marks as there can be
                room = max(2, self._tokens - length - _frame(tokenizer))
                texts = dict.fromkeys([passage, *sentences(passage)])
                windows = [part for text in texts for part in _windows(text, tokenizer, room=room, apart=room // 2)]
                asked += [(place, number, window, part) for window in dict.fromkeys(windows)]
        found = self._probabilities([(window, part) for _, _, window, part in asked], progress)
        best: list[dict[int, float]] = [{} for _ in pairs]
        for (place, number, _, _), value in zip(asked, found, strict=True):
            best[place][number] = max(best[place].get(number, 0.0), value)
        return [min(parts.values(), default=0.0) for parts in best]

    @torch.inference_mode()
    def _probabilities(self, pairs: Sequence[Pair], progress: Progress) -> list[float]:
        """Return how probable it is that the first text bears the second; those of similar length go together."""
        network, tokenizer, label, many = self._loaded
        firsts = [first for first, _ in pairs]
        seconds = [marked(first, second, self._mark) for first, second in pairs]
        rows = [*cut_ids(firsts, tokenizer, seconds=seconds, max_tokens=self._tokens)]
        groups = micro_batches(range(len(rows)), [len(row.ids) for row in rows], budget=tokens_at_once(network))
        found, done = [0.0] * len(rows), 0
        for group in groups:
            logits = _pass(network, [rows[place] for place in group])
            shares = logits.sigmoid() if label is None or many else logits.softmax(dim=1)
            for place, value in zip(group, shares[:, label or 0].tolist(), strict=True):
                found[place] = value
            done += len(group)
            progress("reading passages and claims", done, len(rows))
        return found


def _mixed(own: Sequence[float], pairs: Sequence[Pair], share: float) -> list[float]:
    """Return each pair's support: the network's own, and by words as large a share as this."""
    if not share:
        return [*own]
    return [(1 - share) * one + share * other for one, other in zip(own, supports_by_words(pairs), strict=True)]


def _load(name: str, folder: Path, asked: str, known: Calibrated | None) -> _Loaded:
    """Load a classifier, or a network of one score, whose head is trained.

    Raises:
        ModelError: its head is not trained, or none of its labels says that a passage bears a claim.
    """
    labels, many = list(known.labels) if known else [], False
    if base_of(folder) is None:
        with loading(name, "a reader of passages and claims"):
            config: Any = AutoConfig.from_pretrained(transformer_folder(folder), local_files_only=True)
        many = config.problem_type == "multi_label_classification"
        labels = labels or [str(config.id2label[place]) for place in sorted(config.id2label)]
    if len(labels) == 1:
        found = load_regressor(name, dtype=torch.float32, seed=0, what="a reader of passages and claims")
        number = None
    else:
        number = _number_of(name, labels, asked or (known.label if known else ""))
        problem: Problem = "multi_label_classification" if many else "single_label_classification"
        found = load_classifier(name, labels, dtype=torch.float32, seed=0, problem=problem)
    if found.fresh:
        raise ModelError(
            f"{name}: its head is untrained ({', '.join(found.fresh)}), so what it says of claims means nothing; use a "
            "model trained for natural language inference, or train a detector"
        )
    return _Loaded(found.model, found.tokenizer, number, many)


def _number_of(name: str, labels: Sequence[str], asked: str) -> int:
    """Return which label says that the passage bears the claim.

    Raises:
        ModelError: none does, or several do.
    """
    wanted = {normal(asked)} if asked else SUPPORTS
    found = [place for place, label in enumerate(labels) if normal(label) in wanted]
    if len(found) == 1:
        return found[0]
    how = f"called {asked!r}" if asked else "that says a passage bears a claim, as entailment or supported do"
    raise ModelError(
        f"{name}: exactly one label is needed {how}, and {len(found)} are (found "
        f"{', '.join(map(repr, labels[:8])) or 'none'}); `label` names the right one"
    )


def _windows(text: str, tokenizer: Any, *, room: int, apart: int) -> list[str]:
    """Return pieces of a text of at most `room` tokens each, beginning `apart` tokens from one another; all of it."""
    marks = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(marks) <= room:
        return [text]
    firsts = range(0, len(marks) - room + apart, apart)
    return [text[marks[first][0] : marks[min(first + room, len(marks)) - 1][1]] for first in firsts]


def _length(text: str, tokenizer: Any) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _frame(tokenizer: Any) -> int:
    """Return how many special tokens a pair has, and two to spare: a piece may be cut into other tokens than before."""
    return int(tokenizer.num_special_tokens_to_add(pair=True)) + 2


def _pass(network: Any, rows: Sequence[Cut]) -> torch.Tensor:
    """Return (rows, labels) logits of rows that are padded together."""
    ids, mask = pad_right([row.ids for row in rows])
    types = pad_right([row.types for row in rows])[0] if any(any(row.types) for row in rows) else None
    logits: torch.Tensor = network(**network_inputs(network, ids, mask, types)).logits
    return logits.float()
