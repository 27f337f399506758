"""Rounds: mine, train, mine with what was trained; each round scored on held-out questions, the best model kept."""

import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from burnish.evaluation.compare import compare, gap_text
from burnish.evaluation.measure import Measured, measure_retrieval
from burnish.evaluation.score import interval
from burnish.prepare.dedup import clusters
from burnish.prepare.examples import pairs
from burnish.prepare.split import split
from burnish.recipe import TRAINED, Files, Recipe, placed
from burnish.records import Question, check_gold, dump_jsonl
from burnish.retrievers import Progress
from burnish.run import locked, new_folder, read_json, versions, write_json, write_text
from burnish.steps.apart import resume_apart, train_apart
from burnish.steps.claim import claim
from burnish.steps.mine import Ground, mine_rows, read_ground
from burnish.steps.mine_recipe import MODEL, Mine, Rounds
from burnish.steps.train import Say
from burnish.text import normal


def rounds(recipe: Mine, folder: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Run the recipe's rounds in `folder`, or go on with those begun there; return what `rounds.json` holds.

    rounds/N/  rows.jsonl and what mining writes beside it · run/ (the training) · round.json (counts, dev score, costs)
    model/     the model of the round with the best dev score; where the base was not beaten there is none
    A round that is finished is read back; a training that was stopped goes on from its newest checkpoint.

    Raises:
        RunError: the folder was begun with another recipe or on another source.
    """
    assert recipe.rounds is not None
    with locked(folder):
        ground = read_ground(recipe.data, progress)
        train, dev = _sides(recipe, recipe.rounds, ground)
        claim(folder, recipe, [[*ground.chunks.values()], train, dev], kind="rounds")
        write_text(folder / "dev.jsonl", dump_jsonl(pairs(_spread(dev, recipe.rounds.dev_rows), ground.chunks, {})))
        say(f"{len(train)} questions to train on, {len(dev)} that choose the best round")
        work = _Work(recipe, recipe.rounds, folder, ground.of(train), dev, say, progress)
        done = [work.base(), *(work.round(number) for number in range(1, recipe.rounds.count + 1))]
        return _told(recipe, folder, done)


class _Work:
    """What the rounds of one folder have in common."""

    def __init__(
        self,
        recipe: Mine,
        settings: Rounds,
        folder: Path,
        ground: Ground,
        dev: Sequence[Question],
        say: Say,
        progress: Progress,
    ) -> None:
        self._recipe, self._settings, self._folder = recipe, settings, folder
        self._ground, self._dev, self._say, self._progress = ground, dev, say, progress

    def base(self) -> dict[str, Any]:
        """Score the base as it is: round 0."""
        return self._kept(0) or self._write(0, {"start": None}, began=time.perf_counter())

    def round(self, number: int) -> dict[str, Any]:
        """Mine with the model of the round before, train, and score what came of it."""
        if found := self._kept(number):
            return found
        self._say(f"▸ round {number} of {self._settings.count}")
        place, began = self._place(number), time.perf_counter()
        mined = mine_rows(
            self._ground,
            self._placed(number - 1).retrievers,
            self._recipe.rules,
            place / "rows.jsonl",
            settings=self._placed(number - 1).model_dump(mode="json", exclude={"rounds"}),
            seed=self._recipe.seed,
            index=self._place(number - 1) / "index",
            say=self._say,
            progress=self._progress,
        )
        counted = {key: mined[key] for key in ("counts", "dropped", "found_by", "per_question")}
        seconds = {"mining": time.perf_counter() - began}
        start = self._model(number - 1 if self._settings.start == "previous" else 0)
        began = time.perf_counter()
        self._train(start, place)
        seconds["training"] = time.perf_counter() - began
        told = self._write(number, {"start": start, **counted, "seconds": seconds}, began=time.perf_counter())
        shutil.rmtree(self._place(number - 1) / "index", ignore_errors=True)  # vectors of a model that searches no more
        return told

    def _train(self, start: str, place: Path) -> None:
        """Train in a process of its own, which gives back all of its memory; what is finished stays as it is."""
        run = place / "run"
        if (run / "manifest.json").is_file():
            if read_json(run / "manifest.json")["status"] != "finished":
                resume_apart(run, say=self._say, progress=self._progress)
            return
        recipe = Recipe(
            task=self._settings.task,
            model=start,
            method=self._settings.method,
            data=Files(train=str(place / "rows.jsonl"), dev=str(self._folder / "dev.jsonl")),
            training=self._settings.training,
            seed=self._recipe.seed,
        )
        train_apart(recipe, run, say=self._say, progress=self._progress)

    def _write(self, number: int, facts: dict[str, Any], *, began: float) -> dict[str, Any]:
        """Score the model of a round on all passages, and note the round as finished."""
        self._progress("scoring the dev questions", 0, 1)
        own = next(part for part in self._recipe.retrievers if MODEL in part.model_dump_json())
        searcher = placed(own, {"model": Path(self._model(number))}).build(
            [*self._ground.chunks.values()], cache=self._place(number) / "index", progress=self._progress
        )
        measured = measure_retrieval(searcher, self._dev, [self._settings.metric])
        scores = measured.scores[self._settings.metric.label]
        seconds = {**facts.pop("seconds", {}), "scoring": time.perf_counter() - began}
        told = {
            "round": number,
            "model": self._model(number),
            **facts,
            "dev": asdict(interval(scores, seed=self._recipe.seed)),
            "seconds": seconds,
            "scores": Measured(measured.kind, measured.scores).as_json(),
        }
        write_json(self._place(number) / "round.json", told)
        return told

    def _kept(self, number: int) -> dict[str, Any] | None:
        path = self._place(number) / "round.json"
        found: dict[str, Any] | None = read_json(path) if path.is_file() else None
        return found

    def _place(self, number: int) -> Path:
        return self._folder / "rounds" / str(number)

    def _model(self, number: int) -> str:
        return str(self._place(number) / "run" / "model") if number else self._settings.model

    def _placed(self, number: int) -> Mine:
        """Return the recipe with the model of a round where it names `trained/model`, and without its rounds."""
        found = self._recipe.model_dump(mode="json", exclude={"rounds", "retrievers"})
        models = {MODEL.removeprefix(TRAINED): Path(self._model(number))}
        return Mine.model_validate({**found, "retrievers": [placed(part, models) for part in self._recipe.retrievers]})


def _sides(recipe: Mine, settings: Rounds, ground: Ground) -> tuple[list[Question], list[Question]]:
    """Return the questions that are trained on, and those that choose the best round.

    Where the latter have a source of their own, none of them is trained on. Else they are a share of all: questions of
    a group, with a right passage in common or with the same words stay together.
    """
    if settings.dev is not None:
        dev = [question for question in settings.dev.load().questions if question.gold]
        check_gold(dev, ground.chunks.values())
        ids, words = {question.id for question in dev}, {normal(question.question) for question in dev}
        train = [q for q in ground.questions if q.id not in ids and normal(q.question) not in words]
        return train, dev
    holders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, question in enumerate(ground.questions):
        keys = [("passage", key) for key in question.gold] + [("words", normal(question.question))]
        for key in [*keys, *([("group", question.group)] if question.group else [])]:
            holders[key].append(place)
    links = [(places[0], other) for places in holders.values() for other in places[1:]]
    together = [ground.questions[first].id for first in clusters(len(ground.questions), links)]
    shares = {"train": 1 - settings.dev_share, "dev": settings.dev_share}
    sides = split(together, shares=shares, seed=recipe.seed)
    train, dev = (
        [question for question, side in zip(ground.questions, sides, strict=True) if side == wanted]
        for wanted in ("train", "dev")
    )
    return train, dev


def _spread(questions: Sequence[Question], count: int) -> Sequence[Question]:
    """Return at most so many questions, from all over the list."""
    return questions[:: max(1, len(questions) // count)][:count]


def _told(recipe: Mine, folder: Path, done: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Keep the best model, and return what `rounds.json` holds; a round's gain is over the one before it, paired."""
    assert recipe.rounds is not None
    label = recipe.rounds.metric.label
    scores = [Measured.from_json(told["scores"]).scores[label] for told in done]
    best = max(range(len(done)), key=lambda number: done[number]["dev"]["value"])  # the first of equals
    gains = [asdict(compare(own, before, seed=recipe.seed)) for before, own in pairwise(scores)]
    found = {
        "metric": label,
        "rounds": [
            {**{key: value for key, value in told.items() if key != "scores"}, "gain": gain}
            for told, gain in zip(done, [None, *gains], strict=True)
        ],
        "best": best,
        "sentence": _sentence(label, best, done, asdict(compare(scores[best], scores[0], seed=recipe.seed))),
        "seed": recipe.seed,
        "versions": versions(),
    }
    if best and not (folder / "model").is_dir():
        with new_folder(folder / "model") as beside:
            shutil.copytree(done[best]["model"], beside, dirs_exist_ok=True)
    write_json(folder / "rounds.json", found)
    for told in done[1:]:  # the best one has a copy, and the others mine no more
        shutil.rmtree(told["model"], ignore_errors=True)
    shutil.rmtree(folder / "rounds" / str(len(done) - 1) / "index", ignore_errors=True)
    return found


def _sentence(label: str, best: int, done: Sequence[dict[str, Any]], gain: dict[str, Any]) -> str:
    """Say which round is best, and what it gains over the base."""
    reached = f"dev {label} {done[best]['dev']['value']:.3f}"
    if not best:
        return f"No round beat the base: {reached}. No model is kept."
    return (
        f"Round {best} is the best: {reached}, the base {done[0]['dev']['value']:.3f} "
        f"({gap_text(gain)}, p {gain['p']:.4f}). "
        "The best of several is flattered by the choice: test rows tell what it gains."
    )
