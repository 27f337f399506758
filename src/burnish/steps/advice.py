"""Advice: what may help where a training was not better than what it began with."""

from pathlib import Path

from burnish.ladder_recipe import Ladder
from burnish.prepare.judged import is_beir
from burnish.recipe import Recipe
from burnish.records import Labelled, Pair, Scored
from burnish.tasks import Task

TRIED = (Labelled, Scored, Pair)  # rows that `burnish suggest` tries models on
SEARCHED = {"retrieve": "dense", "late": "late"}  # tasks whose model a retriever searches with


def advice(recipe: Recipe, run: Path) -> list[str]:
    """Return what may be tried next after a run, with the commands for it."""
    task: Task = recipe.task
    record, place, data = task.record, run / "recipe.yaml", recipe.data
    table = data.train if isinstance(data.train, str) and not is_beir(data.train) else None
    lines = []
    if data.dev:
        lines.append(f"another learning rate: `burnish tune {place} --probe` tries three for a short while")
    if data.test and isinstance(data.train, str):
        lines.append(f"more labels: `burnish curve {place}` tells whether they would help")
    if record is Pair and table:
        lines.append("mined negatives: `burnish mine FOLDER`, with your passages and questions in BEIR form")
    elif record is Pair:
        lines.append(f"mined negatives: `burnish mine {data.train if isinstance(data.train, str) else 'FOLDER'}`")
    if record in TRIED and table:
        lines.append(f"another model: `burnish suggest {table} --models NAME,NAME` tries some on your rows")
    else:
        lines.append("another model: name it in `model`; `burnish models` lists those that are at hand")
    if task.kind in SEARCHED:
        model = f"{{kind: {SEARCHED[task.kind]}, model: {run / 'model'}}}"
        lines.append(f"words beside vectors: a retriever {{kind: hybrid, of: [bm25, {model}]}}")
    return lines


def ladder_advice(recipe: Ladder) -> list[str]:
    """Return what may be tried next where a rung was not better than what it is compared with."""
    lines = [f"surer numbers: more test questions (corpus.test, now {recipe.corpus.test:g})"]
    if recipe.retriever:
        lines += [
            "more questions to learn from: `burnish synthesize` writes some about passages without labels",
            f"mined negatives: retriever.negatives.per_question (now {recipe.retriever.negatives.per_question})",
        ]
    lines.append("another model: retriever.model, generator.model; `burnish models` lists those that are at hand")
    if not any("hybrid" in rung.model_dump_json() for rung in recipe.rungs):
        lines.append("words beside vectors: a rung with a retriever of the kind hybrid")
    return lines
