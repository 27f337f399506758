"""BLEU: n-grams that a text shares with its references, over a whole corpus."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from burnish.metrics import Answers, Floats, Metric, sacrebleu_counts, sacrebleu_score, sacrebleu_signature

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
        return sacrebleu_signature(self._scorer(), references)

    def statistics(self, predictions: Sequence[str], references: Sequence[Answers]) -> Floats:
        """Return (examples, 10): length, length of the reference, n-grams that match, n-grams; 4 orders each."""
        return sacrebleu_counts(self._scorer(), predictions, references, COLUMNS)

    def combine(self, totals: Floats) -> Floats:
        """Return the score from (…, 10) counts."""
        return sacrebleu_score(self._scorer(), totals)

    def _scorer(self) -> Any:
        """Return sacrebleu's BLEU with these settings."""
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase)
