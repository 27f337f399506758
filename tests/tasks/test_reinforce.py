"""Reinforcement: advantages, loss and gradient as by hand, and a model that learns what is rewarded."""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import tiny
from burnish.errors import DataError, ModelError
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.models.policy import Group, advantages, entropy
from burnish.records import Message, Prompt
from burnish.tasks import Built, Task
from burnish.tasks.reinforce import Reinforce
from burnish.train.check import set_dropout
from burnish.train.checkpoint import Checkpoints
from burnish.train.loop import Course, fit
from burnish.train.settings import Training

ANIMAL = {"kind": "pattern", "pattern": ".*(cat|dog|bird|fish).*", "name": "animal"}
FIRST = {"kind": "pattern", "pattern": "cat.*", "name": "cat first", "weight": 0.5}
KINDS = ("llama", "t5")


def task_of(**settings: Any) -> Reinforce:
    chosen = {"kind": "reinforce", "rewards": [ANIMAL], "samples": 6, "max_new_tokens": 4} | settings
    task = Task.read(chosen)
    assert isinstance(task, Reinforce)
    return task


def rows(count: int) -> list[Prompt]:
    return [
        Prompt(id=row.id, prompt=row.prompt, answers=("cat", "dog"))
        for row in tiny.completions(count, seed=2, longest=6)
    ]


def built_of(task: Reinforce, folder: Path, kind: str = "llama") -> Built:
    return task.build(str(tiny.tiny_llama(folder) if kind == "llama" else tiny.tiny_t5(folder)))


def train(
    task: Reinforce,
    built: Built,
    folder: Path,
    *,
    steps: int,
    rate: float,
    batch: int = 8,
    method: Any = None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Train on eight prompts; return the log's lines."""
    lines: list[dict[str, Any]] = []
    method = method or Full(learning_rate=rate)
    items = task.encode(rows(8), built).items
    model = method.apply(built.model)
    training = {"precision": "fp32", "evaluations": 0, "dropout": 0.0, "checkpoint_every": 0, "schedule": "constant"}
    course = Course(
        task=task,
        items=items,
        training=Training(epochs=steps * batch / 8, batch=batch, **training | more),
        method=method,
        fresh=(),
        seed=0,
        data="rows",
        log=lambda name, line: lines.append(dict(line)) if name == "log.jsonl" else None,
        checkpoints=Checkpoints(folder / "checkpoints", lambda _: None),
        rewind=lambda _: None,
        sampler=task.sampler(model, built, items, seed=0),
    )
    fit(model, course)
    return lines


def groups_of(task: Reinforce, built: Built, count: int = 4) -> list[Group]:
    items = task.encode(rows(count), built).items
    task.begin(built.model)
    return [*task.sampler(built.model, built, items, seed=0)(0, range(count))]


def exact(built: Built) -> Any:
    """Return the model in fp64, moved a little from where it began."""
    torch.manual_seed(3)
    model: Any = built.model.double().eval()
    return model


def move(model: Any) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)


def logps_by_hand(model: Any, group: Group, text: tuple[int, ...]) -> list[Tensor]:
    """Return ln of each token's probability, each from a pass of its own over all that stands before it."""
    found = []
    for place, token in enumerate(text):
        if group.apart:
            begun = torch.tensor([[model.config.decoder_start_token_id, *text[:place]]])
            logits = model(input_ids=torch.tensor([group.prompt]), decoder_input_ids=begun).logits
        else:
            logits = model(input_ids=torch.tensor([[*group.prompt, *text[:place]]])).logits
        found.append(logits[0, -1].log_softmax(dim=0)[token])
    return found


@pytest.mark.parametrize(("advantage", "kind"), [("grpo", "llama"), ("dr_grpo", "llama"), ("rloo", "t5")])
def test_loss_and_gradient_are_those_of_the_formula_token_by_token(advantage: str, kind: str, tmp_path: Path):
    task = task_of(advantage=advantage, rewards=[ANIMAL, FIRST], samples=4, loss={"kl": 0.1, "low": 0.1})
    built = built_of(task, tmp_path, kind)
    model = exact(built)
    groups = groups_of(task, built, 2)
    before = [[[logp.item() for logp in logps_by_hand(model, g, text)] for text in g.completions] for g in groups]
    move(model)  # between the first update and the second, where ratios are not 1 and some are clipped
    batch = task.collate(groups)
    batch.old = torch.tensor([logp for group in before for text in group for logp in text], dtype=torch.float64)
    loss = task.total_loss(model, batch)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradient = torch.autograd.grad(loss, weights, allow_unused=True)

    total, clipped = torch.zeros((), dtype=torch.float64), 0
    for group, olds in zip(groups, before, strict=True):
        for text, value, old in zip(group.completions, group.rewards, olds, strict=True):
            others = group.rewards
            mean = sum(others) / len(others)
            advantage_by_hand = {
                "grpo": (value - mean) / (stdev(others) + 1e-4),
                "dr_grpo": value - mean,
                "rloo": value - (sum(others) - value) / (len(others) - 1),
            }[advantage]
            for logp, drawn_at in zip(logps_by_hand(model, group, text), old, strict=True):
                ratio = (logp - drawn_at).exp()
                bounded = min(max(ratio.item(), 0.9), 1.28)
                plain = ratio * advantage_by_hand
                total = total - (plain if plain.item() <= bounded * advantage_by_hand else bounded * advantage_by_hand)
                clipped += plain.item() > bounded * advantage_by_hand
                odds = drawn_at - logp  # the start is what drew them
                total = total + 0.1 * (odds.exp() - odds - 1)
    expected = torch.autograd.grad(total, weights, allow_unused=True)
    torch.testing.assert_close(loss, total, rtol=1e-6, atol=1e-6)
    for ours, by_hand in zip(gradient, expected, strict=True):
        if by_hand is not None:
            # these networks compute their norms in fp32, whatever their weights are in
            torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-5 * by_hand.abs().max().item())
    assert batch.clipped == clipped > 0
    texts = sum(len(group.completions) for group in groups)
    tokens = sum(len(text) for group in groups for text in group.completions)
    assert task.count(batch) == {"grpo": tokens, "rloo": texts, "dr_grpo": texts * 4}[advantage]


def test_advantages_are_those_of_their_definitions():
    rewards = [1.0, 0.0, 0.5, 3.0]
    assert advantages(rewards, "dr_grpo") == pytest.approx([-0.125, -1.125, -0.625, 1.875])
    spread = stdev(rewards)
    assert advantages(rewards, "grpo") == pytest.approx(
        [one / (spread + 1e-4) for one in (-0.125, -1.125, -0.625, 1.875)]
    )
    assert advantages(rewards, "rloo") == pytest.approx([1 - 3.5 / 3, 0 - 4.5 / 3, 0.5 - 4 / 3, 3 - 1.5 / 3])
    for kind in ("grpo", "dr_grpo", "rloo"):
        assert sum(advantages(rewards, kind)) == pytest.approx(0)
        assert advantages([0.3] * 4, kind) == pytest.approx([0] * 4, abs=1e-9)


def test_entropy_is_that_of_each_token_summed():
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chances = logits.softmax(dim=1)
    assert entropy(logits) == pytest.approx(-(chances * chances.log()).sum().item())
    assert entropy(torch.zeros(3, 8)) == pytest.approx(3 * math.log(8))


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_do_not_change_a_step_on_the_same_samples(kind: str, tmp_path: Path):
    task = task_of()
    built = built_of(task, tmp_path, kind)
    model: Any = built.model
    groups = groups_of(task, built)
    move(model)
    found = []
    for size in (1, 2, 4):
        model.zero_grad()
        batches = [task.collate(groups[first : first + size]) for first in range(0, 4, size)]
        loss = sum(task.total_loss(model, batch) for batch in batches)
        torch.autograd.backward(torch.as_tensor(loss))
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        found.append(
            (torch.as_tensor(loss).item(), sum(map(task.count, batches)), gradient, task.facts(groups, batches))
        )
    for loss, units, gradient, facts in found[:2]:
        assert loss == pytest.approx(found[2][0], rel=1e-4, abs=1e-4)
        assert units == found[2][1]
        torch.testing.assert_close(gradient, found[2][2], rtol=1e-3, atol=1e-4 * gradient.abs().max().item())
        assert facts.keys() == found[2][3].keys()
        for name, pair in facts.items():
            assert pair == pytest.approx(found[2][3][name], rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"advantage": "grpo"},
        {"advantage": "rloo"},
        {"advantage": "dr_grpo"},
        {"advantage": "grpo", "updates": 3},
    ],
    ids=["grpo", "rloo", "dr_grpo", "three updates"],
)
def test_the_reward_rises_to_nearly_all_that_there_is(settings: Mapping[str, Any], tmp_path: Path):
    task = task_of(**settings)
    lines = train(task, built_of(task, tmp_path), tmp_path, steps=20, rate=1e-2)
    assert lines[0]["reward"] < 0.5
    assert fmean(line["reward"] for line in lines[-5:]) > 0.85
    assert lines[-1]["entropy"] < lines[0]["entropy"]
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5) or task.updates > 1
    assert max(line["kl"] for line in lines) > 0.01
    assert any(line["clipped"] > 0 for line in lines) == (task.updates > 1)


def test_an_encoder_decoder_learns_what_is_rewarded(tmp_path: Path):
    task = task_of(loss={"kl": 0})
    lines = train(task, built_of(task, tmp_path, "t5"), tmp_path, steps=20, rate=1e-2)
    assert lines[0]["reward"] < 0.5
    assert fmean(line["reward"] for line in lines[-5:]) > 0.85
    assert "kl" not in lines[0]


def test_a_strong_pull_keeps_the_model_where_it_was(tmp_path: Path):
    found = []
    for kl in (0.001, 10.0):
        task = task_of(loss={"kl": kl})
        lines = train(task, built_of(task, tmp_path / str(kl)), tmp_path / str(kl), steps=15, rate=3e-3)
        found.append(fmean(line["kl"] for line in lines[-5:]))
    assert found[1] < found[0] / 4


def test_with_an_adapter_the_start_is_the_base(tmp_path: Path):
    task = task_of()
    lines = train(task, built_of(task, tmp_path), tmp_path, steps=12, rate=0, method=Lora(learning_rate=2e-2))
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["reward"] > lines[0]["reward"]


def test_a_group_without_variance_makes_way_for_another_and_is_counted(tmp_path: Path):
    task = task_of(replace=0)
    built = built_of(task, tmp_path)
    items = task.encode(rows(8), built).items
    kept = task.sampler(built.model, built, items, seed=0)(0, range(8))
    flat = [place for place, group in enumerate(kept) if group.is_flat]
    assert 0 < len(flat) < 8
    again = task_of(replace=3).sampler(built.model, built, items, seed=0)(0, range(8))
    for place, (before, after) in enumerate(zip(kept, again, strict=True)):
        assert (after == before) == (place not in flat)
    assert sum(group.is_flat for group in again) < len(flat)
    assert all(again[place].drawn > 6 for place in flat)
    facts = task.facts(again, [])
    assert facts["flat"] == (sum(group.is_flat for group in again), 8)
    assert facts["drawn"] == (sum(group.drawn for group in again), 48)


def test_a_step_that_teaches_nothing_is_made_and_says_so(tmp_path: Path):
    task = task_of(rewards=[{"kind": "pattern", "pattern": "never so"}], loss={"kl": 0})
    built = built_of(task, tmp_path)
    lines = train(task, built, tmp_path, steps=2, rate=1e-2, weight_decay=0.0)
    assert [line["flat"] for line in lines] == [1, 1]
    assert [line["drawn"] for line in lines] == [2, 2]
    assert [line["grad_norm"] for line in lines] == [0, 0]


def test_samples_are_the_same_whatever_shares_their_step(tmp_path: Path):
    task = task_of()
    built = built_of(task, tmp_path)
    draw = task.sampler(built.model, built, task.encode(rows(8), built).items, seed=0)
    together, alone = draw(3, range(8)), [draw(3, [row])[0] for row in range(8)]
    assert [group.completions for group in together] == [group.completions for group in alone]
    assert draw(4, [0])[0].completions != alone[0].completions


def test_facts_and_samples_tell_what_was_written(tmp_path: Path):
    task = task_of(rewards=[ANIMAL, FIRST])
    groups = groups_of(task, built_of(task, tmp_path))
    facts = task.facts(groups, [])
    texts = [text for group in groups for text in group.texts]
    assert facts["reward/animal"] == (sum(any(a in t for a in ("cat", "dog", "bird", "fish")) for t in texts), 24)
    assert facts["reward/cat first"] == (sum(text.startswith("cat") for text in texts), 24)
    assert facts["reward"][0] == facts["reward/animal"][0] + 0.5 * facts["reward/cat first"][0]
    assert facts["length"] == (sum(len(one) for group in groups for one in group.completions), 24)
    assert facts["cut"][0] == sum(3 not in one for group in groups for one in group.completions)
    shown = task.shown(groups)
    assert [line["text"] for line in shown] == list(groups[0].texts)
    assert shown[0].keys() == {"id", "text", "reward", "parts", "advantage"}
    assert {*task.facts([], [])} == {*facts}


def test_rows_without_answers_are_refused_where_a_reward_reads_them(tmp_path: Path):
    task = task_of(rewards=[{"kind": "metric", "metric": "exact_match"}])
    built = built_of(task, tmp_path)
    bare = [row.model_copy(update={"answers": ()}) for row in rows(2)]
    with pytest.raises(DataError, match="row 'row1' has no answers, and the reward exact match reads them"):
        task.encode(bare, built)
    assert len(task_of().encode(bare, built).items) == 2


def test_long_prompts_are_left_out_and_counted(tmp_path: Path):
    task = task_of(max_tokens=14)
    found = task.encode(
        [*rows(2), Prompt(id="long", prompt=(Message(role="user", content="a " * 20),))], built_of(task, tmp_path)
    )
    assert [item.id for item in found.items] == ["row0", "row1"]
    assert found.notes == {"prompts of more than 10 tokens left out": 1}


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_dropout_and_several_updates_are_refused_together(kind: str, tmp_path: Path):
    task = task_of(updates=2)
    built = built_of(task, tmp_path, kind)
    set_dropout(built.model, 0.1)  # of a llama, a number that its attention reads: it has no layer that drops
    with pytest.raises(ModelError, match=r"task\.updates is 2: .* set training\.dropout to 0"):
        task.begin(built.model)
    task_of().begin(built.model)
    set_dropout(built.model, 0.0)
    task.begin(built.model)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rewards": []}, "at least 1 item"),
        ({"rewards": [ANIMAL, ANIMAL]}, "two rewards are called 'animal'"),
        ({"samples": 1}, "greater than or equal to 2"),
        ({"max_new_tokens": 2000}, "2000 of 1024 tokens: no prompt has room"),
        ({"advantage": "ppo"}, "'grpo', 'dr_grpo' or 'rloo'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Mapping[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        task_of(**settings)


def test_the_likeliest_texts_are_predicted_and_their_reward_is_the_dev_score(tmp_path: Path):
    task = task_of()
    built = built_of(task, tmp_path)
    texts = task.predictions(built.model.eval(), built, rows(5), reads="answers", progress=lambda *_: None)
    expected = fmean(float(any(animal in text for animal in ("cat", "dog", "bird", "fish"))) for text in texts)
    assert task.dev_score(built.model, built, rows(5)) == pytest.approx(expected)
    with pytest.raises(DataError, match="gives no likelihoods"):
        task.predictions(built.model, built, rows(5), reads="likelihoods", progress=lambda *_: None)
