"""Rewards: what each gives a text, and what is refused."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import tiny
from burnish.claims import Grounded
from burnish.errors import DataError
from burnish.failures import Failure
from burnish.grounding import Check, Grounder
from burnish.metrics import Metric
from burnish.models.load import load_regressor
from burnish.models.reward import load_reward
from burnish.rewards import Judge, Jury, Reward, Written
from burnish.rewards.grounded import GroundedReward

TEXTS = ("yes", "The Yes.", "no", "maybe so", "")


def written(*texts: str, answers: tuple[str, ...] = ("yes",)) -> list[Written]:
    return [Written(f"row{place}", "is it?", text, answers) for place, text in enumerate(texts)]


@pytest.mark.parametrize("metric", ["exact_match", "token_f1", "rouge", "meteor"])
def test_a_metric_rewards_as_it_scores(metric: str):
    reward: Reward = Reward.read({"kind": "metric", "metric": metric})
    plain: Metric = Metric.read(metric)
    assert reward.load()(written(*TEXTS)) == plain.score(TEXTS, [("yes",)] * len(TEXTS))
    assert reward.label == plain.label
    assert reward.reads == "answers"


@pytest.mark.parametrize(
    "metric", ["bleu", "chrf", "perplexity", "f1", "ndcg", "mrr", "accuracy", "rmse", "calibration"]
)
def test_a_metric_that_gives_a_single_text_no_number_is_refused(metric: str):
    with pytest.raises(ValidationError, match=r"use exact_match, token_f1, rouge or meteor"):
        Reward.read({"kind": "metric", "metric": metric})


def test_a_pattern_wants_the_whole_text():
    reward: Reward = Reward.read({"kind": "pattern", "pattern": "yes|no|maybe"})
    assert reward.load()(written("yes", "no", "maybe", "yes.", " yes", "Yes", "", "yes\nno")) == [
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
    ]
    assert reward.reads == ""


def test_a_pattern_that_cannot_be_read_is_refused():
    with pytest.raises(ValidationError, match="this is no regular expression: missing"):
        Reward.read({"kind": "pattern", "pattern": "(yes"})


def test_a_text_is_rewarded_for_what_its_passages_say():
    reward: Reward = Reward.read("grounded")
    passages = ("The heart pumps blood through the body.", "Bones are made of calcium.")
    texts = ("The heart pumps blood.", "The heart pumps blood. Bones are made of iron.", "Water is wet.", "")
    found = reward.load()([Written("row", "?", text, passages=passages) for text in texts])
    assert found[0] == 1 > found[1] > found[2] == found[3] == 0
    assert reward.reads == "passages"


class Silent(Grounder):
    """Judges one answer, and hears nothing of the others."""

    def load(self) -> Check:
        """Return what fails."""
        return lambda cases, *, progress: [Grounded(()), *[Failure("timeout", "60 s") for _ in cases[1:]]]


def test_a_judgement_that_does_not_come_is_no_zero():
    with pytest.raises(DataError, match=r"reward grounded: not judged are 2 of 3 \(2 timeout\); resume the run"):
        GroundedReward(grounder=Silent()).load()(written("yes", "no", "maybe"))


def test_a_reward_model_gives_prompt_and_text_its_number(tmp_path: Path):
    model = tiny_reward(tmp_path)
    texts = written("yes", "no", "one two three")
    reward: Reward = Reward.read({"kind": "model", "model": str(model)})
    found = reward.load()(texts)
    scores = load_reward(str(model)).score([one.prompt for one in texts], [one.text for one in texts])
    assert found == pytest.approx(scores, rel=2e-2, abs=2e-2)  # the chip's number format may be a shorter one
    assert len({*found}) == 3


def tiny_reward(folder: Path) -> Path:
    """Write a random BERT with a head of one output."""
    built = load_regressor(str(tiny.tiny_bert(folder / "base")), dtype=torch.float32, seed=0)
    built.model.save_pretrained(folder / "reward")
    built.tokenizer.save_pretrained(folder / "reward")
    return folder / "reward"


def test_rewards_are_added_by_weight_and_kept_apart():
    parts = ({"kind": "metric", "metric": "exact_match", "weight": 2.0}, {"kind": "pattern", "pattern": "yes|no"})
    jury = Jury([Reward.read(part) for part in parts])
    found = jury(written("yes", "no", "other"))
    assert found == [
        {"exact match": 1.0, "pattern": 1.0},
        {"exact match": 0.0, "pattern": 1.0},
        {"exact match": 0.0, "pattern": 0.0},
    ]
    assert [jury.total(one) for one in found] == [3.0, 1.0, 0.0]
    assert jury([]) == []


class Broken(Reward):
    """Gives what it is told to."""

    gives: tuple[float, ...]

    def load(self) -> Judge:
        """Return what ignores the texts."""

        def judge(_: Sequence[Written]) -> list[float]:
            return [*self.gives]

        return judge


def test_a_reward_that_is_no_number_is_never_taken_for_one():
    with pytest.raises(DataError, match=r"reward test_rewards of a text for row 'row1' is nan: 'no'"):
        Jury([Broken(gives=(1.0, math.nan))])(written("yes", "no"))
    with pytest.raises(DataError, match=r"gave 1 numbers for 2 texts"):
        Jury([Broken(gives=(1.0,))])(written("yes", "no"))
