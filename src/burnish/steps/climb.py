"""The climb of one ladder: builds, trains and measures what each rung asks for, once."""

import re
import resource
import time
from pathlib import Path
from typing import Any

from burnish.evaluation.measure import Measured, measure_answers, measure_retrieval
from burnish.failures import in_words
from burnish.ladder_recipe import Ladder, Rung, TrainedJoint
from burnish.models.precision import device_words
from burnish.prepare.corpus import Prepared
from burnish.prepare.synthesize import sample
from burnish.recipe import TRAINED, placed
from burnish.records import Question
from burnish.retrievers import Progress, Retriever
from burnish.run import Run, read_json, write_json
from burnish.spec import dump_part
from burnish.steps.shelf import Shelf
from burnish.steps.train import Say
from burnish.steps.trainings import Trainings

JOINT = "joint-"  # before the halves' names, where they were trained on together


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
        self.shelf = Shelf(data, folder / "index", say=say, progress=progress)
        self.trainings = Trainings(recipe, folder, self.shelf, say=say, progress=progress)
        self.models: dict[str, Path] = {}
        self.notes: list[str] = []  # what was decided on the way, for a person
        self.device = device_words()
        self.peak_mb = 0.0
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
        measured = self._answers(ready, self.questions) if ready.generator else self._retrieval(ready)
        for label, counts in measured.failures.items():
            lost = in_words(counts, len(self.questions))
            self.say(f"  {label}: {lost} could not be judged, and are left out of it")
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
        names = dict.fromkeys("joint" if part.startswith(JOINT) else part for part in used)
        runs = [Run.open(self.folder / "trainings" / part) for part in names]
        manifests = [run.manifest for run in runs]
        self.peak_mb = max(self.peak_mb, *(read_json(run.folder / "cost.json")["peak_mb"] for run in runs), 0.0)
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
            "shots": last.shots.model_dump(mode="json") if last else None,
        }

    def _retrieval(self, rung: Rung) -> Measured:
        assert isinstance(rung.retriever, Retriever)
        searcher = self.shelf.searcher(rung.retriever)
        metrics = self.recipe.retrieval_metrics
        dev = measure_retrieval(searcher, self.data.dev, metrics[:1]).scores[metrics[0].label].values
        self._dev[rung.name] = sum(dev) / len(dev)
        return measure_retrieval(searcher, self.data.test, metrics)

    def _answers(self, rung: Rung, questions: list[Question]) -> Measured:
        retriever = self._retriever(rung)
        shown = self.recipe.prompt.passages
        shots = self.shelf.shots(rung.shots, questions, retriever, self.recipe.prompt)
        passages = self.shelf.passages(questions, retriever, shown)
        self.progress("loading the generator", 0, 1)
        assert rung.generator is not None
        return measure_answers(
            rung.generator.load(),
            questions,
            passages,
            self.recipe.answer_metrics,
            prompt=self.recipe.prompt,
            shots=shots,
            pick=rung.pick,
            grounder=self.recipe.grounding,
            progress=self.progress,
        )

    def _retriever(self, rung: Rung) -> Retriever | None:
        found = self._rungs[self.best_name].retriever if rung.retriever == "best" else rung.retriever
        return found if isinstance(found, Retriever) else None

    def _train_for(self, rung: Rung) -> None:
        """Train what the rung uses and the ladder has not trained yet."""
        asked = rung.model_dump_json()
        jointly = self.recipe.joint if f"{TRAINED}{JOINT}" in asked else None
        asked += jointly.model_dump_json() if jointly else ""
        for name, part in (("retriever", self.recipe.retriever), ("generator", self.recipe.generator)):
            if part and name not in self.models and f"{TRAINED}{name}" in asked:
                best = self._rungs[self.best_name].retriever if self._dev else None
                found = best if isinstance(best, Retriever) else None
                self.models[name] = self.trainings.model(name, part, found)
        if jointly and f"{JOINT}generator" not in self.models:
            self.models |= self._train_jointly(rung, placed(jointly, self.models))

    def _train_jointly(self, rung: Rung, part: TrainedJoint) -> dict[str, Path]:
        """Return both halves as joint training leaves them, or as they were where dev questions say that is better."""
        task: Any = part.task
        model = self.trainings.model("joint", part, None)
        before = {f"{JOINT}retriever": Path(task.retriever), f"{JOINT}generator": Path(part.model)}
        after = {name: model / name.removeprefix(JOINT) for name in before}
        told = self.folder / "trainings" / "joint" / "kept.json"
        if not told.is_file():
            questions = sample([row for row in self.data.dev if row.answers], part.dev_rows, seed=self.recipe.seed)
            scores = [self._on_dev(placed(rung, halves), questions) for halves in (before, after)]
            found = {"before": scores[0], "after": scores[1], "questions": len(questions)}
            write_json(told, {**found, "kept": scores[1] > scores[0]})
        found = read_json(told)
        end = "kept" if found["kept"] else "not kept: the halves stay as they were"
        reached = f"{found['before']:.3f} before, {found['after']:.3f} after"
        self.notes.append(f"Joint training, on {found['questions']} dev questions: {reached}; {end}.")
        self.say(self.notes[-1])
        return after if found["kept"] else before

    def _on_dev(self, rung: Rung, questions: list[Question]) -> float:
        """Return a rung's main metric on dev questions."""
        if rung.generator:
            found = self._answers(rung, questions).scores[self.recipe.answer_metrics[0].label]
        else:
            assert isinstance(rung.retriever, Retriever)
            metric = self.recipe.retrieval_metrics[0]
            found = measure_retrieval(self.shelf.searcher(rung.retriever), questions, [metric]).scores[metric.label]
        return sum(found.values) / len(found.values)

    def _original(self, name: str) -> Rung:
        return next(rung for rung in self.recipe.rungs if rung.name == name)

    def _path(self, name: str) -> Path:
        return self.folder / "rungs" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
