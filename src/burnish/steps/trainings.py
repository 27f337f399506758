"""The trainings of one ladder: rows made from its questions, each model trained once."""

from pathlib import Path

import psutil

from burnish.prepare.examples import completions, pairs
from burnish.prepare.negatives import mine
from burnish.recipe import Files, Ladder, Recipe, TrainedGenerator, TrainedPart, TrainedRetriever, to_yaml
from burnish.records import Record, dump_jsonl
from burnish.retrievers import Progress, Retriever
from burnish.run import read_json, write_json, write_text
from burnish.steps.apart import resume_apart, train_apart
from burnish.steps.shelf import Shelf
from burnish.steps.train import Say
from burnish.steps.veto import Veto

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

    def _rows(self, part: TrainedPart, best: Retriever | None) -> dict[str, list[Record]]:
        if isinstance(part, TrainedRetriever):
            return self._pairs(part)
        assert isinstance(part, TrainedGenerator)
        retriever = best if part.passages == "best" else part.passages
        assert isinstance(retriever, Retriever)
        return self._completions(part, retriever)

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
            spread = kept[:: max(1, len(kept) // count)][:count] if count else kept
            made[side] = [*completions([questions[i] for i in spread], [shown[i] for i in spread], prompt=prompt)]
        return made
