"""Ground: passages and questions in, rows out that teach a generator to answer from passages, cite and abstain."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from burnish.errors import DataError, RunError
from burnish.prepare.corpus import SIDES, prepare
from burnish.prepare.folder import save
from burnish.prepare.ground import Grounded, depth, held_out_rows, training_rows
from burnish.readers.beir import Beir
from burnish.records import Chunk, Question, Rejected, dump_jsonl, records_fingerprint
from burnish.retrievers import Progress
from burnish.run import checksum, locked, read_json, versions, write_json, write_text
from burnish.spec import dump_part
from burnish.steps.ground_recipe import Ground
from burnish.steps.hits import Hits, blocks
from burnish.steps.train import Say

TOLD = "ground.json"


@dataclass(frozen=True, slots=True)
class _Sides:
    """Passages, the questions of each side, and what the source or the split left out."""

    chunks: Sequence[Chunk]
    questions: Mapping[str, Sequence[Question]]
    rejected: Sequence[Rejected]
    kept: bool  # in the folder, as a prepared corpus


def ground(recipe: Ground, folder: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Make the rows; return what `ground.json` holds.

    The folder gets train.jsonl, dev.jsonl and test.jsonl, prompts and completions as `burnish train` reads them;
    rows/SIDE.jsonl, the same with their passages and gold ids; prompts/SIDE.jsonl, what judges of answers read;
    rejected.jsonl, the questions without a row, each with the reason; and pipeline.json, by which `burnish ask` puts
    questions in the same way. What is costly stays in `work`: the same command, killed or with other settings, goes on
    from there.

    Raises:
        RunError: something stands in the folder that was not written so, or was changed since.
        DataError: the source has no questions to train on, or no row could be made.
    """
    with locked(folder):
        _require_ours(folder)
        began = time.perf_counter()
        sides = _read(recipe, folder, progress)
        passages, seed = recipe.prompt.passages, recipe.seed
        chunks = {chunk.id: chunk for chunk in sides.chunks}
        name = records_fingerprint([*sides.chunks, *(q for found in sides.questions.values() for q in found)])
        made = {}
        for side, questions in sides.questions.items():
            hits = Hits(recipe.retriever, folder / "work", ground=f"{name} {side}", depth=depth(passages))
            hits.find(questions, sides.chunks, index=folder / "index", say=say, progress=progress)
            made[side] = Grounded()
            for place, block in enumerate(blocks(questions)):
                found = hits.read(place)
                made[side].add(
                    training_rows(block, found, chunks, recipe.rows, passages=passages, seed=seed)
                    if side == "train"
                    else held_out_rows(block, found, chunks, recipe.rows, passages=passages)
                )
        if not made["train"].rows:
            reasons = Counter(row.reason for row in made["train"].rejected)
            raise DataError(f"no row can be made of {len(sides.questions['train'])} questions: {dict(reasons)}")
        return _write(recipe, folder, made, sides, seconds=time.perf_counter() - began, source=name)


def _read(recipe: Ground, folder: Path, progress: Progress) -> _Sides:
    """Read the source; a BEIR folder with qrels/train.tsv parts its questions itself, others are split by group.

    Raises:
        DataError: the source has no question.
    """
    progress("reading the source", 0, 1)
    reader = recipe.data
    if isinstance(reader, Beir) and reader.split is None and (reader.path / "qrels" / "train.tsv").is_file():
        there = [side for side in SIDES if (reader.path / "qrels" / f"{side}.tsv").is_file()]
        sources = {side: reader.model_copy(update={"split": side}).load() for side in there}
        questions = {side: source.questions for side, source in sources.items()}
        judged = {question.id for found in questions.values() for question in found}
        rejected = {row.id: row for source in sources.values() for row in source.rejected if row.id not in judged}
        return _Sides(sources["train"].chunks, questions, [*rejected.values()], kept=False)
    source = reader.load()
    if not source.questions:
        raise DataError(f"the source holds {len(source.chunks)} passages and no question: there are no rows to make")
    progress("splitting and checking for leaks", 0, 1)
    shares = {"train": 1 - recipe.dev - recipe.test, "dev": recipe.dev, "test": recipe.test}
    data = prepare(source, name=folder.name, shares=shares, seed=recipe.seed)
    save(data, folder / "data")
    questions = dict(zip(SIDES, (data.train, data.dev, data.test), strict=True))
    return _Sides(data.chunks, questions, data.rejected, kept=True)


def _write(
    recipe: Ground, folder: Path, made: Mapping[str, Grounded], sides: _Sides, *, seconds: float, source: str
) -> dict[str, Any]:
    """Write everything, what tells of it last."""
    rejected = [*sides.rejected, *(row for found in made.values() for row in found.rejected)]
    texts = {f"{side}.jsonl": dump_jsonl(map(recipe.prompt.completion, found.rows)) for side, found in made.items()}
    sums = {name: sha256(text.encode()).hexdigest() for name, text in texts.items()}
    write_json(folder / "work" / "written.json", {"sha256": sums})
    for side, found in made.items():
        write_text(folder / "rows" / f"{side}.jsonl", dump_jsonl(found.rows))
        write_text(folder / "prompts" / f"{side}.jsonl", dump_jsonl(map(recipe.prompt.asked, found.rows)))
        write_text(folder / f"{side}.jsonl", texts[f"{side}.jsonl"])
    write_text(folder / "rejected.jsonl", dump_jsonl(rejected))
    write_json(
        folder / "pipeline.json",
        {
            "retriever": dump_part(recipe.retriever),
            "generator": None,
            "prompt": recipe.prompt.model_dump(mode="json"),
            "source": None if sides.kept else dump_part(recipe.data),
        },
    )
    told = {
        "settings": recipe.model_dump(mode="json"),
        "sides": {
            side: {
                "questions": len(sides.questions[side]),
                "rows": len(found.rows),
                "ways": dict(found.ways),
                "left_out": dict(found.left_out),
                "rejected": dict(Counter(row.reason for row in found.rejected)),
            }
            for side, found in made.items()
        },
        "fingerprints": {"source": source},
        "sha256": sums,
        "seconds": seconds,
        "versions": versions(),
    }
    write_json(folder / TOLD, told)
    return told


def _require_ours(folder: Path) -> None:
    """Check that nothing is overwritten but rows that were written here and nobody changed.

    Raises:
        RunError: something else stands there.
    """
    there = [folder / f"{side}.jsonl" for side in SIDES if (folder / f"{side}.jsonl").exists()]
    told = [path for path in (folder / TOLD, folder / "work" / "written.json") if path.is_file()]
    known = {total for path in told for total in read_json(path)["sha256"].values()}
    foreign = [path for path in there if checksum(path) not in known]
    if foreign:
        raise RunError(
            f"{foreign[0]}: what stands here was not written by `burnish ground`, or was changed since; name another "
            "folder with --out"
        )
