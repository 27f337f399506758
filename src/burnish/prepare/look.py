"""What rows hold: what is read of each, what stands twice, which labels there are, what belongs together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.preference_rows import Preference
from burnish.prepare.balance import labels_of
from burnish.prepare.dedup import exact_duplicates
from burnish.prepare.labels import LabelReport, check_labels
from burnish.prepare.scripts import script_shares
from burnish.prepare.stratify import joined_groups
from burnish.records import Completion, Document, Extraction, Labelled, Pair, Record, Scored

_PARTS = 5  # of the scores, of equal size, so that each side of a split has its share of each
_READ = 2_000  # texts that scripts are counted in


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the rows.

    stand_ins: the rows as a split reads them: their main text, and what each side needs its share of. units: the name
    of what each row cannot be parted from. copies: rows whose main text stands in an earlier row. contradictions: rows
    that are such copies, and say something else.
    """

    stand_ins: tuple[Labelled, ...]
    units: tuple[str, ...]
    copies: int
    contradictions: int
    labels: LabelReport | None
    scripts: dict[str, float]

    @property
    def many(self) -> bool:
        """Whether a row may have any number of labels."""
        return any(not isinstance(row.label, str) for row in self.stand_ins)

    @property
    def unbalance(self) -> float:
        """Rows of the largest class for each row of the smallest; 1 where there are no labels."""
        return self.labels.balance["all"].ratio if self.labels and "all" in self.labels.balance else 1.0


def look(rows: Sequence[Record]) -> Look:
    """Look through the rows of one record."""
    stand_ins = _stand_ins(rows)
    texts = [row.text for row in stand_ins]
    first = exact_duplicates(texts)
    copies = [place for place, origin in enumerate(first) if origin != place]
    said = [_said(row) for row in rows]
    every = max(1, len(texts) // _READ)
    labelled = [row for row in rows if isinstance(row, Labelled)]
    return Look(
        stand_ins=tuple(stand_ins),
        units=tuple(joined_groups(stand_ins)),
        copies=len(copies),
        contradictions=sum(said[place] != said[first[place]] for place in copies),
        labels=check_labels({"all": labelled}) if labelled else None,
        scripts=script_shares(texts[::every]),
    )


def main_text(row: Record) -> str:
    """Return the text by which a row is known: two rows of which it is the same must stand on one side of a split."""
    if isinstance(row, Scored):
        return f"{row.text}\n{row.pair}" if row.pair else row.text
    if isinstance(row, Completion | Preference):
        return row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content
    if isinstance(row, Pair):
        return row.query
    if isinstance(row, Extraction):
        return row.context
    assert isinstance(row, Labelled | Document)
    return row.text


def read_texts(row: Record) -> list[str]:
    """Return the texts that a model reads of a row at once, as one or several inputs."""
    if isinstance(row, Completion | Preference):
        prompt = [row.prompt] if isinstance(row.prompt, str) else [message.content for message in row.prompt]
        answers = [row.completion] if isinstance(row, Completion) else [row.chosen, row.rejected]
        return ["\n".join([*prompt, answer]) for answer in answers]
    if isinstance(row, Pair):
        return [row.query, *row.positives, *row.negatives]
    if isinstance(row, Extraction):
        return [f"{row.question}\n{row.context}"]
    return [main_text(row)]


def _said(row: Record) -> object:
    """Return what a row says of its main text, where it says one thing."""
    if isinstance(row, Labelled):
        return frozenset(labels_of(row))
    return row.score if isinstance(row, Scored) else None


def _stand_ins(rows: Sequence[Record]) -> list[Labelled]:
    """Return the rows as a split reads them: scores become the fifth of the scores that they lie in."""
    scores = [row.score for row in rows if isinstance(row, Scored)]
    edges = np.quantile(scores, np.arange(1, _PARTS) / _PARTS) if scores else np.zeros(0)

    def strata(row: Record) -> str | tuple[str, ...]:
        if isinstance(row, Labelled):
            return row.label
        return str(np.searchsorted(edges, row.score)) if isinstance(row, Scored) else ()

    return [Labelled(id=row.id, group=row.group, text=main_text(row), label=strata(row)) for row in rows]


def common_labels(rows: Sequence[Labelled]) -> tuple[str, ...]:
    """Return the labels that are most often given together: the answer of who has not read the text."""
    return Counter(labels_of(row) for row in rows).most_common(1)[0][0]
