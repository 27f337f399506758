"""BEIR folders: corpus.jsonl, queries.jsonl and qrels/*.tsv (Thakur et al. 2021, arXiv 2104.08663)."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from burnish.errors import DataError, near_miss
from burnish.readers import Reader, Source
from burnish.records import SHOWN_FAULTS, Chunk, Question, Record, Rejected, raise_faults, read_jsonl
from burnish.spec import Spec

_COLUMNS = ("query-id", "corpus-id", "score")
_MOST_COMPARED = 20_000  # the near miss is looked for among so many ids at most; beyond, it takes seconds a fault

_LOOSE = ConfigDict(extra="ignore", coerce_numbers_to_str=True)  # BEIR files carry keys of their own, and bare numbers


class Beir(Reader):
    """A folder in BEIR form: corpus.jsonl, queries.jsonl, qrels/*.tsv.

    A passage is right for a question when one of the judgement files gives it a score of 1 or more; the score is its
    grade, the highest one where several files judge it. `answers` may stand in a query's row or in its `metadata`;
    `group` in any row. Rows that burnish wrote have `metadata` with all that a chunk or a question holds beside.
    """

    path: Path
    split: str | None = None  # one file of qrels/, without its ending; by default all of them

    def load(self) -> Source:
        """Return passages and judged questions in the order of their files.

        Raises:
            DataError: a file or column is missing, a row cannot be read, or a judgement names what is not there.
        """
        if not self.path.is_dir():
            raise DataError(f"{self.path}: there is no such folder; corpus.jsonl, queries.jsonl and qrels/ are needed")
        passages = read_passages(self.path)
        queries = read_jsonl(self.path / "queries.jsonl", _Query)
        gold = self._gold({query.id for query in queries}, {passage.id for passage in passages})
        questions, rejected = [], []
        for query in queries:
            if gold.get(query.id):
                questions.append(query.question(gold[query.id]))
            else:
                reason = "no relevant passage" if query.id in gold else "not judged"
                rejected.append(Rejected(reason=reason, id=query.id, detail=query.text))
        return Source(chunks=passages, questions=questions, rejected=rejected)

    def _gold(self, queries: Collection[str], passages: Collection[str]) -> dict[str, dict[str, int]]:
        """Return the grades of every judged query's right passages; none where every judgement is below 1."""
        gold: dict[str, dict[str, int]] = {}
        bad: list[str] = []
        for path in self._judgement_files():
            for row in _judgements(path, bad):
                for what, found, known in (("query", row.query, queries), ("passage", row.passage, passages)):
                    if found not in known:
                        hint = _near(found, known) if len(bad) < SHOWN_FAULTS else ""
                        bad.append(f"{path}:{row.line}: there is no {what} {found!r}.{hint}")
                right = gold.setdefault(row.query, {})
                if row.score >= 1:
                    right[row.passage] = max(row.score, right.get(row.passage, 0))
        raise_faults(bad)
        return gold

    def _judgement_files(self) -> list[Path]:
        """Return the files of judgements to read, sorted by name.

        Raises:
            DataError: there are none, or not the one that `split` names.
        """
        folder = self.path / "qrels"
        files = sorted(folder.glob("*.tsv")) if folder.is_dir() else []
        if not files:
            raise DataError(f"{folder}: there is no file of judgements here; NAME.tsv is needed ({_columns_text()})")
        if self.split is None:
            return files
        names = [path.stem for path in files]
        if self.split not in names:
            raise DataError(
                f"{folder}: there is no {self.split}.tsv.{near_miss(self.split, names)} There are: {', '.join(names)}"
            )
        return [folder / f"{self.split}.tsv"]


def read_passages(folder: Path) -> list[Chunk]:
    """Return the passages of a BEIR folder, in the order of its file; it need not have queries.

    Raises:
        DataError: the file is missing, or a row cannot be read.
    """
    return [row.chunk() for row in read_jsonl(folder / "corpus.jsonl", _Passage)]


class _Place(Spec):
    group: str
    source: str
    start: int
    end: int


class _Passage(Record):
    model_config = _LOOSE
    id: str = Field(alias="_id")
    title: str = ""
    text: str
    metadata: _Place | Any = None  # ours where it is exactly that; other files keep what they like there

    def chunk(self) -> Chunk:
        ours = self.metadata if isinstance(self.metadata, _Place) else None
        place = ours or _Place(group="", source=self.id, start=0, end=len(self.text))
        return Chunk(
            id=self.id,
            group=self.group or place.group,
            title=self.title,
            text=self.text,
            source=place.source,
            start=place.start,
            end=place.end,
        )


class _Metadata(Spec):
    model_config = _LOOSE
    group: Any = ""
    answers: tuple[str, ...] = ()


class _Query(Record):
    model_config = _LOOSE
    id: str = Field(alias="_id")
    text: str = Field(min_length=1)
    answers: tuple[str, ...] = ()
    metadata: _Metadata = _Metadata()

    def question(self, right: Mapping[str, int]) -> Question:
        return Question(
            id=self.id,
            group=self.group or (self.metadata.group if isinstance(self.metadata.group, str) else ""),
            question=self.text,
            answers=self.answers or self.metadata.answers,
            gold=tuple(right),
            grades=tuple(right.values()),
        )


@dataclass(frozen=True, slots=True)
class _Judgement:
    line: int
    query: str
    passage: str
    score: int


def _judgements(path: Path, bad: list[str]) -> Iterator[_Judgement]:
    """Yield the judgements of one file; faults are added to `bad`, and their rows left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        bad.append(f"{path}: this file is not UTF-8 text ({error.reason} at byte {error.start})")
        return
    header = lines[0].split("\t") if lines else []
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        hint = near_miss(missing[0], header)
        bad.append(f"{path}:1: the header has no column {missing[0]!r}.{hint} It must be: {_columns_text()}")
        return
    places = [header.index(column) for column in _COLUMNS]
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) != len(header):
            bad.append(f"{path}:{number}: {len(header)} columns separated by tabs are needed (found {len(cells)})")
            continue
        query, passage, score = (cells[place].strip() for place in places)
        try:
            yield _Judgement(line=number, query=query, passage=passage, score=int(score))
        except ValueError:
            bad.append(f"{path}:{number}: score {score!r} is not a whole number")


def _near(found: str, known: Collection[str]) -> str:
    """Return the near miss among ids, where they are few enough to compare."""
    return near_miss(found, known) if len(known) <= _MOST_COMPARED else ""


def _columns_text() -> str:
    """Return the header line as a message shows it."""
    return ", ".join(_COLUMNS) + ", separated by tabs"
