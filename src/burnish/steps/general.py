"""General: what a run's model has forgotten, read from general texts and written into the run."""

import json
from collections.abc import Sequence

from burnish.evaluation.forgetting import forgetting, sentence
from burnish.recipe import Recipe
from burnish.records import Document
from burnish.retrievers import Progress
from burnish.run import Run, write_json, write_text


def general(recipe: Recipe, run: Run, rows: Sequence[Document], *, progress: Progress) -> str:
    """Write `evaluation/general.json` and `general.predictions.jsonl`; return what they say in one sentence."""
    trained = str(run.folder / "model")
    found, lines = forgetting(recipe.task, recipe.model, trained, rows, seed=recipe.seed, progress=progress)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_text(run.folder / "evaluation" / "general.predictions.jsonl", text)
    write_json(run.folder / "evaluation" / "general.json", {"data": recipe.data.general, **found})
    return sentence(found)
