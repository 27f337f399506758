"""The Cranfield collection: 1,400 abstracts on aerodynamics, 225 questions, graded judgements (Cleverdon 1967)."""

import re
from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from burnish.errors import DataError, near_miss
from burnish.readers import Reader, Source
from burnish.records import Chunk, Question, Rejected, raise_faults

FILES = ("cran.all.1400", "cran.qry", "cranqrel")

_ROW = re.compile(r"^\.I\s+(\S+)[ \t]*\n", re.MULTILINE)
_FIELD = re.compile(r"^\.([A-Z])[ \t]*\n", re.MULTILINE)
_WORST_CODE = 4  # the codes begin at 1, a complete answer
_UNCODED = -1


class Cranfield(Reader):
    """A folder with the files of the Cranfield collection: cran.all.1400, cran.qry, cranqrel.

    A question's id is its place in cran.qry, 1…225, by which cranqrel judges; the numbers after its `.I` skip some. The
    codes 1 (a complete answer) to 4 (of minimum interest) become the grades 4 to 1: 5 - code. One row a question has
    the code -1, which the codes' description does not know; the pair stands in the collection's ungraded judgements all
    the same, so it gets the lowest grade, 1. nDCG@10 of BM25 (bm25s 0.3 as it comes, English stop words left out, over
    title and text) is .417 with these rows at grade 1 and .352 without them: numbers compare only where both do alike.
    The retriever `bm25` has the same, and .414 and .349 with `stop_words: none`.

    Documents 471 and 995 are empty, and stay: 995 is judged relevant, and leaving it out would change its question's
    score. Texts begin with their titles, as in the file; authors and bibliography are left out.
    """

    path: Path
    uncoded: int | None = Field(default=1, ge=1)  # the grade of rows with the code -1; None leaves these rows out

    def load(self) -> Source:
        """Return the documents and the judged questions in the order of their files.

        Raises:
            DataError: a file is missing or is not in this form, or a judgement names what is not there.
        """
        chunks = []
        for number, fields in _rows(_text(self.path, FILES[0])):
            text = fields.get("W", "")
            chunks.append(Chunk(id=number, title=fields.get("T", ""), text=text, source=number, end=len(text)))
        asked = [fields.get("W", "") for _, fields in _rows(_text(self.path, FILES[1]))]
        for name, found in zip(FILES, (chunks, asked), strict=False):
            if not found:
                raise DataError(f"{self.path / name}: no row of this file begins with .I and a number")
        grades = self._grades(len(asked), {chunk.id for chunk in chunks})
        questions, rejected = [], []
        for place, text in enumerate(asked, start=1):
            right = grades.get(place, {})
            if right:
                row = {"id": str(place), "question": text, "gold": tuple(right), "grades": tuple(right.values())}
                questions.append(Question.model_validate(row))
            else:
                rejected.append(Rejected(reason="no relevant passage", id=str(place), detail=text))
        return Source(chunks=chunks, questions=questions, rejected=rejected)

    def _grades(self, questions: int, documents: Collection[str]) -> dict[int, dict[str, int]]:
        """Return the grade of each judged document, by the question's place; of two grades of one pair the higher."""
        path = self.path / FILES[2]
        found: dict[int, dict[str, int]] = {}
        bad = []
        for line, row in enumerate(_text(self.path, FILES[2]).split("\n"), start=1):
            cells = row.split()
            if not cells:
                continue
            if len(cells) != 3 or not _is_code(cells[2]) or not cells[0].isdecimal():
                allowed = f"a question's place, a document's number, and a code of -1 or 1 to {_WORST_CODE}"
                bad.append(f"{path}:{line}: {allowed} are needed here (found {row.strip()!r:.80})")
            elif not 1 <= int(cells[0]) <= questions:
                bad.append(f"{path}:{line}: there is no question {cells[0]}; their places are 1 to {questions}")
            elif cells[1] not in documents:
                bad.append(f"{path}:{line}: there is no document {cells[1]!r}.{near_miss(cells[1], documents)}")
            else:
                code = int(cells[2])
                grade = self.uncoded if code == _UNCODED else _WORST_CODE + 1 - code
                of_question = found.setdefault(int(cells[0]), {})
                if grade is not None:
                    of_question[cells[1]] = max(grade, of_question.get(cells[1], 0))
        raise_faults(bad)
        return found


def _is_code(cell: str) -> bool:
    """Tell whether this is a code of relevance."""
    return cell in {str(_UNCODED), *map(str, range(1, _WORST_CODE + 1))}


def _rows(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return each row's number and its fields in single lines; a field that stands twice is joined."""
    _, *cut = _ROW.split(text)
    rows = []
    for number, body in zip(cut[::2], cut[1::2], strict=True):
        _, *parts = _FIELD.split(body)
        fields: dict[str, str] = {}
        for name, part in zip(parts[::2], parts[1::2], strict=True):
            fields[name] = " ".join([*fields.get(name, "").split(), *part.split()])
        rows.append((number, fields))
    return rows


def _text(folder: Path, name: str) -> str:
    r"""Return a file's text with \n between its lines, for the collection comes with \r\n.

    Raises:
        DataError: the file is missing, or is no ASCII text.
    """
    path = folder / name
    if not path.is_file():
        siblings = [found.name for found in folder.iterdir()] if folder.is_dir() else []
        raise DataError(
            f"{path}: there is no such file.{near_miss(name, siblings)} A folder with {', '.join(FILES)} is needed"
        )
    try:
        return path.read_bytes().decode("ascii").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: this file is no ASCII text ({error.reason} at byte {error.start})") from error
