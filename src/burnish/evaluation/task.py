"""One model on one task's held-out rows: predictions kept, every metric with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from burnish.evaluation.bertscore import bertscore
from burnish.evaluation.corpus import metric_difference, metric_interval
from burnish.metrics import Metric
from burnish.metrics.bertscore import Bertscore
from burnish.records import Record
from burnish.retrievers import Progress
from burnish.tasks import Built, Task


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a model said of each row, by the kind of prediction that metrics read, and its numbers."""

    predictions: Mapping[str, Sequence[Any]]
    scores: Mapping[str, Mapping[str, float]]  # metric's label → value, low, high, n


def evaluate(
    task: Task, model: nn.Module, built: Built, rows: Sequence[Record], *, seed: int, progress: Progress
) -> Evaluated:
    """Have the model predict each row, and score that with all of the task's metrics."""
    model.eval()
    references, groups = task.references(rows), [row.group for row in rows]
    predictions: dict[str, Sequence[Any]] = {}
    scores: dict[str, dict[str, float]] = {}
    for metric in task.metrics:
        if metric.reads not in predictions:
            predictions[metric.reads] = task.predictions(model, built, rows, reads=metric.reads, progress=progress)
        ready = metric
        if isinstance(metric, Bertscore):  # needs an encoder of its own, so its scores are kept
            ready = _Given(shown=metric.label)
            predictions[_key(metric)] = bertscore(metric, predictions[metric.reads], references).scores
        found = metric_interval(ready, predictions[_key(metric)], references, groups=groups, seed=seed)
        scores[metric.label] = asdict(found)
    return Evaluated(predictions, scores)


def differences(
    task: Task, ours: Evaluated, theirs: Evaluated, rows: Sequence[Record], *, seed: int
) -> dict[str, dict[str, float]]:
    """Compare two models on the same rows, paired: metric's label → difference, low, high, p, wins, ties, losses."""
    references, groups = task.references(rows), [row.group for row in rows]

    def compared(metric: Metric) -> dict[str, float]:
        mine, other = ours.predictions[_key(metric)], theirs.predictions[_key(metric)]
        ready = _Given(shown=metric.label) if isinstance(metric, Bertscore) else metric
        return asdict(metric_difference(ready, mine, other, references, groups=groups, seed=seed))

    return {metric.label: compared(metric) for metric in task.metrics}


def prediction_lines(evaluated: Evaluated, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one line a row: its id, and what the model said of it."""
    return [
        {"id": row.id, **{kind: _plain(found[place]) for kind, found in evaluated.predictions.items()}}
        for place, row in enumerate(rows)
    ]


class _Given(Metric):
    """The mean of scores that are there already."""

    shown: str
    bounds: ClassVar[tuple[float, float]] = Bertscore.bounds

    @property
    def label(self) -> str:
        return self.shown

    def score(self, predictions: Sequence[float], references: Sequence[Any]) -> list[float]:  # noqa: ARG002
        return [*predictions]


def _key(metric: Metric) -> str:
    """Return where a metric's predictions are kept: by kind, or by name where they are its scores."""
    return metric.label if isinstance(metric, Bertscore) else metric.reads


def _plain(value: Any) -> Any:
    """Return a prediction as JSON has it; of a ranking the first ten."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value[:10]]
    if isinstance(value, np.generic):
        return value.item()
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
