"""The veto of mining: a cross-encoder, loaded when it is first asked, that scores no pair twice."""

from collections.abc import Sequence
from pathlib import Path

from burnish.errors import ModelError
from burnish.prepare.scores import KeptScores, Scorer, TextPair
from burnish.steps.fingerprints import model_fingerprint
from burnish.text import fingerprint


class Veto:
    """Scores (query, passage) pairs, and remembers what it scored in a file if it is given a folder."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        """Name the cross-encoder; the scores of its weights have a file of their own in the folder."""
        self._name = name
        path = folder / f"veto-{fingerprint(name, model_fingerprint(name))}.jsonl" if folder else None
        self._kept = KeptScores(path)
        self._loaded: Scorer | None = None

    def score(self, pairs: Sequence[TextPair]) -> list[float]:
        """Return the score of each pair."""
        return self._kept.of(pairs, lambda new: self._scorer().score(new))

    def _scorer(self) -> Scorer:
        """Return the cross-encoder.

        Raises:
            ModelError: it was never trained to score pairs.
        """
        if self._loaded is None:
            from burnish.models.cross import CrossEncoder

            model = CrossEncoder.load(self._name)
            if model.fresh:
                raise ModelError(
                    f"{self._name}: this model was not trained to score a query with a passage, and its veto would be "
                    "chance. Name a re-ranker, as `burnish train` makes one with `task: rerank`"
                )
            self._loaded = model
        return self._loaded
