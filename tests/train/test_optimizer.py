import math

import pytest
import torch
from torch import nn

from burnish.methods.full import Full
from burnish.train.optimizer import build_optimizer, is_fresh, schedule_factor, set_rates
from burnish.train.settings import Training

WEIGHTS = {
    "bert.embeddings.word_embeddings.weight": (5, 4),
    "bert.encoder.layer.0.attention.query.weight": (4, 4),
    "bert.encoder.layer.0.attention.query.bias": (4,),
    "bert.encoder.layer.1.output.LayerNorm.weight": (4,),
    "bert.encoder.layer.1.output.dense.weight": (4, 4),
    "bert.norm.weight": (4,),
    "classifier.weight": (3, 4),
    "classifier.bias": (3,),
}


def groups(training: Training, fresh: tuple[str, ...] = ("classifier.",)) -> dict[str, tuple[float, float]]:
    """Return rate and weight decay of each weight."""
    weights = [nn.Parameter(torch.zeros(shape)) for shape in WEIGHTS.values()]
    optimizer = build_optimizer(list(WEIGHTS), weights, training, Full(learning_rate=1e-4), fresh=fresh)
    names = {id(weight): name for name, weight in zip(WEIGHTS, weights, strict=True)}
    found = {
        names[id(weight)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(WEIGHTS) == len(found)
    return found


def test_norms_and_biases_are_not_decayed():
    decayed = {name for name, (_, decay) in groups(Training(weight_decay=0.1)).items() if decay == 0.1}
    assert decayed == {
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.attention.query.weight",
        "bert.encoder.layer.1.output.dense.weight",
        "classifier.weight",
    }


def test_a_new_head_learns_at_ten_times_the_rate():
    found = groups(Training())
    assert found["classifier.weight"][0] == pytest.approx(1e-3)
    assert found["bert.norm.weight"][0] == 1e-4
    assert groups(Training(head_learning_rate=5e-2))["classifier.bias"][0] == 5e-2


def test_the_rate_falls_from_the_top_layer_to_the_embeddings():
    rates = {name: rate for name, (rate, _) in groups(Training(layer_decay=0.5)).items()}
    assert rates["bert.norm.weight"] == 1e-4
    assert rates["bert.encoder.layer.1.output.dense.weight"] == 1e-4
    assert rates["bert.encoder.layer.0.attention.query.weight"] == 5e-5
    assert rates["bert.embeddings.word_embeddings.weight"] == 2.5e-5
    assert rates["classifier.weight"] == pytest.approx(1e-3)


def test_a_part_of_a_similar_name_is_not_new():
    assert is_fresh("base_model.model.score.weight", ("score.",))
    assert is_fresh("score.weight", ("score.",))
    assert not is_fresh("model.rescore.weight", ("score.",))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_warms_up_linearly_and_never_leaves_its_range(schedule: str):
    training = Training(schedule=schedule, warmup=0.1)
    factors = [schedule_factor(step, 100, training) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_the_schedules_follow_their_formulas():
    at = {
        name: schedule_factor(55, 100, Training(schedule=name, warmup=0.1)) for name in ("linear", "cosine", "constant")
    }
    assert at == pytest.approx({"linear": 0.5, "cosine": (1 + math.cos(math.pi / 2)) / 2, "constant": 1.0})


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_no_warm_up_and_nothing_but_warm_up_are_possible(warmup: float):
    factors = [schedule_factor(step, 4, Training(warmup=warmup)) for step in range(4)]
    assert factors == pytest.approx([1, 0.75, 0.5, 0.25] if warmup == 0 else [0.2, 0.4, 0.6, 0.8])


def test_rates_are_set_from_the_full_rate_and_not_from_the_last():
    weights = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2, 2))]
    optimizer = build_optimizer(["a", "head.b"], weights, Training(), Full(learning_rate=1e-4), fresh=("head.",))
    for _ in range(2):
        assert set_rates(optimizer, 0.5) == pytest.approx(5e-4)
    assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([5e-5, 5e-4])
