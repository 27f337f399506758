"""What preference pairs are made by: the rows, who writes, what ranks, and how far apart best and worst must be."""

from pathlib import Path
from typing import Any

from pydantic import Field

from burnish.errors import RecipeError
from burnish.generators import Generator
from burnish.metrics import Metric
from burnish.prompt import PromptFormat
from burnish.recipe import checked, read_recipe
from burnish.rewards import Reward
from burnish.run import read_json
from burnish.spec import Spec
from burnish.steps.ground import TOLD


class Preferences(Spec):
    """Pairs of answers to the prompts of your own rows: several drawn for each, the best against the worst.

    rows: a table of prompts and completions, of prompts with `answers` and `passages` to judge by, or of questions with
    passages as `burnish ground` writes them, which are put by `prompt`. by: what ranks the answers, the weighted sum of
    several rewards. gap: in the unit of that.
    """

    rows: str
    columns: dict[str, str] = Field(default_factory=dict)  # field of the row → column of the table
    prompt: PromptFormat | None = None
    writer: Generator
    answers: int = Field(default=4, ge=2)  # drawn for each prompt
    by: tuple[Reward, ...] = Field(default_factory=lambda: (Reward.read(ranking("token_f1")),), min_length=1)
    gap: float = Field(default=0.1, gt=0)
    limit: int | None = Field(default=None, ge=1)  # rows, drawn at random; None: all
    seed: int = 0


def read_preferences(
    source: Path,
    *,
    writer: str | None = None,
    by: str | None = None,
    answers: int | None = None,
    overrides: list[str] | None = None,
) -> Preferences:
    """Read a recipe, or make one for a table with the writer that is named.

    Rows that `burnish ground` wrote are put by the prompt that stands beside them.

    Raises:
        RecipeError: it has faults, or comes with what it should say itself.
    """
    if source.suffix in (".yaml", ".yml"):
        if writer or by or answers:
            raise RecipeError(f"{source}: a recipe says itself who writes, how much and what ranks; change it there")
        return read_recipe(source, Preferences, overrides or [])
    value: dict[str, Any] = {"rows": str(source)}
    value["writer"] = {
        "kind": "local",
        "model": _model(writer or "embedded/smollm2"),
        "temperature": 1.0,
        "max_new_tokens": 64,
    }
    value |= {"by": [ranking(by)]} if by else {}
    value |= {"answers": answers} if answers else {}
    told = source.parent.parent / TOLD
    if source.parent.name == "rows" and told.is_file():
        value["prompt"] = read_json(told)["settings"]["prompt"]
    return checked(value, Preferences, overrides or [], where=str(source))


def ranking(name: str) -> Any:
    """Return the settings of a reward that is named by its kind, or by the metric that it gives.

    Raises:
        RecipeError: it is neither.
    """
    if name in Reward.names():
        return name
    try:
        Metric.named(name)
    except RecipeError as error:
        raise RecipeError(f"--by {name}: {error}. Rewards are: {', '.join(Reward.names())}") from None
    return {"kind": "metric", "metric": name}


def _model(name: str) -> str:
    """Return the model that a run made, or the model itself."""
    return str(Path(name) / "model") if (Path(name) / "manifest.json").is_file() else name
