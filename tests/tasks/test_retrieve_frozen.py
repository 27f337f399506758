"""Query-side training: the passages' tower stands still, and every passage of the rows is a negative of every query."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

import tiny
from burnish.errors import ModelError
from burnish.methods import Method
from burnish.models.encode import Encoder
from burnish.models.quiet import quiet
from burnish.models.towers import Towers
from burnish.recipe import Recipe
from burnish.records import Pair, dump_jsonl
from burnish.steps.check import check
from burnish.steps.train import resume, train
from burnish.tasks import Built, Task
from burnish.tasks.retrieve import Retrieve
from burnish.train.check import require_trainable
from learn import check_micro_batches, learn, summed

SETTINGS: dict[str, Any] = {"two_towers": True, "query_tokens": 16, "passage_tokens": 24}
FROZEN = Retrieve(passages="frozen", **SETTINGS)
ROWS = [
    *tiny.pairs(9),
    Pair(id="twin", query=tiny.pairs(9)[0].query, positives=("red cat", "blue")),
    Pair(id="said", query="green dog", positives=("one two",), negatives=("Green  dog!", "three")),
    Pair(id="other", query="fish", positives=("green dog", "one two", "bird")),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    Encoder.load(str(tiny.tiny_bert(folder / "bert")), dtype=torch.float32).save(folder / "saved")
    return str(folder / "saved")


def task_with(loss: dict[str, Any], **settings: Any) -> Retrieve:
    task: Retrieve = Task.read({"kind": "retrieve", "loss": loss, "passages": "frozen", **SETTINGS, **settings})
    return task


def ready(task: Retrieve, base: str, cache: Path, rows: Sequence[Pair] = ROWS) -> tuple[Built, Sequence[Any]]:
    built = task.build(base)
    with torch.no_grad():  # the towers differ
        for weight in built.model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    items = task.encode(rows, built).items
    task.prepare(built.model, items, cache=cache, progress=lambda *_: None)
    return built, items


def whole_corpus(model: Any, rows: Sequence[Pair], margin: float | None = None) -> Tensor:
    """Return the loss of all rows, one line a positive, from the scores of each query and each passage of any row."""
    texts = list(dict.fromkeys(text for row in rows for text in (*row.positives, *row.negatives)))
    passages, _ = model.passages.encode(texts, max_tokens=24)
    queries = model.queries.embed(model.queries.tokenize([row.query for row in rows], max_tokens=16)[0])
    total = torch.zeros(())
    for row, scores in zip(rows, queries @ passages.T, strict=True):
        answers = {text for other in rows if other.query == row.query for text in other.positives}
        words = row.query.lower().split()
        answers |= {text for text in texts if text.lower().replace("!", "").split() == words}
        hidden = torch.tensor([text in answers for text in texts])
        for right in row.positives:
            own = scores[texts.index(right)]
            far = hidden if margin is None else hidden | (scores > own + margin)
            logits = torch.cat([own[None], scores[~far]]) / 0.05
            total = total + (logits.logsumexp(0) - logits[0]) / len(row.positives)
    return total


def gradient_of(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("margin", [None, 0.1])
def test_loss_and_gradient_are_those_over_the_whole_corpus(margin: float | None, base: str, tmp_path: Path) -> None:
    task = task_with({"kind": "contrastive", "false_negatives": margin})
    built, items = ready(task, base, tmp_path)
    expected = whole_corpus(built.model, ROWS, margin)
    loss, units, gradient = summed(task, built.model, items, size=len(items))
    assert units == len(ROWS)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    whole = gradient_of(built.model, expected)
    torch.testing.assert_close(gradient, whole, rtol=1e-5, atol=1e-6 * whole.abs().max().item())


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "contrastive"},
        {"kind": "contrastive", "false_negatives": 0.1},
        {"kind": "contrastive", "learn": "temperature"},
    ],
)
def test_micro_batches_do_not_change_loss_or_gradient(loss: dict[str, Any], base: str, tmp_path: Path) -> None:
    task = task_with(loss, dimensions=[4])
    assert task.divisible
    built, items = ready(task, base, tmp_path)
    check_micro_batches(task, built, ROWS)
    found = [
        summed(task.model_copy(update={"pass_tokens": tokens}), built.model, items, size=4) for tokens in (1, 9999)
    ]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["triplet", "margin_mse", "distill"])
def test_a_loss_over_a_rows_own_passages_is_that_of_a_tower_that_moves(kind: str, base: str, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"scores": (1.0, 0.1)}) for row in tiny.pairs(6)]
    task = task_with({"kind": kind})
    built, items = ready(task, base, tmp_path, rows)
    found = summed(task, built.model, items, size=4)
    moving = Retrieve(loss=task.loss, **SETTINGS)
    expected = summed(moving, built.model, moving.encode(rows, built).items, size=4)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[2], expected[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["full", "lora", "ia3", "bitfit"])
def test_a_method_finds_the_tower_of_queries_alone(name: str, base: str, tmp_path: Path) -> None:
    built = FROZEN.build(base)
    assert isinstance(built.model, Towers)
    tower, before = built.model.passages, built.model.passages.fingerprint()
    method: Method = Method.read(name)
    model = method.apply(built.model)
    require_trainable(model, method)
    assert not any("passages" in key for key, _ in model.named_parameters())
    items = FROZEN.encode(ROWS, built).items
    FROZEN.prepare(model, items, cache=tmp_path, progress=lambda *_: None)
    model.train()
    FROZEN.total_loss(model, FROZEN.collate(items)).backward()
    torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.1).step()
    assert not tower.training
    assert tower.fingerprint() == before
    assert built.model.queries.fingerprint() != before


def test_a_row_costs_the_tokens_of_its_query(base: str) -> None:
    items = FROZEN.encode(ROWS, FROZEN.build(base)).items
    assert [item.tokens for item in items] == [len(item.query) for item in items]


def test_few_rows_are_learned(base: str, tmp_path: Path) -> None:
    built = FROZEN.build(base)
    losses = learn(FROZEN, built, tiny.pairs(8, longest=4), tmp_path, steps=24, rate=5e-3)
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize(
    "directions",
    [["query_to_passage", "passage_to_query"], ["query_to_passage", "query_to_query", "passage_to_passage"]],
)
def test_directions_that_train_passages_are_refused(directions: list[str]) -> None:
    said = f"passages: frozen has every passage for a negative .* leave {', '.join(directions[1:])} out of"
    with pytest.raises(ValidationError, match=said):
        task_with({"kind": "contrastive", "directions": directions})


def test_one_tower_cannot_stand_still_for_passages_alone(base: str) -> None:
    said = "passages: frozen holds one of two towers still, and this model reads queries and passages with one; add two"
    with pytest.raises(ModelError, match=said):
        Retrieve(passages="frozen").build(base)


def test_a_word_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="'trained' or 'frozen'"):
        Task.read({"kind": "retrieve", "passages": "still"})


@pytest.fixture
def recipe(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    for side, rows in (("train", ROWS), ("dev", tiny.pairs(4, seed=1)), ("test", tiny.pairs(4, seed=2))):
        (tmp_path / f"{side}.jsonl").write_text(dump_jsonl(rows))
    return Recipe.model_validate(
        {
            "task": {"kind": "retrieve", "passages": "frozen", **SETTINGS},
            "model": base,
            "method": {"kind": "full", "learning_rate": 1e-3},
            "data": {side: str(tmp_path / f"{side}.jsonl") for side in ("train", "dev", "test")},
            "training": {"epochs": 4, "batch": 4, "precision": "fp32", "evaluations": 0, "checkpoint_every": 2},
        }
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Collect how many texts each pass reads, and the number of the tower that reads them."""
    passes: list[tuple[int, int]] = []
    embed = Encoder._pass

    def counting(self: Encoder, rows: Any) -> Tensor:
        passes.append((len(rows), id(self)))
        return embed(self, rows)

    monkeypatch.setattr(Encoder, "_pass", counting)
    return passes


def test_a_step_reads_queries_alone(recipe: Recipe, tmp_path: Path, read: list[tuple[int, int]]) -> None:
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"dev": None, "test": None})})
    passages = {text for row in ROWS for text in (*row.positives, *row.negatives)}
    for name, expected in (("first", len(passages)), ("second", 0)):
        read.clear()
        said: list[str] = []
        run = train(recipe, tmp_path / name, say=said.append, progress=lambda *_: None)
        line = f"passages that stand still: {len(passages)}, of which {expected} are encoded for this run"
        assert line in said
        steps = run.lines("log.jsonl")
        assert sum(count for count, _ in read) == expected + sum(int(str(line["units"])) for line in steps)
        assert len({tower for _, tower in read}) == 1 + bool(expected)
    logs = [(tmp_path / name / "log.jsonl").read_bytes() for name in ("first", "second")]
    assert logs[0] == logs[1]


def test_the_passages_tower_is_saved_as_it_was(recipe: Recipe, base: str, tmp_path: Path) -> None:
    run = train(recipe, tmp_path / "run", say=lambda _: None, progress=lambda *_: None)
    before, after, moved = (
        load_file(folder / "model.safetensors")
        for folder in (Path(base), run.folder / "model" / "passages", run.folder / "model" / "queries")
    )
    assert before.keys() == after.keys() == moved.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not all(torch.equal(before[name], moved[name]) for name in before)
    ours: Any = Retrieve(**SETTINGS).build(str(run.folder / "model")).model
    with quiet():
        theirs = SentenceTransformer(str(run.folder / "model"), device="cpu")
    asked, found = [row.query for row in ROWS], [row.positives[0] for row in ROWS]
    mine = ours.queries.encode(asked, max_tokens=16)[0], ours.passages.encode(found, max_tokens=24)[0]
    other = theirs.encode_query(asked), theirs.encode_document(found)
    for left, right in zip(mine, other, strict=True):
        torch.testing.assert_close(left, torch.as_tensor(right), rtol=1e-5, atol=1e-6)


def test_a_stopped_run_goes_on_without_encoding_passages(recipe: Recipe, tmp_path: Path) -> None:
    def stopped(name: str, done: int, _: int) -> None:
        if name.startswith("training") and done == 7:
            raise KeyboardInterrupt

    whole = train(recipe, tmp_path / "whole", say=lambda _: None, progress=lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", say=lambda _: None, progress=stopped)
    said: list[str] = []
    run = resume(tmp_path / "run", say=said.append, progress=lambda *_: None)
    assert any(line.endswith("of which 0 are encoded for this run") for line in said)
    for name in ("log.jsonl", "model/queries/model.safetensors", "model/passages/model.safetensors"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_check_encodes_the_passages_of_one_step_and_keeps_nothing(
    recipe: Recipe, tmp_path: Path, read: list[tuple[int, int]]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.model_dump_json())
    assert any(line.startswith("time:") for line in check(path, []))
    assert 0 < sum(count for count, _ in read) < len(ROWS) + 4
    assert not (tmp_path / "cache" / "passages").exists()
