"""Tasks: what is learned."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, TypeAlias

from pydantic import Field

from burnish.errors import DataError
from burnish.metrics import Metric
from burnish.models.packing import micro_batches
from burnish.records import Record
from burnish.retrievers import Progress
from burnish.sequences import Joined
from burnish.spec import Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from burnish.methods import Method


class Item(Protocol):
    """A row ready for batches: tokenized once, before the first step."""

    @property
    def id(self) -> str:
        """The record's id, for messages."""

    @property
    def tokens(self) -> int:
        """Tokens that the row costs in a forward pass, without padding."""


Sampler: TypeAlias = Callable[[int, Sequence[int]], Sequence[Any]]  # a step, from 0, and its rows: its items
# by name: a sum, or a set of which its size counts, and what it is divided by
Facts: TypeAlias = Mapping[str, tuple[float | frozenset[int], float]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The items made from rows, and how many rows were cut short or left out, by reason."""

    items: Sequence[Any]
    notes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Built:
    """A model ready for a method: the network, its tokenizer, and the parameter prefixes of new, untrained parts."""

    model: "nn.Module"
    tokenizer: Any
    fresh: tuple[str, ...] = ()


class Task(Part):
    """What is learned: record → item → batch → the SUM of the loss over `count` units; model → predictions.

    The loop divides the sum by the units of all micro-batches and processes, once. `divisible` says that the sum over
    a batch is the sum over its parts; where it is not (negatives from the same batch), the batch is never divided.
    """

    folder: ClassVar[str] = "burnish.tasks"
    record: ClassVar[type[Record]]
    divisible: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ()  # of the model, first words of weights' names, whose gradients are told apart
    saves_merged: ClassVar[bool] = False  # whether LoRA's updates are merged into what is saved
    prepares_as_it_trains: ClassVar[bool] = False  # whether `prepare` reads by the numbers that the steps compute in

    metrics: tuple[Metric, ...] = Field(min_length=1)  # what `evaluate` reports; the first is watched while training

    def settled(self, rows: Sequence[Any]) -> "Task":  # noqa: ARG002
        """Return the task with what its settings leave to the training rows filled in."""
        return self

    def adapted_by(self, method: "Method") -> "Method":
        """Return the method by which the model is adapted, where that of the recipe is of a part of it."""
        return method

    def begin(self, model: "nn.Module") -> Sequence["Tensor"]:  # noqa: ARG002
        """Get ready for the first step of a model in the numbers it computes in, and where it does.

        Returns what changes with the steps beside the weights: checkpoints keep it, and a resumed run writes into it.
        """
        return ()

    @property
    def takes_turns(self) -> bool:
        """Whether some weights move in some steps alone (`moves`)."""
        return False

    def moves(self, name: str, step: int, steps: int) -> bool:  # noqa: ARG002
        """Tell whether a weight moves in a step, counted from 0 of so many; one that does not gets no gradient."""
        return True

    @property
    def updates_a_step(self) -> int:
        """How often the weights are moved by the same batches."""
        return 1

    def sampler(self, model: "nn.Module", built: "Built", items: Sequence[Any], *, seed: int) -> Sampler | None:  # noqa: ARG002
        """Return what makes a step's items from its rows, where the model that trains has a part in making them.

        It depends on the seed, the step, the row and the weights alone, so that a resumed run makes the same.
        None: the items are ready.
        """
        return None

    def facts(self, items: Sequence[Any], batches: Sequence[Any]) -> Facts:  # noqa: ARG002
        """Return what the step's line in the log tells beside the loss; both are added up over processes, sets united.

        items, batches: of the step, as `collate` and `total_loss` left them; none where a process has no rows. The
        names are the same whatever the items are.
        """
        return {}

    def shown(self, items: Sequence[Any]) -> Sequence[Mapping[str, object]]:  # noqa: ARG002
        """Return lines for a person to read that a step adds to the run's samples.jsonl."""
        return ()

    def after_step(self, model: "nn.Module", batches: Sequence[Any]) -> None:
        """Do what a step is followed by; batches: what the step was made of."""

    def prepare(
        self,
        model: "nn.Module",  # noqa: ARG002
        items: Sequence[Any],  # noqa: ARG002
        *,
        cache: Path,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> list[str]:
        """Make what the loss needs beside model and items, before the first step; return lines for a person.

        model: as the method leaves it, where it will be trained; in fp32, or where `prepares_as_it_trains` says so in
        the format of the steps. cache: a folder for what further runs can use.
        """
        return []

    def prepare_dev(
        self,
        model: "nn.Module",  # noqa: ARG002
        built: "Built",  # noqa: ARG002
        rows: Sequence[Any],  # noqa: ARG002
        *,
        cache: Path,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> list[str]:
        """Make what `dev_score` needs of these rows that can be made before the first step alone; return lines."""
        return []

    def joined(self, ours: Sequence[Any], rehearsed: Sequence[Any]) -> Sequence[Any]:
        """Return the items of the training rows and, behind them, of the rows that are rehearsed beside them."""
        return Joined([ours, rehearsed])

    @abstractmethod
    def predictions(
        self, model: "nn.Module", built: Built, rows: Sequence[Any], *, reads: str, progress: Progress
    ) -> list[Any]:
        """Return a prediction for each row, in the order given, of the kind that a metric reads (`Metric.reads`).

        Raises:
            DataError: the task makes no predictions of this kind.
        """

    @abstractmethod
    def references(self, rows: Sequence[Any]) -> list[Any]:
        """Return what each row's prediction is held against."""

    @abstractmethod
    def build(self, model: str, *, seed: int = 0) -> Built:
        """Load the named model in fp32 and give it what the task needs; new parts are drawn from the seed."""

    @abstractmethod
    def encode(self, rows: Sequence[Any], built: Built) -> Encoded:
        """Tokenize the rows, each once."""

    @abstractmethod
    def collate(self, items: Sequence[Any]) -> Any:
        """Put items into one batch."""

    def micro_batches(
        self,
        model: "nn.Module",  # noqa: ARG002
        rows: Sequence[int],
        tokens: Sequence[int],
        *,
        budget: int,
    ) -> list[list[int]]:
        """Cut a step's rows, places in `tokens`, into groups that are read at once: `budget` tokens, padding too."""
        return micro_batches(rows, tokens, budget=budget) if self.divisible else [[*rows]] * bool(rows)

    @abstractmethod
    def count(self, batch: Any) -> int:
        """Return how many units the batch's loss is summed over; known before the forward pass."""

    @abstractmethod
    def total_loss(self, model: "nn.Module", batch: Any) -> "Tensor":
        """Return the sum of the loss over the batch's units: a scalar, in fp32."""

    @abstractmethod
    def audit(self, items: Sequence[Any], built: Built) -> list[str]:
        """Return a few lines that show what is trained, decoded from the items, for a person to read.

        A task that can be set up wrongly in silence raises a DataError here.
        """

    @property
    def dev_label(self) -> str:
        """What `dev_score` measures: the first metric, with a minus where lower is better."""
        return self.metrics[0].label if self.metrics[0].higher_is_better else f"-{self.metrics[0].label}"

    def dev_score(self, model: "nn.Module", built: Built, rows: Sequence[Any]) -> float:
        """Score the model on held-out rows while it trains; higher is better."""
        metric = self.metrics[0]
        found = self.predictions(model, built, rows, reads=metric.reads, progress=lambda *_: None)
        value = metric.value(found, self.references(rows))
        return value if metric.higher_is_better else -value

    @abstractmethod
    def save(self, model: "nn.Module", built: Built, folder: Path) -> None:
        """Write the model in the upstream format, so that it loads without burnish."""


def refuse_predictions(task: Task, reads: str) -> NoReturn:
    """Say that a task makes no predictions of the kind that a metric reads.

    Raises:
        DataError: always.
    """
    raise DataError(f"task {task.kind} gives no {reads}, which a metric of the recipe reads; leave that metric out")
