"""Candidates: models scored on some of the rows without training any, and the one that is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from burnish.errors import ModelError
from burnish.evaluation.corpus import metric_interval
from burnish.evaluation.linear import joined_vectors, probed_labels, probed_scores
from burnish.evaluation.score import Interval
from burnish.evaluation.task import evaluate
from burnish.metrics import Metric
from burnish.models import embedded
from burnish.models.features import features
from burnish.models.load import is_encoder_decoder, resolve
from burnish.models.precision import chosen_dtype
from burnish.models.reading import kind_of
from burnish.models.safety import transformer_folder
from burnish.preference_rows import Preference
from burnish.prepare.balance import labels_of
from burnish.prepare.look import Look, common_labels
from burnish.prepare.stratify import split_stratified
from burnish.records import Completion, Document, Labelled, Pair, Record, Scored
from burnish.retrievers import Progress
from burnish.tasks.retrieve import Retrieve
from burnish.text import fingerprint

ROWS = 2_000  # that a probe reads, drawn by a hash of their ids
QUERIES = 500  # that a retriever is tried on
FOLDS = 5
WRITTEN = (Completion, Preference, Document)  # what a model is needed for that writes

Found: TypeAlias = list[str] | list[tuple[str, ...]] | list[float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model, the bytes of its weights, and its score with the metric's name; none where it cannot be scored so."""

    name: str
    size: int
    metric: str = ""
    score: Interval | None = None

    def line(self) -> str:
        """Return what was found in a line."""
        size = f"{self.size / 1e6:,.1f} MB"
        if self.score is None:
            return f"{self.name}: {size}; not scored"
        return f"{self.name}: {self.metric} {bounded(self.score)}; {size}"


def bounded(score: Interval) -> str:
    """Return a score with its bounds."""
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}] on {score.n:,} rows"


def candidates(record: type[Record], named: Sequence[str]) -> list[str]:
    """Return the models to try: those of the embedded ones at hand that suit the record, and those named.

    Raises:
        ModelError: there is none, or one that is named does not write where that is needed.
    """
    writes = record in WRITTEN
    at_hand = [
        f"{embedded.PREFIX}{name}"
        for name, model in embedded.MODELS.items()
        if embedded.installed(name) and model.file.endswith(".gguf") == writes  # the form in which chat models come
    ]
    for name in named:
        if record in (Completion, Preference) and kind_of(name) == "masked":
            raise ModelError(f"{name}: this model fills gaps and writes no text; the rows need one that does")
    found = list(dict.fromkeys([*at_hand, *named]))
    if not found:
        raise ModelError("no model is at hand; name some with --models a,b or get one with `burnish models --fetch`")
    return found


def scored(
    names: Sequence[str], rows: Sequence[Record], look: Look, metric: Metric, *, seed: int, progress: Progress
) -> list[Candidate]:
    """Return the candidates with their scores, the one to be taken first.

    Labels and numbers: the metric of a linear probe over five folds, which no near-duplicates cross; pairs: nDCG@10 of
    the model as it is, among the passages of the drawn rows; other records have no cheap score that would compare
    models with different tokens. Taken is the smallest model within the interval of the best, or the first.
    """
    found = [_scored(name, rows, look, metric, seed=seed, progress=progress) for name in names]
    known = [(one, one.score) for one in found if one.score is not None]
    if not known:
        return found
    bar = max(known, key=lambda pair: pair[1].value)[1].low
    close = [one for one, score in known if score.value >= bar]
    first = min(close, key=lambda one: one.size)
    return [first, *(one for one in found if one is not first)]


def blind(rows: Sequence[Record], look: Look, metric: Metric, *, seed: int) -> Interval | None:
    """Return the metric of who gives every row the commonest label; none where rows have no labels."""
    labelled = [row for row in rows if isinstance(row, Labelled)]
    if not labelled:
        return None
    common = common_labels(labelled)
    said = [common if look.many else common[0]] * len(labelled)
    return metric_interval(metric, said, _right(labelled, many=look.many), groups=look.units, seed=seed)


def _scored(
    name: str, rows: Sequence[Record], look: Look, metric: Metric, *, seed: int, progress: Progress
) -> Candidate:
    """Return one candidate with its score, on rows drawn by a hash of their ids."""
    size = sum(file.stat().st_size for file in transformer_folder(resolve(name)).glob("*.safetensors"))
    if not isinstance(rows[0], Labelled | Scored | Pair) or is_encoder_decoder(name):
        return Candidate(name, size)
    drawn = sorted(range(len(rows)), key=lambda place: fingerprint(str(seed), rows[place].id))
    if isinstance(rows[0], Pair):
        score = _as_it_is(name, [rows[place] for place in drawn[:QUERIES]], metric, seed=seed, progress=progress)
        return Candidate(name, size, f"{metric.label} untrained", score)
    places = sorted(drawn[:ROWS])
    some, units = [rows[place] for place in places], [look.units[place] for place in places]
    found = _probed(name, some, units, look, seed=seed, progress=progress)
    if not found:
        return Candidate(name, size)
    score = metric_interval(metric, found, _right(some, many=look.many), groups=units, seed=seed)
    return Candidate(name, size, f"{metric.label} of a linear probe", score)


def _as_it_is(name: str, rows: Sequence[Record], metric: Metric, *, seed: int, progress: Progress) -> Interval:
    """Return how an untrained retriever ranks the passages of the rows."""
    task = Retrieve(metrics=(metric,))
    built = task.build(name)
    for weight in built.model.parameters():
        weight.data = weight.data.to(chosen_dtype())
    with torch.inference_mode():
        found = evaluate(task, built.model, built, rows, seed=seed, progress=progress).scores[metric.label]
    return Interval(found["value"], found["low"], found["high"], int(found["n"]))


def _probed(
    name: str, rows: Sequence[Record], units: Sequence[str], look: Look, *, seed: int, progress: Progress
) -> Found:
    """Return what a probe of the other folds says of each row; nothing where there are too few rows for folds."""
    count = min(FOLDS, len(set(units)))
    labels = [labels_of(row) if isinstance(row, Labelled) else () for row in rows]
    if count < 2 or (isinstance(rows[0], Labelled) and len({label for found in labels for label in found}) < 2):
        return []
    folds = split_stratified(units, labels, shares={str(fold): 1.0 for fold in range(count)}, seed=seed)
    if isinstance(rows[0], Labelled):
        texts = [row.text for row in rows if isinstance(row, Labelled)]
        return probed_labels(features(name, texts, progress=progress).numpy(), labels, folds, many=look.many)
    pairs = [(row.text, row.pair, row.score) for row in rows if isinstance(row, Scored)]
    vectors = features(name, [text for text, _, _ in pairs], progress=progress).numpy()
    if any(pair is not None for _, pair, _ in pairs):
        vectors = joined_vectors(
            vectors, features(name, [pair or "" for _, pair, _ in pairs], progress=progress).numpy()
        )
    return probed_scores(vectors, [score for _, _, score in pairs], folds)


def _right(rows: Sequence[Record], *, many: bool) -> list[Any]:
    """Return what the predictions are held against."""
    if isinstance(rows[0], Scored):
        return [row.score for row in rows if isinstance(row, Scored)]
    labels = [labels_of(row) for row in rows if isinstance(row, Labelled)]
    return labels if many else [found[0] for found in labels]
