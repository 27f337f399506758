"""General: what a run's model has forgotten, seen on general texts or pairs and written into the run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.errors import DataError
from burnish.evaluation import forgetting
from burnish.evaluation.compare import gap_text
from burnish.evaluation.outcome import outcome
from burnish.metrics import Metric
from burnish.recipe import Recipe
from burnish.records import Document, Pair, Record
from burnish.retrievers import Progress
from burnish.run import Run, read_json, write_json, write_text
from burnish.steps.evaluate import of_model, write_evaluation
from burnish.tasks import Built, Task


def require_general(task: Task, built: Built, rows: Sequence[Record]) -> None:
    """Check before training that the general rows can be scored after it.

    Raises:
        DataError: there are fewer than two, or they are of one group; or a re-ranker has nothing to rank in them.
        ModelError: the model's tokenizer lacks what its way of reading needs.
    """
    pairs = _pairs(rows)
    if not pairs:
        forgetting.require_general(task, built, _documents(rows))
    elif len(groups := {row.group or row.id for row in pairs}) < forgetting.FEWEST:
        raise DataError(
            f"data.general: {len(pairs)} pairs in {len(groups)} groups; an interval needs at least {forgetting.FEWEST}"
        )
    elif task.kind == "rerank" and not any(row.negatives for row in pairs):
        raise DataError(
            "data.general: no pair has `negatives`, and a re-ranker ranks the passages of each pair: it would always "
            "be right. Give pairs with the passages that a retriever finds, or a BEIR folder"
        )


def general(recipe: Recipe, run: Run, rows: Sequence[Record], *, before: bool, progress: Progress) -> str:
    """Write `evaluation/general.json` and `general.predictions.jsonl`; return what they say in one sentence.

    before: whether the base can do the task, so that pairs are scored with it too.
    """
    pairs = _pairs(rows)
    if pairs:
        _score_pairs(recipe, run, pairs, before=before, progress=progress)
    else:
        _read_documents(recipe, run, _documents(rows), progress=progress)
    place = run.folder / "evaluation" / "general.json"
    found = read_json(place)
    said = pairs_sentence(recipe.task.metrics[0], found) if pairs else forgetting.sentence(found)
    kept = {key: value for key, value in found.items() if key not in ("verdict", "advice")}  # of a task's own rows
    write_json(place, {**kept, "sentence": said})
    return said


def pairs_sentence(metric: Metric, found: Mapping[str, Any]) -> str:
    """Return in one sentence what the first metric says of general pairs, before and after."""
    after = found["scores"][metric.label]["value"]
    what = f"{metric.label} on general pairs"
    if "gain" not in found:
        return f"{what}: {after:.3f}; the base has a part that is new, and nothing of it could be forgotten"
    gain = found["gain"][metric.label]
    said = outcome(gain, higher_is_better=metric.higher_is_better)
    change = {
        "better": "better",
        "not better": "no change beyond chance",
        "worse": "worse; data.rehearsal, training.l2_start or training.interpolate below 1 keep more",
    }[said]
    return f"{what}: {found['before'][metric.label]['value']:.3f} → {after:.3f}, {gap_text(gain)}: {change}"


def _score_pairs(recipe: Recipe, run: Run, rows: Sequence[Pair], *, before: bool, progress: Progress) -> None:
    """Score pairs of another domain as test rows are, with the base and with the trained model."""
    task, seed = recipe.task, recipe.seed
    base = of_model(task, recipe.model, rows, seed=seed, progress=progress) if before else None
    after = of_model(task, str(run.folder / "model"), rows, seed=seed, progress=progress)
    facts = {"data": recipe.data.general, "against": recipe.model if before else None, "measure": "pairs"}
    write_evaluation(run, "general", task, rows, after, base, seed=seed, extra=facts)


def _read_documents(recipe: Recipe, run: Run, rows: Sequence[Document], *, progress: Progress) -> None:
    """Have the base and the trained model read texts of another domain."""
    trained = str(run.folder / "model")
    found, lines = forgetting.forgetting(recipe.task, recipe.model, trained, rows, seed=recipe.seed, progress=progress)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(run.folder / "evaluation" / "general.predictions.jsonl", text)
    write_json(run.folder / "evaluation" / "general.json", {"data": recipe.data.general, **found})


def _pairs(rows: Sequence[Record]) -> list[Pair]:
    return [row for row in rows if isinstance(row, Pair)]


def _documents(rows: Sequence[Record]) -> list[Document]:
    return [row for row in rows if isinstance(row, Document)]
