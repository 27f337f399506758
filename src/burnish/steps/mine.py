"""Mine: passages and judged questions in, training rows with hard negatives out, each rule with its count."""

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import DataError, RunError
from burnish.models.precision import device_words
from burnish.prepare.examples import pairs
from burnish.prepare.mining import REASONS, Judge, Rules
from burnish.prepare.negatives import Mined, choose
from burnish.readers import Reader
from burnish.readers.beir import Beir
from burnish.records import Chunk, Question, check_gold, dump_jsonl, records_fingerprint
from burnish.retrievers import Progress, Retriever
from burnish.run import checksum, locked, read_json, versions, write_json
from burnish.steps.hits import QUESTIONS, Hits, blocks, label
from burnish.steps.mine_recipe import Mine
from burnish.steps.train import Say
from burnish.steps.veto import Veto
from burnish.text import fingerprint


@dataclass(frozen=True, slots=True)
class Ground:
    """Passages, and questions with the passages that are right for them; right: by any judgement there is."""

    chunks: Mapping[str, Chunk]
    questions: Sequence[Question]
    right: Mapping[str, Collection[str]]

    @property
    def fingerprint(self) -> str:
        """What names all of it."""
        right = [f"{key} {sorted(ids)}" for key, ids in sorted(self.right.items())]
        return fingerprint(records_fingerprint([*self.chunks.values(), *self.questions]), *right)

    def of(self, questions: Sequence[Question]) -> "Ground":
        """Return the same passages with some of the questions."""
        return Ground(self.chunks, questions, self.right)


@dataclass
class _Counts:
    """What is counted over all blocks."""

    dropped: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REASONS, 0)))
    lists: Counter[int] = field(default_factory=Counter)  # negatives by the retrievers that found them
    totals: Counter[str] = field(default_factory=Counter)

    def add(self, mined: Mined) -> None:
        self.dropped.update(mined.dropped)
        for found in mined.chosen.values():
            self.totals.update(negatives=len(found), without=int(not found))
            self.lists.update(place for c in found for place, rank in enumerate(c.ranks) if rank is not None)
        self.totals.update(questions=len(mined.chosen), short=mined.short, unfound=mined.unfound)


def mine(recipe: Mine, out: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Mine once: rows go to OUT; beside it NAME.negatives.jsonl has each negative's ranks and scores.

    NAME.mined.json has settings, counts and fingerprints, and is what is returned. What is costly stays in the folder
    NAME.mining: the same command, killed or with other rules, goes on from there.

    Raises:
        RunError: something stands at OUT that no mining wrote.
    """
    with locked(out.with_suffix(".mining")):
        require_ours(out)
        ground = read_ground(recipe.data, progress)
        settings = recipe.model_dump(mode="json", exclude={"rounds"})
        return mine_rows(
            ground,
            recipe.retrievers,
            recipe.rules,
            out,
            settings=settings,
            seed=recipe.seed,
            say=say,
            progress=progress,
        )


def read_ground(reader: Reader, progress: Progress) -> Ground:
    """Read passages and questions; of a BEIR folder, what other splits call right for a question is right too.

    Raises:
        DataError: there is no question with a right passage, or one that is not there.
    """
    progress("reading the source", 0, 1)
    right: dict[str, Collection[str]] = {}
    if isinstance(reader, Beir) and reader.split is not None:
        right = {question.id: question.gold for question in Beir(path=reader.path).load().questions}
    source = reader.load()
    questions = [question for question in source.questions if question.gold]
    if not questions:
        raise DataError(
            f"the source holds {len(source.chunks)} passages and no question with a right one: there is nothing to "
            "mine negatives for. `burnish synthesize` writes questions"
        )
    check_gold(questions, source.chunks)
    return Ground({chunk.id: chunk for chunk in source.chunks}, questions, right)


def mine_rows(
    ground: Ground,
    retrievers: Sequence[Retriever],
    rules: Rules,
    out: Path,
    *,
    settings: Mapping[str, Any],
    seed: int,
    index: Path | None = None,
    say: Say,
    progress: Progress,
) -> dict[str, Any]:
    """Search, choose and write; `mine` says what. index: where vectors are kept; None: in the folder of the mining."""
    began, work = time.perf_counter(), out.with_suffix(".mining")
    name = ground.fingerprint
    lists = [Hits(retriever, work / "hits", ground=name, depth=rules.depth) for retriever in retrievers]
    chunks = [*ground.chunks.values()]
    for found in lists:
        found.find(ground.questions, chunks, index=index or work / "index", say=say, progress=progress)
    judge, counts = Judge(rules, ground.chunks), _Counts()
    veto = Veto(rules.veto, work) if rules.veto else None
    rows_path, told_path = (path.with_name(f".{path.name}.part") for path in (out, _beside(out, "negatives.jsonl")))
    with rows_path.open("w", encoding="utf-8") as rows, told_path.open("w", encoding="utf-8") as told:
        for place, block in enumerate(blocks(ground.questions)):
            progress("choosing negatives", place * QUESTIONS, len(ground.questions))
            hits = [found.read(place) for found in lists]
            mined = choose(block, hits, judge, right=ground.right, veto=veto, seed=seed)
            counts.add(mined)
            rows.write(dump_jsonl(pairs(block, ground.chunks, mined.negatives)))
            told.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(mined))
    facts = {
        "settings": settings,
        "fingerprints": {"source": name, "retrievers": [found.fingerprint for found in lists]},
        "rows_sha256": checksum(rows_path),
        "counts": dict(counts.totals),
        "per_question": rules.per_question,
        "dropped": dict(counts.dropped),
        "found_by": {label(retriever): counts.lists[place] for place, retriever in enumerate(retrievers)},
        "seconds": time.perf_counter() - began,
        "device": device_words(),
        "versions": versions(),
    }
    write_json(work / "written.json", {"rows_sha256": facts["rows_sha256"]})
    told_path.replace(_beside(out, "negatives.jsonl"))
    rows_path.replace(out)
    write_json(_beside(out, "mined.json"), facts)
    return facts


def require_ours(out: Path) -> None:
    """Check that nothing is overwritten but rows that a mining wrote and nobody changed.

    Raises:
        RunError: something else stands there.
    """
    if not out.exists():
        return
    known = set()
    for path in (_beside(out, "mined.json"), out.with_suffix(".mining") / "written.json"):
        with suppress(RunError):
            known.add(read_json(path)["rows_sha256"])
    if not out.is_file() or checksum(out) not in known:
        raise RunError(f"{out}: what stands here was not written by a mining, or was changed since; name another --out")


def _lines(mined: Mined) -> list[dict[str, Any]]:
    """Return what is told of each question: its negatives, with rank and score in each retriever's list."""
    return [
        {"id": key, "negatives": [{"id": c.id, "ranks": c.ranks, "scores": c.scores} for c in found]}
        for key, found in mined.chosen.items()
    ]


def _beside(out: Path, ending: str) -> Path:
    return out.with_suffix(f".{ending}")
