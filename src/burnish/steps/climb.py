"""The climb of one ladder: builds, trains and measures what each rung asks for, once."""

import re
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.evaluation.measure import Measured, measure_answers, measure_retrieval
from burnish.models.precision import device_words
from burnish.prepare.corpus import Prepared
from burnish.prepare.examples import completions, pairs
from burnish.prepare.negatives import mine
from burnish.prompt import Shot
from burnish.recipe import TRAINED, Files, Ladder, Recipe, Rung, TrainedPart, placed, to_yaml
from burnish.records import Chunk, Pair, Question, Record, dump_jsonl
from burnish.retrievers import Progress, Retriever, Searcher
from burnish.run import Run, read_json, write_json, write_text
from burnish.spec import dump_part
from burnish.steps.train import Say, resume, train
from burnish.text import TextFormat

SHOT_TRIES = 50  # training questions looked through for examples whose gold passage is among those shown


class Climb:
    """What the rungs share: data, searchers, trained models. Finished pieces are read back from the folder."""

    def __init__(
        self,
        recipe: Ladder,
        folder: Path,
        data: Prepared,
        questions: list[Question],
        *,
        say: Say,
        progress: Progress,
    ) -> None:
        """Keep everything in `folder`; `questions` are those that the answer rungs are asked."""
        self.recipe, self.folder, self.data, self.questions = recipe, folder, data, questions
        self.say, self.progress = say, progress
        self.chunks = {chunk.id: chunk for chunk in data.chunks}
        self.models: dict[str, Path] = {}
        self.device = device_words()
        self.peak_mb = 0.0
        self._searchers: dict[str, Searcher] = {}
        self._dev: dict[str, float] = {}  # retrieval rung → its main metric on the dev questions
        self._rungs: dict[str, Rung] = {}

    def rung(self, rung: Rung) -> Measured:
        """Measure a rung, or read back what was measured."""
        path = self._path(rung.name)
        started = time.perf_counter()
        self._train_for(rung)
        ready = placed(rung, self.models)
        self._rungs[rung.name] = ready
        if path.is_file():
            kept = read_json(path)
            self._dev |= {rung.name: kept["dev"]} if kept["dev"] is not None else {}
            return Measured.from_json(kept["measured"])
        self.say(f"▸ {rung.name}")
        measured = self._answers(ready) if ready.generator else self._retrieval(ready)
        write_json(
            path,
            {
                "measured": measured.as_json(),
                "dev": self._dev.get(rung.name),
                "seconds": time.perf_counter() - started,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            },
        )
        return measured

    @property
    def best_name(self) -> str:
        """The retrieval rung that is best on the dev questions: test questions choose nothing."""
        return max(self._dev, key=lambda name: self._dev[name])

    def costs(self, name: str) -> dict[str, Any]:
        """Return seconds of a rung (its training included) and how many weights were trained for it."""
        kept = read_json(self._path(name))
        self.peak_mb = max(self.peak_mb, kept["peak_mb"])
        used = [part for part in self.models if f"{TRAINED}{part}" in self._original(name).model_dump_json()]
        manifests = [Run.open(self.folder / "trainings" / part).manifest for part in used]
        return {"seconds": kept["seconds"], "trainable": sum(manifest["trainable"] for manifest in manifests)}

    def pipeline(self) -> dict[str, Any]:
        """Return the best retriever and the last generator, as `burnish ask` will build them."""
        answering = [rung for rung in self._rungs.values() if rung.generator and rung.retriever]
        last = answering[-1] if answering else None
        retriever = self._retriever(last) if last else self._rungs[self.best_name].retriever
        return {
            "retriever": dump_part(retriever) if isinstance(retriever, Retriever) else None,
            "generator": dump_part(last.generator) if last and last.generator else None,
            "prompt": self.recipe.prompt.model_dump(mode="json"),
        }

    def _retrieval(self, rung: Rung) -> Measured:
        searcher = self._searcher(rung.retriever)
        metrics = self.recipe.retrieval_metrics
        dev = measure_retrieval(searcher, self.data.dev, metrics[:1]).scores[metrics[0].label].values
        self._dev[rung.name] = sum(dev) / len(dev)
        return measure_retrieval(searcher, self.data.test, metrics)

    def _answers(self, rung: Rung) -> Measured:
        retriever = self._retriever(rung)
        shots = self._shots(rung.shots, retriever)
        passages = self._passages(self.questions, retriever)
        self.progress("loading the generator", 0, 1)
        assert rung.generator is not None
        return measure_answers(
            rung.generator.load(),
            self.questions,
            passages,
            self.recipe.answer_metrics,
            prompt=self.recipe.prompt,
            shots=shots,
            pick=rung.pick,
            progress=self.progress,
        )

    def _retriever(self, rung: Rung) -> Retriever | None:
        found = self._rungs[self.best_name].retriever if rung.retriever == "best" else rung.retriever
        return found if isinstance(found, Retriever) else None

    def _searcher(self, retriever: Any) -> Searcher:
        key = retriever.model_dump_json() + retriever.kind
        if key not in self._searchers:
            self._searchers[key] = retriever.build(
                self.data.chunks, cache=self.folder / "index", progress=self.progress
            )
        return self._searchers[key]

    def _passages(self, questions: Sequence[Question], retriever: Retriever | None) -> list[list[Chunk]]:
        if retriever is None:
            return [[] for _ in questions]
        hits = self._searcher(retriever).search([q.question for q in questions], self.recipe.prompt.passages)
        return [[self.chunks[hit.id] for hit in row] for row in hits]

    def _shots(self, count: int, retriever: Retriever | None) -> list[Shot]:
        """Return training questions from all over the set whose gold passage is among those shown, answered."""
        pool = self.data.train[:: max(1, len(self.data.train) // SHOT_TRIES)] if count else []
        rows = zip(pool, self._passages(pool, retriever), strict=True)
        fitting = [(q, row) for q, row in rows if not row or {chunk.id for chunk in row} & set(q.gold)]
        spread = fitting[:: max(1, len(fitting) // count)][:count] if count else []
        return [(q.question, row, q.answers[0]) for q, row in spread]

    def _train_for(self, rung: Rung) -> None:
        """Train what the rung uses and the ladder has not trained yet."""
        for name, part in (("retriever", self.recipe.retriever), ("generator", self.recipe.generator)):
            if part and name not in self.models and f"{TRAINED}{name}" in rung.model_dump_json():
                self.models[name] = self._trained(name, part)

    def _trained(self, name: str, part: TrainedPart) -> Path:
        """Return the model folder of a training: finished before, resumed, or trained now."""
        run = self.folder / "trainings" / name
        manifest = run / "manifest.json"
        if manifest.is_file() and read_json(manifest)["status"] == "finished":
            return run / "model"
        self.say(f"▸ training the {name}")
        if manifest.is_file():
            return resume(run, say=self.say, progress=self.progress).folder / "model"
        files = {side: self.folder / "data" / f"{name}.{side}.jsonl" for side in ("train", "dev")}
        rows = self._pairs() if name == "retriever" else self._completions()
        for side, path in files.items():
            write_text(path, dump_jsonl(rows[side]))
        recipe = Recipe(
            task=part.task,
            model=part.model,
            method=part.method,
            data=Files(**files),
            training=part.training,
            seed=self.recipe.seed,
        )
        write_text(self.folder / "trainings" / f"{name}.yaml", to_yaml(recipe))
        return train(recipe, run, say=self.say, progress=self.progress).folder / "model"

    def _pairs(self) -> dict[str, list[Record]]:
        """Return the retriever's rows, with mined negatives."""
        part = self.recipe.retriever
        assert part is not None
        self.progress("mining hard negatives", 0, 1)
        mined = mine(
            self.data.train,
            self.data.chunks,
            self._searcher(part.negatives.retriever),
            per_question=part.negatives.per_question,
            depth=part.negatives.depth,
            ceiling=part.negatives.ceiling,
        )
        told = ", ".join(f"{count} that {reason}" for reason, count in mined.dropped.items() if count)
        self.say(f"hits left out as hard negatives: {told}")
        form = TextFormat()
        made: list[Pair] = pairs(self.data.train, self.chunks, mined.negatives, form=form)
        return {"train": [*made], "dev": [*pairs(self.data.dev[: part.dev_rows], self.chunks, {}, form=form)]}

    def _completions(self) -> dict[str, list[Record]]:
        """Return the generator's rows: training questions with retrieved passages, the gold one among them."""
        part = self.recipe.generator
        assert part is not None
        retriever = self._rungs[self.best_name].retriever if part.passages == "best" else part.passages
        assert isinstance(retriever, Retriever)
        made: dict[str, list[Record]] = {}
        for side, questions, count in (("train", self.data.train, part.rows), ("dev", self.data.dev, part.dev_rows)):
            shown = self._passages(questions, retriever)
            kept = [i for i, q in enumerate(questions) if {chunk.id for chunk in shown[i]} & set(q.gold)]
            self.say(f"{side}: {len(kept)} of {len(questions)} questions have the gold passage among those shown")
            spread = kept[:: max(1, len(kept) // count)][:count] if count else kept
            rows = completions([questions[i] for i in spread], [shown[i] for i in spread], prompt=self.recipe.prompt)
            made[side] = [*rows]
        return made

    def _original(self, name: str) -> Rung:
        return next(rung for rung in self.recipe.rungs if rung.name == name)

    def _path(self, name: str) -> Path:
        return self.folder / "rungs" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
