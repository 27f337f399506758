"""A metric as a reward: exact match, ROUGE, any that gives a single text a number."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import field_validator

from burnish.errors import RecipeError
from burnish.metrics import Metric
from burnish.rewards import Judge, Reward, Written

_PROBE = "one"
_OTHERS = "exact_match, token_f1, rouge or meteor"


class MetricReward(Reward):
    """What a metric gives the text against the row's right answers; one where lower is better with a minus."""

    reads: ClassVar[Literal["answers", "passages", ""]] = "answers"

    metric: Metric

    @field_validator("metric")
    @classmethod
    def _judges_a_text(cls, metric: Metric) -> Metric:
        """Check that the metric is made of numbers of single texts, by trying it.

        Raises:
            RecipeError: it is one of the whole, or reads something else than texts.
        """
        if not metric.is_mean or metric.reads != "answers":
            raise RecipeError(f"{metric.label} gives a single text no number; use {_OTHERS}")
        try:
            right, wrong = metric.score([_PROBE, "other"], [(_PROBE,)] * 2)
        except (TypeError, AttributeError, NotImplementedError):
            right, wrong = 0.0, 0.0
        if right == wrong:
            raise RecipeError(f"{metric.label} does not compare a text with right answers; use {_OTHERS}")
        return metric

    @property
    def label(self) -> str:
        """The metric's own."""
        return self.metric.label

    def load(self) -> Judge:
        """Return what scores texts against their answers."""
        sign = 1.0 if self.metric.higher_is_better else -1.0

        def judge(texts: Sequence[Written]) -> list[float]:
            scores = self.metric.score([one.text for one in texts], [one.answers for one in texts])
            return [sign * score for score in scores]

        return judge
