"""What a few-shot comparison is made of: the rows, how many are drawn how often, and what is held against what."""

from collections.abc import Mapping

from pydantic import Field, model_validator

from burnish.errors import RecipeError
from burnish.methods import Method
from burnish.spec import Spec
from burnish.tasks import Task


class FewShots(Spec):
    """A few rows, drawn several times, learned in several ways.

    shots: how many rows are drawn, over all labels alike. seeds: how often, for each number. task: of the kind
    `fewshot`; a training learns by all of its templates, and is scored by each. starts: adapters of the method, by a
    name, that it begins with; without one it begins as it is. Of several, `nearest` is the one by which the drawn rows
    have the lowest loss before a step is made, found without another training. steps: of each training, of `batch` rows
    at most. in_context: also show the rows in the prompt; head: also train a new head alone, where rows are labelled
    texts.
    """

    train: str
    test: str
    test_rows: int = Field(default=200, ge=1)  # a fixed sample
    task: Task
    model: str
    method: Method = Field(default_factory=lambda: Method.read("ia3"))
    starts: Mapping[str, str] = Field(default_factory=dict)
    shots: tuple[int, ...] = Field(default=(4, 16, 32), min_length=1)
    seeds: int = Field(default=5, ge=1)
    steps: int = Field(default=40, ge=1)
    batch: int = Field(default=8, ge=1)
    in_context: bool = True
    head: bool = True
    seed: int = 0

    @model_validator(mode="after")
    def _ranks_choices(self) -> "FewShots":
        """Check the kind of task, and that rows are drawn.

        Raises:
            RecipeError: it is another, or a number of shots is below 1.
        """
        if self.task.kind != "fewshot":
            raise RecipeError(f"task: few shots are compared on a task of the kind fewshot, not {self.task.kind}")
        if min(self.shots) < 1:
            raise RecipeError("shots: at least one row is drawn")
        return self
