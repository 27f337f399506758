"""The veto of mining: a cross-encoder, loaded when it is first asked, that scores no pair twice."""

import json
from collections.abc import Sequence
from pathlib import Path

from burnish.errors import ModelError
from burnish.prepare.negatives import Scorer
from burnish.steps.fingerprints import model_fingerprint
from burnish.text import fingerprint


class Veto:
    """Scores (query, passage) pairs, and remembers what it scored in a file if it is given a folder."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        """Name the cross-encoder; the scores of its weights have a file of their own in the folder."""
        self._name = name
        self._path = folder / f"veto-{fingerprint(name, model_fingerprint(name))}.jsonl" if folder else None
        self._known = _read(self._path) if self._path else {}
        self._loaded: Scorer | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the score of each pair."""
        keys = [fingerprint(*pair) for pair in pairs]
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._known}
        if new:
            scores = self._scorer().score([*new.values()])
            found = dict(zip(new, scores, strict=True))
            self._known |= found
            if self._path:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps([key, score]) + "\n" for key, score in found.items()))
        return [self._known[key] for key in keys]

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


def _read(path: Path) -> dict[str, float]:
    """Return what was scored before; a last line cut short by a crash is cut off, and scored again."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return dict(map(json.loads, whole.splitlines()))
