"""What a start for unseen tasks is learned by: the tasks, which are held out, and how the start moves."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from burnish.errors import RecipeError, near_miss
from burnish.methods import Method
from burnish.spec import Spec
from burnish.tasks import Task
from burnish.train.settings import Training

How = Literal["multitask", "reptile", "fomaml"]


class Source(Spec):
    """One task: its rows, and how they are asked about.

    train: a table of choices, or of texts with labels where the task has templates. test: rows of a task that is held
    out, on which the start is tried as it is.
    """

    train: str
    test: str | None = None
    task: Task = Field(default_factory=lambda: Task.read("fewshot"))


class Meta(Spec):
    """Learn the weights of a method over many tasks, so that few rows of an unseen one go far.

    how: `reptile`, in each round one task is trained on for `inner_steps`, and the start goes `outer_rate` of the way,
    which falls to 0 over the rounds; `fomaml`, the start moves by Adam along the gradient of further rows at what
    `inner_steps` have made of it, at `outer_rate` times the method's rate; `multitask`, one training on all tasks, a
    step of one task, for as many steps as the rounds would have. held_out: tasks that are not trained on.
    """

    tasks: Mapping[str, Source] = Field(min_length=2)
    held_out: tuple[str, ...] = ()
    model: str
    method: Method = Field(default_factory=lambda: Method.read("ia3"))
    how: How = "reptile"
    rounds: int = Field(default=100, ge=1)
    inner_steps: int = Field(default=8, ge=1)
    outer_rate: float = Field(default=0.5, gt=0, le=1)
    training: Training = Training(batch=8, evaluations=0, schedule="constant", dropout=0.0)
    checkpoint_every: int = Field(default=10, ge=1)  # rounds
    seed: int = 0

    @model_validator(mode="after")
    def _learns_from_other_tasks(self) -> "Meta":
        """Check the tasks' names and kinds.

        Raises:
            RecipeError: a task that is held out is not there, none is left, or one is of another kind.
        """
        for name in self.held_out:
            if name not in self.tasks:
                raise RecipeError(f"held_out: no task is called {name!r}.{near_miss(name, [*self.tasks])}")
        if not self.trained:
            raise RecipeError("held_out: every task is, and none is left to learn from")
        for name, source in self.tasks.items():
            if source.task.kind != "fewshot":
                raise RecipeError(
                    f"tasks.{name}: a start is learned from tasks of the kind fewshot, not {source.task.kind}"
                )
        for name in self.trained:
            if self.tasks[name].task.loss != self.tasks[self.trained[0]].task.loss:  # type: ignore[attr-defined]
                raise RecipeError(
                    f"tasks.{name}: its loss differs from that of {self.trained[0]}; one start has one loss"
                )
        return self

    @property
    def trained(self) -> list[str]:
        """The names of the tasks that are trained on."""
        return [name for name in self.tasks if name not in self.held_out]
