"""What a mining runs by: where passages and questions stand, who searches, which rules hold, and how many rounds."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from burnish.errors import DataError, RecipeError
from burnish.methods import Method
from burnish.metrics import Metric
from burnish.prepare.mining import Rules
from burnish.readers import Reader
from burnish.recipe import TRAINED, checked, read_recipe
from burnish.retrievers import Retriever
from burnish.spec import Spec
from burnish.tasks import Task
from burnish.train.settings import Training

MODEL = f"{TRAINED}model"  # names the model of the round before; in the first round, the base


class Rounds(Spec):
    """Mine, train, mine with what was trained, and so on (ANCE: Xiong et al. 2020, arXiv 2007.00808)."""

    count: int = Field(default=3, ge=1)
    model: str  # the base: what mines first, and what is trained
    task: Task = Field(default_factory=lambda: Task.read("retrieve"))
    method: Method = Field(default_factory=lambda: Method.read("full"))
    training: Training = Training()
    # What a round trains: what the round before trained, as ANCE does, or the base anew with better negatives.
    start: Literal["previous", "base"] = "previous"
    dev: Reader | None = None  # questions on the same passages that choose the best round; None: a share of the others
    dev_share: float = Field(default=0.1, gt=0, lt=1)
    dev_rows: int = Field(default=200, ge=1)  # that are looked at while a round trains, among their own passages
    metric: Metric = Field(default_factory=lambda: Metric.read("nDCG@10"))


class Mine(Spec):
    """Hard negatives for the questions of a source, in one go or in rounds."""

    data: Reader
    retrievers: tuple[Retriever, ...] = Field(min_length=1)  # whose hits are put together
    rules: Rules = Rules()
    rounds: Rounds | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _mines_with_what_is_trained(self) -> "Mine":
        """Check that rounds make a difference, and that `trained/model` stands for something.

        Raises:
            RecipeError: one stands without the other.
        """
        named = any(MODEL in retriever.model_dump_json() for retriever in self.retrievers)
        if named and self.rounds is None:
            raise RecipeError(f"a retriever uses {MODEL}, and the recipe has no `rounds:` that train one")
        if self.rounds and not named:
            raise RecipeError(
                f"retrievers: none of them is the model that the rounds train, so that all would find the same; add "
                f"{{kind: dense, model: {MODEL}}}"
            )
        return self


def read_mine(
    source: Path, *, retrievers: list[str] | None = None, split: str | None = None, overrides: list[str] | None = None
) -> Mine:
    """Read a recipe, or make one for a BEIR folder with the retrievers that are named: bm25, or a model.

    Raises:
        RecipeError: it has faults, or comes with what it should say itself.
        DataError: it is not clear which of the folder's judgements are meant.
    """
    if not source.is_dir():
        if retrievers or split:
            raise RecipeError(
                f"{source}: a recipe says itself which retrievers and which split to use; change it there"
            )
        return read_recipe(source, Mine, overrides or [])
    data = {"kind": "beir", "path": str(source), "split": _split(source, split)}
    found = [named_retriever(name) for name in retrievers or ["bm25"]]
    return checked({"data": data, "retrievers": found}, Mine, overrides or [], where=str(source))


def _split(source: Path, asked: str | None) -> str | None:
    """Return whose judgements are mined for: those asked for, or `train`, or the only ones.

    Raises:
        DataError: there are several, and none is called train: test questions should not become training rows.
    """
    names = sorted(path.stem for path in (source / "qrels").glob("*.tsv"))
    if asked or len(names) < 2 or "train" in names:
        return asked or ("train" if "train" in names else None)
    raise DataError(
        f"{source / 'qrels'}: there are several judgements and none is train.tsv ({', '.join(names)}); say whose "
        f"questions become training rows, for example --split {names[0]}"
    )


def named_retriever(name: str) -> Any:
    """Return the settings of a retriever that is named by its kind or by the model of a dense one.

    Raises:
        RecipeError: it is neither.
    """
    if name in Retriever.names():
        return name
    if "/" not in name and not Path(name).is_dir():
        try:
            Retriever.named(name)
        except RecipeError as error:
            raise RecipeError(f"--retriever {name}: {error}; or name a model, for example embedded/minilm") from None
    return {"kind": "dense", "model": name}
