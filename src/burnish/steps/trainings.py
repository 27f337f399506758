"""The trainings of one ladder: rows made from its questions, each model trained once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from burnish.ladder_recipe import Ladder, TrainedGenerator, TrainedJoint, TrainedPart, TrainedRetriever
from burnish.models.save import whole_generator
from burnish.prepare.examples import pairs
from burnish.prepare.ground import depth, held_out_rows, row_of, told, training_rows
from burnish.prepare.negatives import mine
from burnish.rag_rows import RagRow
from burnish.recipe import Files, Recipe, to_yaml
from burnish.records import Question, Record, dump_jsonl
from burnish.retrievers import Progress, Retriever
from burnish.run import read_json, write_json, write_text
from burnish.steps.apart import resume_apart, train_apart
from burnish.steps.shelf import Shelf
from burnish.steps.train import Say
from burnish.steps.veto import Veto

T = TypeVar("T")

MEBI = 2**20


class Trainings:
    """Trains the ladder's models under `folder`; what is finished is read back, what was stopped goes on."""

    def __init__(self, recipe: Ladder, folder: Path, shelf: Shelf, *, say: Say, progress: Progress) -> None:
        """Rows go to `folder`/data, runs to `folder`/trainings."""
        self._recipe, self._folder, self._shelf = recipe, folder, shelf
        self._say, self._progress = say, progress

    def model(self, name: str, part: TrainedPart, best: Retriever | None) -> Path:
        """Return the model folder of a training; `best` finds the passages where its recipe asks for the best."""
        run = self._folder / "trainings" / name
        manifest = run / "manifest.json"
        if manifest.is_file() and read_json(manifest)["status"] == "finished":
            return run / "model"
        self._say(f"▸ training the {name}")
        if manifest.is_file():
            return self._done(run, resume_apart(run, say=self._say, progress=self._progress))
        part = self._begun(part) if isinstance(part, TrainedJoint) else part
        files = {side: self._folder / "data" / f"{name}.{side}.jsonl" for side in ("train", "dev")}
        rows = self._rows(part, best)
        for side, path in files.items():
            write_text(path, dump_jsonl(rows[side]))
        recipe = Recipe(
            task=part.task,
            model=part.model,
            method=part.method,
            data=Files(**{side: str(path) for side, path in files.items()}),
            training=part.training,
            seed=self._recipe.seed,
        )
        write_text(self._folder / "trainings" / f"{name}.yaml", to_yaml(recipe))
        return self._done(run, train_apart(recipe, run, say=self._say, progress=self._progress))

    @staticmethod
    def _done(run: Path, peak_mb: float) -> Path:
        """Note the memory that the training and this process held at once, and return the model's folder."""
        held = psutil.Process().memory_info().rss / MEBI
        write_json(run / "cost.json", {"peak_mb": peak_mb + held})
        return run / "model"

    def _begun(self, part: TrainedJoint) -> TrainedJoint:
        """Return the joint training with the ladder's passages and prompt, and a generator that stands alone."""
        own = {"passages": str(self._folder / "data" / "chunks.jsonl"), "prompt": self._recipe.prompt}
        whole = whole_generator(part.model, self._folder / "trainings" / "generator-merged")
        return part.model_copy(update={"model": whole, "task": part.task.model_copy(update=own)})

    def _rows(self, part: TrainedPart, best: Retriever | None) -> dict[str, list[Record]]:
        if isinstance(part, TrainedRetriever):
            return self._pairs(part)
        if isinstance(part, TrainedJoint):
            data = self._shelf.data
            answered = [[row for row in rows if row.answers] for rows in (data.train, data.dev)]
            return {"train": [*_spread(answered[0], part.rows)], "dev": [*_spread(answered[1], part.dev_rows)]}
        assert isinstance(part, TrainedGenerator)
        retriever = best if part.passages == "best" else part.passages
        assert isinstance(retriever, Retriever)
        return self._grounded(part, retriever) if part.ground else self._completions(part, retriever)

    def _pairs(self, part: TrainedRetriever) -> dict[str, list[Record]]:
        """Return the retriever's rows, with mined negatives."""
        data, chunks = self._shelf.data, self._shelf.chunks
        self._progress("mining hard negatives", 0, 1)
        mined = mine(
            data.train,
            data.chunks,
            [self._shelf.searcher(part.negatives.retriever)],
            part.negatives,
            veto=Veto(part.negatives.veto) if part.negatives.veto else None,
            seed=self._recipe.seed,
        )
        told = ", ".join(f"{count} that {reason}" for reason, count in mined.dropped.items() if count)
        self._say(f"hits left out as hard negatives: {told}")
        return {
            "train": [*pairs(data.train, chunks, mined.negatives)],
            "dev": [*pairs(data.dev[: part.dev_rows], chunks, {})],
        }

    def _completions(self, part: TrainedGenerator, retriever: Retriever) -> dict[str, list[Record]]:
        """Return the generator's rows: training questions with retrieved passages, the gold one among them."""
        data, prompt = self._shelf.data, self._recipe.prompt
        made: dict[str, list[Record]] = {}
        for side, questions, count in (("train", data.train, part.rows), ("dev", data.dev, part.dev_rows)):
            shown = self._shelf.passages(questions, retriever, prompt.passages)
            kept = [i for i, q in enumerate(questions) if {chunk.id for chunk in shown[i]} & set(q.gold)]
            self._say(f"{side}: {len(kept)} of {len(questions)} questions have the gold passage among those shown")
            taken = _spread(kept, count)
            rows = [row_of(questions[i], shown[i], answerable=True) for i in taken if questions[i].answers]
            made[side] = self._rendered(rows, part, retriever)
        return made

    def _grounded(self, part: TrainedGenerator, retriever: Retriever) -> dict[str, list[Record]]:
        """Return the generator's rows as its `ground` has them made; dev rows are what serving would show."""
        assert part.ground is not None
        data, chunks, count = self._shelf.data, self._shelf.chunks, self._recipe.prompt.passages
        searcher = self._shelf.searcher(retriever)
        hits = {
            side: searcher.search([question.question for question in questions], depth(count))
            for side, questions in (("train", data.train), ("dev", data.dev))
        }
        grounded = {
            "train": training_rows(
                data.train, hits["train"], chunks, part.ground, passages=count, seed=self._recipe.seed
            ),
            "dev": held_out_rows(data.dev, hits["dev"], chunks, part.ground, passages=count),
        }
        for side, found in grounded.items():
            self._say(f"{side}: {told(found)}")
        wanted = {"train": part.rows, "dev": part.dev_rows}
        return {
            side: self._rendered(_spread(found.rows, wanted[side]), part, retriever) for side, found in grounded.items()
        }

    def _rendered(self, rows: Sequence[RagRow], part: TrainedGenerator, retriever: Retriever) -> list[Record]:
        """Return rows as prompts and completions, with examples where the recipe asks for some."""
        prompt = self._recipe.prompt
        asked = [Question(id=row.id, group=row.group, question=row.question) for row in rows]
        shots = self._shelf.shots(part.shots, asked, retriever, prompt)
        return [prompt.completion(row, shots=found) for row, found in zip(rows, shots, strict=True)]


def _spread(rows: Sequence[T], count: int | None) -> Sequence[T]:
    """Return so many rows from all over them; all, where none are counted."""
    return rows[:: max(1, len(rows) // count)][:count] if count else rows
