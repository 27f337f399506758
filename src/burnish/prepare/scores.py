"""Scores of pairs, asked for once and kept: a teacher's, or those by which a cross-encoder vetoes negatives."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from burnish.text import fingerprint

AT_ONCE = 4096  # pairs that are scored, then kept: what a crash costs

TextPair = tuple[str, str]  # a query and a passage


class Scorer(Protocol):
    """What scores a query with a passage: a cross-encoder, or a bi-encoder."""

    def score(self, pairs: Sequence[TextPair]) -> Sequence[float]:
        """Return a score for each (query, passage), in the order given; in any unit, higher is better."""
        ...


class KeptScores:
    """What one scorer said of pairs, by their texts; in a file, if it is given one. One process may write at a time."""

    def __init__(self, path: Path | None) -> None:
        """Read what was kept before."""
        self._path = path
        self._known = dict(_read(path)) if path else {}

    def of(
        self,
        pairs: Sequence[TextPair],
        ask: Callable[[Sequence[TextPair]], Sequence[float]],
        *,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> list[float]:
        """Return the score of each pair; the scorer is asked for those that are not kept, each once."""
        keys = [fingerprint(*pair) for pair in pairs]
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._known}
        missing = [*new]
        for first in range(0, len(new), AT_ONCE):
            progress(first, len(new))
            block = missing[first : first + AT_ONCE]
            scores = map(float, ask([new[key] for key in block]))
            self._keep(dict(zip(block, scores, strict=True)))
        return [self._known[key] for key in keys]

    def _keep(self, found: dict[str, float]) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(line)}\n" for line in found.items())
        self._known |= found


def _read(path: Path) -> Iterator[tuple[str, float]]:
    """Yield what is kept, and cut off a last line that a crash left unfinished."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        end = 0
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(end)
                break
            end += len(line)
            key, score = json.loads(line)
            yield key, score
