"""Tables of questions with the text that answers each, in SQuAD's form: the texts become the passages."""

from collections.abc import Sequence

from pydantic import Field

from burnish.readers import Reader, Source
from burnish.records import Chunk, Extraction, Question, Rejected
from burnish.tables import read_rows
from burnish.text import normal


class Squad(Reader):
    """A table with a question, its context and its answers in each row, as SQuAD has them.

    Each context is a passage, once, and right for the questions that are asked of it; a passage and its questions are
    a group. A question without an answer (SQuAD 2.0) is one that no passage answers. Answers must stand in the context;
    columns: field (`question`, `context`, `answers`) → column, as in a recipe's `data.columns`.
    """

    path: str
    columns: dict[str, str] = Field(default_factory=dict)

    def load(self) -> Source:
        """Return the contexts and the questions in the order of the rows.

        Raises:
            DataError: the table is missing, or rows cannot be read; all of them are named.
        """
        rows = read_rows(self.path, Extraction, self._columns())
        places: dict[str, Chunk] = {}
        for row in rows:
            key = normal(row.context)
            if key not in places:
                name = f"c{len(places) + 1}"
                places[key] = Chunk(id=name, group=name, text=row.context, source=self.path, end=len(row.context))
        questions = [_question(row, places[normal(row.context)]) for row in rows]
        rejected: list[Rejected] = []
        return Source([*places.values()], questions, rejected)

    def _columns(self) -> dict[str, str]:
        """Return where each field is read, so that other columns (`title`) are left out."""
        fields: Sequence[str] = ("question", "context", "answers")
        return {field: self.columns.get(field, field) for field in fields} | self.columns


def _question(row: Extraction, context: Chunk) -> Question:
    answers = tuple(dict.fromkeys(span.text for span in row.answers))
    return Question(
        id=row.id,
        group=context.group,
        question=row.question,
        answers=answers,
        gold=(context.id,) if answers else (),
    )
