"""Every means against forgetting: general text costs less after the same run with it than without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.methods import Method
from burnish.records import Completion, Document, Labelled
from burnish.tasks import Built, Task
from burnish.tasks.classify import Classify
from burnish.tasks.generate import Generate
from burnish.tasks.pretrain import Pretrain
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.settings import Training

NUMBERS = [f"w{number}" for number in range(20)]


def document(first: int, step: int) -> Document:
    """Return numbers that go up or down in a circle."""
    text = " ".join(NUMBERS[(first + step * place) % 20] for place in range(12))
    return Document(id=f"{first} {step}", text=text)


UP, DOWN = [document(first, 1) for first in range(20)], [document(first, -1) for first in range(20)]
SEEN, HELD_OUT = UP[::2], UP[1::2]  # general texts: what is rehearsed, what is scored
CHATS = [Completion(id=row.id, prompt="question", completion=row.text) for row in DOWN]
OLD_CHATS = [Completion(id=row.id, prompt="question", completion=row.text) for row in SEEN]
MARGIN = 0.25  # nats a token


@dataclass(frozen=True)
class Base:
    """A model that has learned to count up."""

    name: str
    loss: float


def trained(
    task: Task, built: Built, rows: list[Any], folder: Path, *, rehearsed: list[Any] | None = None, **changes: Any
) -> Any:
    """Train with or without one of the means, and return the model."""
    method = Method.read(changes.pop("method", {"kind": "full", "learning_rate": 3e-3}))
    model = method.apply(built.model, fresh=built.fresh)
    ours = task.encode(rows, built).items
    beside = task.encode(rehearsed, built).items if rehearsed else ()
    settings = {"epochs": 15, "batch": 8, "precision": "fp32", "evaluations": 0, "dropout": 0.0, "weight_decay": 0.0}
    course = Course(
        task=task,
        items=task.joined(ours, beside),
        training=Training.model_validate({**settings, "checkpoint_every": 0, **changes}),
        method=method,
        fresh=built.fresh,
        seed=0,
        data="rows",
        log=lambda *_: None,
        checkpoints=Checkpoints(folder / "checkpoints", pytest.fail),
        rewind=lambda _: None,
        rehearsed=len(beside),
        share=0.5 if beside else 0.0,
    )
    fit(model, course)
    return model


READER = Pretrain(block_tokens=16)


def loss(model: Any, built: Built) -> float:
    """Return the nats a token of general texts that nothing was trained on."""
    return -READER.dev_score(model, built, HELD_OUT)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base")
    built = READER.build(str(tiny.tiny_llama(folder / "random", tied=False)))
    model = trained(READER, built, UP, folder, epochs=30)
    READER.save(model, built, folder / "model")
    return Base(str(folder / "model"), loss(model, built))


def after(base: Base, folder: Path, task: Task, rows: list[Any], **changes: Any) -> float:
    built = task.build(base.name)
    return loss(trained(task, built, rows, folder, **changes), built)


@pytest.fixture(scope="module")
def without(base: Base, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return the loss after continued pre-training on numbers that go down."""
    found = after(base, tmp_path_factory.mktemp("without"), READER, DOWN)
    assert found > base.loss + 1
    return found


@pytest.mark.parametrize(
    "changes",
    [{"rehearsed": SEEN}, {"l2_start": 1.0}, {"interpolate": 0.5}],
    ids=["rehearsal", "l2_start", "interpolate"],
)
def test_a_means_against_forgetting_lowers_the_loss_on_general_text(
    changes: dict[str, Any], base: Base, without: float, tmp_path: Path
):
    assert after(base, tmp_path, READER, DOWN, **changes) < without - MARGIN


@pytest.mark.parametrize("method", [{"kind": "full", "learning_rate": 3e-3}, {"kind": "lora", "learning_rate": 2e-2}])
def test_a_writer_that_is_held_to_its_start_forgets_less(method: dict[str, Any], base: Base, tmp_path: Path):
    plain = after(base, tmp_path / "plain", Generate(), CHATS, method=method)
    held = after(base, tmp_path / "held", Generate(kl_start=3.0), CHATS, method=method)
    assert held < plain - MARGIN


def test_a_writer_that_rehearses_rows_of_its_task_forgets_less(base: Base, tmp_path: Path):
    plain = after(base, tmp_path / "plain", Generate(), CHATS)
    assert after(base, tmp_path / "mixed", Generate(), CHATS, rehearsed=OLD_CHATS) < plain - MARGIN


def test_a_classifier_that_is_held_to_its_start_keeps_more_of_what_it_said(tmp_path: Path):
    old = [Labelled(id=f"{c} {n}", text=f"{c} {n}", label=c) for c in ("red", "green") for n in NUMBERS[:6]]
    new = [Labelled(id=f"cat {n}", text=f"cat {n}", label="red") for n in NUMBERS]  # red is all that comes now
    task = Classify(labels=("red", "green"))
    built = task.build(str(tiny.tiny_bert(tmp_path / "bert")))
    task.save(trained(task, built, old, tmp_path / "old"), built, tmp_path / "model")

    def kept(task: Classify) -> float:
        built = task.build(str(tmp_path / "model"))
        model = trained(task, built, new, tmp_path / "new")
        shares = task.probabilities(model, task.encode(old, built).items)
        return sum(share[str(row.label)] for share, row in zip(shares, old, strict=True)) / len(old)

    plain = kept(task)
    assert plain < 0.8
    assert kept(Classify(labels=("red", "green"), kl_start=3.0)) > plain + 0.1
