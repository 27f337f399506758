"""What was asked of a model and did not come: kept beside what did, and counted by kind."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["garbage", "timeout", "disconnect", "refused"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One answer that did not come, or could not be used.

    kind: `garbage`, it is not in the form asked for; `timeout`, none came in time; `disconnect`, the connection broke
    or was never there; `refused`, the server said no. reason: in words, safe to show.
    """

    kind: Kind
    reason: str


def counted(found: Iterable[object]) -> dict[str, int]:
    """Return how many failures of each kind stand among these, the most frequent first."""
    kinds = Counter(one.kind for one in found if isinstance(one, Failure))
    return dict(sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0])))


def in_words(counts: Mapping[str, int], of: int) -> str:
    """Return counts of failures as a sentence tells them: `3 of 20 (2 timeout, 1 garbage)`."""
    return f"{sum(counts.values())} of {of} ({', '.join(f'{count} {kind}' for kind, count in counts.items())})"
