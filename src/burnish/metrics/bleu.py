"""BLEU: n-grams that a text shares with its references, over a whole corpus."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, ClassVar, Literal

import numpy as np

from burnish.metrics import Answers, Floats, Metric, require_answers

ORDER = 4
COLUMNS = 2 + 2 * ORDER


class Bleu(Metric):
    """Corpus BLEU of sacrebleu: precision of 1- to 4-grams, geometric mean, brevity penalty; 0…100.

    All references of an example count: an n-gram may be of any of them, the length is that of the closest.
    It is a number of the corpus, not a mean over texts. Where no 4-gram matches, sacrebleu's smoothing `exp` applies;
    a corpus of texts under 4 tokens scores 0.
    tokenize: how sacrebleu splits words; `13a` for most languages, `zh` for Chinese, `char` where spaces do not
    separate words. The signature says it all, for a report. Source: Post 2018 (arXiv 1804.08771).
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, 100.0)

    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    lowercase: bool = False

    @property
    def label(self) -> str:
        """`BLEU`, with what differs from sacrebleu's defaults: `BLEU (zh, lower case)`."""
        told = [self.tokenize] * (self.tokenize != "13a") + ["lower case"] * self.lowercase
        return f"BLEU ({', '.join(told)})" if told else "BLEU"

    def signature(self, references: Sequence[Answers]) -> str:
        """Return sacrebleu's signature for these references, which makes a score comparable across papers."""
        scorer = self._scorer()
        counts = {len(rights) for rights in references}
        scorer.num_refs = counts.pop() if len(counts) == 1 else -1  # sacrebleu writes -1 as `var`
        return str(scorer.get_signature())

    def statistics(self, predictions: Sequence[str], references: Sequence[Answers]) -> Floats:
        """Return (examples, 10): length, length of the reference, n-grams that match, n-grams; 4 orders each.

        Raises:
            DataError: an example has no reference: callers leave such examples out beforehand, and count them.
        """
        assert len(predictions) == len(references), f"{len(predictions)} predictions, {len(references)} references"
        if not predictions:
            return np.zeros((0, COLUMNS))
        streams = list(zip_longest(*require_answers(references)))  # sacrebleu takes the first references of all first
        # Not documented, yet what sacrebleu's own significance tests resample; equality with corpus_bleu is tested.
        return np.array(self._scorer()._extract_corpus_statistics(predictions, streams), dtype=np.float64)

    def combine(self, totals: Floats) -> Floats:
        """Return the score from (…, 10) counts."""
        scorer = self._scorer()
        rows = totals.reshape(-1, COLUMNS).tolist()
        found = [scorer._compute_score_from_stats(row).score for row in rows]
        return np.array(found, dtype=np.float64).reshape(totals.shape[:-1])

    def _scorer(self) -> Any:
        """Return sacrebleu's BLEU with these settings."""
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase)
