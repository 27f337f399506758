import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.errors import DivergedError, ModelError, RunError
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.run import read_json
from burnish.tasks import Built
from burnish.tasks.generate import Generate
from burnish.train.check import set_dropout
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, Watch, evaluation_steps, fit
from burnish.train.settings import Training

SHORT = Training(epochs=2, batch=8, precision="fp32", evaluations=0, dropout=0.0)


@dataclass
class Logged:
    """What a run wrote, by file."""

    lines: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def log(self, name: str, line: Mapping[str, Any]) -> None:
        self.lines.setdefault(name, []).append(line)

    def rewind(self, step: int) -> None:
        self.lines = {name: [line for line in found if line["step"] <= step] for name, found in self.lines.items()}


class Spiked(Generate):
    """A task whose loss is not finite where a given token is trained."""

    bad: int

    def total_loss(self, model: nn.Module, batch: Any) -> Tensor:
        factor = math.nan if (batch.targets == self.bad).any() else 1.0
        return super().total_loss(model, batch) * factor


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def built(base: Path) -> Built:
    built = Generate().build(str(base))
    Full().apply(built.model)
    return built


@pytest.fixture
def logged() -> Iterator[Logged]:
    yield Logged()


def course(built: Built, logged: Logged, folder: Path, training: Training = SHORT, **changes: Any) -> Course:
    task = Generate()
    plain = Course(
        task=task,
        items=task.encode(tiny.completions(24), built).items,
        training=training,
        method=Full(learning_rate=1e-3),
        fresh=(),
        seed=0,
        data="these rows",
        log=logged.log,
        checkpoints=Checkpoints(folder / "checkpoints", logged.said.append),
        rewind=logged.rewind,
    )
    return replace(plain, **changes)


def weights(model: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def scores(*values: float) -> Callable[[], float]:
    left = iter(values)
    return lambda: next(left)


class Crowded(Generate):
    """Raises what a GPU or a processor raises where a batch has more tokens than there is room for."""

    def total_loss(self, model: nn.Module, batch: Any) -> Tensor:
        loss = super().total_loss(model, batch)
        if len(batch.read.ids) > 64:
            loss.backward(retain_graph=True)  # leaves a gradient behind, as a pass does that ends half-way
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss


def test_where_memory_is_short_the_same_rows_go_through_in_smaller_groups(base: Path, tmp_path: Path):
    logs, found = [], []
    for task, precision in ((Generate(), "fp32"), (Crowded(), "fp32"), (Crowded(), "bf16")):
        built, logged = Generate().build(str(base)), Logged()
        Full().apply(built.model)
        place = tmp_path / f"{type(task).__name__}-{precision}"
        training = SHORT.model_copy(update={"precision": precision, "checkpoint_every": 2})
        fit(built.model, course(built, logged, place, training, task=task, say=logged.said.append))
        logs.append(logged)
        found.append(weights(built.model))
    assert not logs[0].said
    for logged in logs[1:]:
        assert "memory does not hold 8,192 tokens at once; goes on with" in logged.said[0]
        assert re.search(r"goes on with 64, the same rows a step", logged.said[-1])
        assert len(logged.said) <= 2  # of the first step; the others begin with what memory held
    for plain, cut in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(cut, plain, rtol=1e-4, atol=1e-6)
    losses = [[line["loss"] for line in logged.lines["log.jsonl"]] for logged in logs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=2e-2)
    states = [read_json(path)["micro_tokens"] for path in tmp_path.glob("Crowded-*/checkpoints/*/state.json")]
    assert {*states} == {64}


def test_batches_that_remember_their_first_pass_are_not_cut_anew(base: Path, tmp_path: Path):
    passes: list[Any] = []

    class Twice(Generate):
        @property
        def updates_a_step(self) -> int:
            return 2

        def total_loss(self, model: nn.Module, batch: Any) -> Tensor:
            passes.append(batch)
            if len(passes) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().total_loss(model, batch)

    built, logged = Generate().build(str(base)), Logged()
    Full().apply(built.model)
    with pytest.raises(torch.OutOfMemoryError):
        fit(built.model, course(built, logged, tmp_path, task=Twice(), say=logged.said.append))
    assert passes[0] is passes[1]
    assert not logged.said


def test_layers_that_are_computed_again_change_nothing(base: Path, tmp_path: Path):
    found = []
    for again in (False, True):
        built, logged = Generate().build(str(base)), Logged()
        torch.manual_seed(0)
        model = Lora(rank=2).apply(built.model)
        training = SHORT.model_copy(update={"gradient_checkpointing": again, "dropout": None})
        fit(model, course(built, logged, tmp_path / str(again), training, method=Lora(rank=2)))
        found.append((weights(model), logged.lines["log.jsonl"]))
        assert not any(getattr(layer, "gradient_checkpointing", False) for layer in model.modules())
    assert equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_what_no_cut_makes_fit_is_told(base: Path, tmp_path: Path):
    class Overfull(Crowded):
        def total_loss(self, model: nn.Module, batch: Any) -> Tensor:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    class Broken(Crowded):
        def total_loss(self, model: nn.Module, batch: Any) -> Tensor:
            raise RuntimeError("shapes differ")

    built, logged = Generate().build(str(base)), Logged()
    Full().apply(built.model)
    with pytest.raises(ModelError, match=r"cannot cut it finer: its longest row has [\d,]+ tokens; lower task.max_tok"):
        fit(built.model, course(built, logged, tmp_path / "full", task=Overfull()))
    with pytest.raises(RuntimeError, match="shapes differ"):
        fit(built.model, course(built, logged, tmp_path / "broken", task=Broken()))


def test_micro_batches_do_not_change_the_run(base: Path, tmp_path: Path):
    logs = []
    for budget in (10_000, 100, 50):
        built, logged = Generate().build(str(base)), Logged()
        Full().apply(built.model)
        run = course(built, logged, tmp_path, SHORT.model_copy(update={"micro_tokens": budget}))
        fit(built.model, run)
        logs.append(logged.lines["log.jsonl"])
    for ours in logs[1:]:
        for key in ("loss", "grad_norm"):
            assert [line[key] for line in ours] == pytest.approx([line[key] for line in logs[0]], rel=1e-4)
        assert ours[0]["loss"] == pytest.approx(logs[0][0]["loss"], rel=1e-6)
        assert ours[0]["grad_norm"] == pytest.approx(logs[0][0]["grad_norm"], rel=1e-6)


def test_the_loss_is_the_mean_over_all_trained_tokens_of_the_step(built: Built, logged: Logged, tmp_path: Path):
    run = course(built, logged, tmp_path, SHORT.model_copy(update={"epochs": 1, "batch": 24, "micro_tokens": 1}))
    batch = run.task.collate(run.items)
    with torch.no_grad():
        expected = run.task.total_loss(built.model, batch).item() / run.task.count(batch)
    fit(built.model, run)
    [line] = logged.lines["log.jsonl"]
    assert line["loss"] == pytest.approx(expected, rel=1e-6)
    assert line["units"] == run.task.count(batch)


def test_gradients_are_clipped_to_the_norm_that_is_allowed(base: Path, tmp_path: Path):
    moved = []
    for clip in (1e-3, 1e9):
        built, logged = Generate().build(str(base)), Logged()
        Full().apply(built.model)
        captured: list[float] = []
        training = SHORT.model_copy(update={"clip": clip, "epochs": 1, "batch": 24})
        run = course(built, logged, tmp_path / str(clip), training)
        handle = torch.optim.AdamW.step
        try:
            torch.optim.AdamW.step = _noting(handle, captured)  # type: ignore[method-assign]
            fit(built.model, run)
        finally:
            torch.optim.AdamW.step = handle  # type: ignore[method-assign]
        moved.append((captured[0], logged.lines["log.jsonl"][0]["grad_norm"]))
    assert moved[0][0] == pytest.approx(1e-3, rel=1e-4)
    assert moved[1][0] == pytest.approx(moved[1][1], rel=1e-5)
    assert moved[0][1] == moved[1][1]  # the norm before clipping is what is logged


def _noting(step: Any, norms: list[float]) -> Any:
    def noted(self: torch.optim.AdamW, *rest: Any) -> Any:
        gradients = [weight.grad for group in self.param_groups for weight in group["params"]]
        norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
        return step(self, *rest)

    return noted


def test_a_loss_that_is_no_number_stops_before_the_step_and_names_the_rows(
    built: Built, logged: Logged, tmp_path: Path
):
    rows = tiny.completions(8)
    written = {word for row in rows for word in row.completion.split()}
    bad = next(word for word in tiny.WORDS if word not in written)
    rows[5] = rows[5].model_copy(update={"completion": bad})
    task = Spiked(bad=built.tokenizer.convert_tokens_to_ids(bad))
    before = weights(built.model)
    run = course(built, logged, tmp_path, SHORT.model_copy(update={"micro_tokens": 1}), task=task)
    run = replace(run, items=task.encode(rows, built).items)
    with pytest.raises(DivergedError, match=r"step 1: the loss is nan .*no step was made. Rows of the batch: row5\."):
        fit(built.model, run)
    assert equal(weights(built.model), before)
    assert "log.jsonl" not in logged.lines


def test_a_dev_score_that_is_no_number_stops_the_run(built: Built, logged: Logged, tmp_path: Path):
    training = SHORT.model_copy(update={"evaluations": 1})
    run = course(built, logged, tmp_path, training, watch=Watch("luck", scores(math.nan)))
    with pytest.raises(DivergedError, match="step 6: luck of the dev rows is nan"):
        fit(built.model, run)


def test_the_best_weights_are_kept(built: Built, logged: Logged, tmp_path: Path):
    training = SHORT.model_copy(update={"evaluations": 3})
    seen: list[list[Tensor]] = []
    values = iter([0.1, 0.5, 0.4])

    def score() -> float:
        seen.append(weights(built.model))
        return next(values)

    outcome = fit(built.model, course(built, logged, tmp_path, training, watch=Watch("luck", score)))
    assert (outcome.steps, outcome.best, outcome.best_step, outcome.reason) == (6, 0.5, 4, "")
    assert equal(weights(built.model), seen[1])
    assert not equal(weights(built.model), seen[2])
    assert [line["value"] for line in logged.lines["dev.jsonl"]] == [0.1, 0.5, 0.4]


def test_the_last_weights_are_kept_where_that_is_asked_for(built: Built, logged: Logged, tmp_path: Path):
    training = SHORT.model_copy(update={"evaluations": 2, "keep": "last"})
    last: list[list[Tensor]] = []
    values = iter([0.9, 0.1])

    def score() -> float:
        last[:] = [weights(built.model)]
        return next(values)

    fit(built.model, course(built, logged, tmp_path, training, watch=Watch("luck", score)))
    assert equal(weights(built.model), last[0])


def test_a_run_that_no_longer_gets_better_stops_early_and_says_why(built: Built, logged: Logged, tmp_path: Path):
    training = SHORT.model_copy(update={"evaluations": 6, "patience": 2})
    outcome = fit(built.model, course(built, logged, tmp_path, training, watch=Watch("luck", scores(0.3, 0.2, 0.3))))
    assert (outcome.steps, outcome.best_step) == (3, 1)
    assert outcome.reason == ("stopped after step 3: luck has not risen above 0.3000 (step 1) for 2 evaluations")


@pytest.mark.parametrize(
    ("steps", "times", "expected"), [(9, 3, {3, 6, 9}), (10, 3, {4, 7, 10}), (2, 5, {1, 2}), (5, 0, set())]
)
def test_evaluations_are_evenly_spread_and_the_last_step_is_one(steps: int, times: int, expected: set[int]):
    assert evaluation_steps(steps, times) == expected


def test_bf16_keeps_masters_and_frozen_weights_exact(base: Path, logged: Logged, tmp_path: Path):
    built = Generate().build(str(base))
    torch.manual_seed(0)
    model = Lora(rank=2).apply(built.model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    fit(model, course(built, logged, tmp_path, SHORT.model_copy(update={"precision": "bf16"})))
    after = dict(model.named_parameters())
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in after if "lora_" in name}
    trained = after[next(name for name in moved if "lora_A" in name)]
    assert not torch.equal(trained, trained.bfloat16().float())  # a rounded copy was not what was kept


def test_bf16_follows_fp32_closely(base: Path, tmp_path: Path):
    losses = []
    for precision in ("fp32", "bf16"):
        built, logged = Generate().build(str(base)), Logged()
        Full().apply(built.model)
        fit(built.model, course(built, logged, tmp_path, SHORT.model_copy(update={"precision": precision})))
        losses.append([line["loss"] for line in logged.lines["log.jsonl"]])
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_a_dropout_that_nothing_in_the_model_applies_is_refused():
    with pytest.raises(ModelError, match=r"training\.dropout is 0\.1, and Linear has no dropout layer"):
        set_dropout(torch.nn.Linear(2, 2), 0.1)


def test_dropout_reaches_attention_that_keeps_it_as_a_number(built: Built):
    set_dropout(built.model, 0.25)
    assert {layer.self_attn.attention_dropout for layer in built.model.model.layers} == {0.25}


def test_dropout_depends_on_seed_and_step_and_not_on_what_came_before(base: Path, tmp_path: Path):
    losses = []
    for noise, seed in ((1, 0), (2, 0), (1, 5)):
        built, logged = Generate().build(str(base)), Logged()
        torch.manual_seed(0)
        model = Lora(rank=2, dropout=0.3).apply(built.model)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.1)
        torch.manual_seed(noise)
        one_batch = SHORT.model_copy(update={"batch": 24, "epochs": 1, "dropout": None})
        fit(model, course(built, logged, tmp_path, one_batch, seed=seed))
        losses.append(logged.lines["log.jsonl"][0]["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_a_checkpoint_of_other_rows_or_settings_is_refused(built: Built, logged: Logged, tmp_path: Path):
    fit(built.model, course(built, logged, tmp_path, SHORT.model_copy(update={"checkpoint_every": 2})))
    with pytest.raises(RunError, match="made from other rows or settings than this recipe's; train in another folder"):
        fit(built.model, course(built, logged, tmp_path, data="others"))
