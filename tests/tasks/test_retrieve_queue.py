"""Training with a queue of passages: its loss and gradient, what is learned by it, and what goes with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

import tiny
from burnish.losses.contrastive import Contrastive
from burnish.methods import Method
from burnish.models.encode import Encoder
from burnish.models.key_queue import Queue, queue_of
from burnish.records import Pair
from burnish.tasks import Task
from burnish.tasks.retrieve import Retrieve
from learn import fit_items, learn

LENGTHS: dict[str, Any] = {"query_tokens": 16, "passage_tokens": 24}
FIRST = tiny.pairs(5, seed=1)
ROWS = [
    *tiny.pairs(4),
    Pair(id="again", query=FIRST[0].query, positives=("red cat",), negatives=("blue",)),
    Pair(id="said", query="green dog", positives=("one two",)),
]
EARLIER = [*FIRST, Pair(id="dog", query="fish", positives=("Green  dog!", "bird"))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    Encoder.load(str(tiny.tiny_bert(folder / "bert")), dtype=torch.float32).save(folder / "saved")
    return str(folder / "saved")


def task_with(queue: Any, **settings: Any) -> Retrieve:
    task: Retrieve = Task.read({"kind": "retrieve", "queue": queue, **LENGTHS, **settings})
    return task


def gradient_of(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def written_out(model: Any, rows: Sequence[Pair], earlier: Sequence[Pair], queued: Tensor) -> Tensor:
    """Return the loss from the scores of each query with the batch's passages and those of the step before."""

    def texts(some: Sequence[Pair]) -> list[str]:
        return list(dict.fromkeys(text for row in some for text in (*row.positives, *row.negatives)))

    own, before = texts(rows), texts(earlier)
    passages = model.passages.embed(model.passages.tokenize(own, max_tokens=24)[0])
    queries = model.queries.embed(model.queries.tokenize([row.query for row in rows], max_tokens=16)[0])
    every = [*own, *before]
    total = torch.zeros(())
    for row, scores in zip(rows, queries @ torch.cat([passages, queued]).T, strict=True):
        answers = {text for other in (*rows, *earlier) if other.query == row.query for text in other.positives}
        words = row.query.lower().split()
        answers |= {text for text in every if text.lower().replace("!", "").split() == words}
        wrong = scores[torch.tensor([text not in answers for text in every])] / 0.05
        for right in row.positives:
            logit = scores[own.index(right)] / 0.05
            total = total + (torch.cat([logit[None], wrong]).logsumexp(0) - logit) / len(row.positives)
    return total


@pytest.mark.parametrize("two_towers", [False, True])
def test_loss_and_gradient_are_those_with_the_queue_written_out(two_towers: bool, base: str) -> None:
    task = task_with({"passages": 64, "momentum": 0.5}, two_towers=two_towers)
    built = task.build(base)
    model: Any = built.model.eval()
    task.begin(model)
    items = task.encode([*ROWS, *EARLIER], built).items
    batch, before = task.collate(items[: len(ROWS)]), task.collate(items[len(ROWS) :])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    task.after_step(model, [before])
    queued = queue_of(model).behind(torch.zeros(0, 32), batch)[0]
    expected = written_out(model, ROWS, EARLIER, queued)
    loss = task.total_loss(model, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    plain = Retrieve(**LENGTHS).total_loss(model, batch)
    assert loss > plain
    whole = gradient_of(model, expected)
    torch.testing.assert_close(gradient_of(model, loss), whole, rtol=1e-5, atol=1e-6 * whole.abs().max().item())


def test_a_queue_of_none_is_the_loss_without_one(base: str, tmp_path: Path) -> None:
    assert task_with(0) == task_with(None) == Retrieve(**LENGTHS)
    found = []
    for number, queue in enumerate((0, 16)):
        task = task_with(queue)
        built = task.build(base)
        items, method = task.encode(tiny.pairs(12), built).items, Method.read("full")
        model = method.apply(built.model)
        found.append(fit_items(task, model, items, tmp_path / str(number), method=method, fresh=(), epochs=2, batch=4))
    assert found[0][0] == found[1][0]  # the queue is empty at the first step
    assert all(queued > plain for plain, queued in zip(found[0][1:], found[1][1:], strict=True))


def test_a_number_is_that_of_the_passages_and_is_written_with_its_momentum() -> None:
    task = task_with(4096)
    assert task.queue == Queue(passages=4096, momentum=0.999)
    again = Task.read({"kind": "retrieve", **task.model_dump(exclude={"kind"})})
    assert again == task


@pytest.mark.parametrize("name", ["full", "lora"])
@pytest.mark.parametrize("settings", [{}, {"two_towers": True}, {"dimensions": [8]}], ids=str)
def test_few_rows_are_learned(name: str, settings: dict[str, Any], base: str, tmp_path: Path) -> None:
    task = task_with({"passages": 12, "momentum": 0.9}, **settings)
    built = task.build(base)
    method: Method = Method.read({"kind": name, "learning_rate": 5e-3})
    rows = tiny.pairs(8, longest=4)
    items, model = task.encode(rows, built).items, method.apply(built.model)
    losses = fit_items(task, model, items, tmp_path, method=method, fresh=(), epochs=30, batch=4)
    assert sum(losses[-2:]) < 0.5 * sum(losses[:4])
    value = task.dev_score(model, built, rows)
    assert value > 0.95


def test_nothing_of_it_is_saved_with_the_model(base: str, tmp_path: Path) -> None:
    task = task_with(16)
    built = task.build(base)
    learn(task, built, tiny.pairs(6), tmp_path, steps=2, rate=1e-3)
    task.save(built.model, built, tmp_path / "model")
    before, after = Path(base), tmp_path / "model"
    assert {path.name for path in after.rglob("*")} == {path.name for path in before.rglob("*")}
    assert load_file(after / "model.safetensors").keys() == load_file(before / "model.safetensors").keys()


def test_a_learned_temperature_and_further_directions_go_with_it(base: str) -> None:
    loss = {"kind": "contrastive", "learn": "temperature", "directions": ["query_to_passage", "passage_to_query"]}
    task = task_with(16, loss=loss)
    built = task.build(base)
    task.begin(built.model)
    batch = task.collate(task.encode(tiny.pairs(4), built).items)
    task.after_step(built.model, [task.collate(task.encode(tiny.pairs(3, seed=5), built).items)])
    task.total_loss(built.model, batch).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in built.model.parameters())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": {"kind": "triplet"}}, "further negatives of the loss contrastive; triplet compares a row's own"),
        ({"passages": "frozen", "two_towers": True}, "with passages: frozen every passage is a negative already"),
        (
            {"loss": Contrastive(directions=("query_to_passage", "passage_to_passage"))},
            "leave passage_to_passage out of the loss's directions, or the queue",
        ),
        ({"queue": -1}, "greater than or equal to 1"),
        ({"queue": True}, "valid dictionary or instance of Queue"),
        ({"queue": {"passages": 8, "momentum": 1.0}}, "less than 1"),
    ],
)
def test_what_does_not_go_with_a_queue_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Task.read({"kind": "retrieve", "queue": 8, **settings})
