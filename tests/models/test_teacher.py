from collections.abc import Callable
from math import log
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from burnish.errors import ModelError
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.models.completions import completion_logits
from burnish.models.divergence import divergence, jensen_shannon, reverse_divergence
from burnish.models.load import load_writer
from burnish.models.teacher import Teacher, distance
from burnish.tasks.generate import Generate
from learn import fit_items

Measure = Callable[[Tensor, Tensor], Tensor]


def by_hand(kind: str, right: Tensor, found: Tensor) -> float:
    """Sum over rows and classes, one by one."""
    total = 0.0
    for row in range(len(right)):
        p, q = (side[row].exp() / side[row].exp().sum() for side in (right, found))
        for p_k, q_k in zip(p.tolist(), q.tolist(), strict=True):
            middle = (p_k + q_k) / 2
            total += {
                "forward": p_k * log(p_k / q_k),
                "reverse": q_k * log(q_k / p_k),
                "jensen_shannon": p_k * log(p_k / middle) / 2 + q_k * log(q_k / middle) / 2,
            }[kind]
    return total


@pytest.mark.parametrize("kind", ["forward", "reverse", "jensen_shannon"])
@pytest.mark.parametrize("warm", [1.0, 2.5])
def test_a_distance_is_the_sum_by_hand_and_its_gradient_the_slope(kind: str, warm: float):
    torch.manual_seed(0)
    right, found = torch.randn(3, 5, dtype=torch.float64) * 2, torch.randn(3, 5, dtype=torch.float64) * 2
    settings = Teacher.model_validate({"model": "a", "divergence": kind, "temperature": warm})
    expected = warm**2 * by_hand(kind, right / warm, found / warm)
    assert distance(right, found, settings).item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: distance(right, x, settings), found.requires_grad_())


@pytest.mark.parametrize("measure", [divergence, reverse_divergence, jensen_shannon])
def test_a_distance_of_equals_is_zero_and_at_extremes_finite(measure: Measure):
    same = torch.randn(3, 5)
    assert measure(same, same).item() == pytest.approx(0, abs=1e-6)
    far = torch.tensor([[90.0, -90.0]], requires_grad=True)
    found = measure(torch.tensor([[-90.0, 90.0]]), far)
    found.backward()
    assert torch.isfinite(found)
    assert far.grad is not None
    assert torch.isfinite(far.grad).all()
    if measure is jensen_shannon:
        assert found.item() == pytest.approx(log(2))


def test_the_loss_mixes_hard_targets_and_the_teachers_distribution(tmp_path: Path):
    teacher = tiny.tiny_llama(tmp_path / "teacher", seed=5)
    settings = Teacher(model=str(teacher), temperature=2.0, weight=0.25)
    task = Generate(teacher=settings)
    built = task.build(str(tiny.tiny_llama(tmp_path / "student")))
    items = task.encode(tiny.completions(6), built).items
    task.audit(items, built)
    task.begin(built.model)
    batch = task.collate(items)
    right = completion_logits(load_writer(str(teacher), dtype=torch.float32)[0], batch)
    found = completion_logits(built.model, batch)
    hard = Generate().total_loss(built.model, batch)
    torch.testing.assert_close(
        task.total_loss(built.model, batch), 0.75 * hard + 0.25 * distance(right, found, settings)
    )


@pytest.mark.parametrize("kind", ["forward", "reverse", "jensen_shannon"])
def test_a_student_comes_to_say_what_its_teacher_says(kind: str, tmp_path: Path):
    teacher = tiny.tiny_llama(tmp_path / "teacher", seed=5)
    task = Generate(teacher=Teacher.model_validate({"model": str(teacher), "divergence": kind, "weight": 1}))
    built = task.build(str(tiny.tiny_llama(tmp_path / "student")))
    items = task.encode(tiny.completions(8), built).items
    method = Full(learning_rate=1e-2)
    losses = fit_items(task, method.apply(built.model), items, tmp_path / "run", method=method, fresh=(), epochs=60)
    assert losses[-1] < 0.2 * losses[0]


def test_the_teacher_is_frozen_and_not_saved(tmp_path: Path):
    teacher = tiny.tiny_llama(tmp_path / "teacher", seed=5)
    task = Generate(teacher=Teacher(model=str(teacher)))
    built = task.build(str(tiny.tiny_llama(tmp_path / "student")))
    model = Lora().apply(built.model)
    names = [name for name, _ in model.named_parameters()]
    task.begin(model)
    task.total_loss(model, task.collate(task.encode(tiny.completions(2), built).items)).backward()
    assert [name for name, _ in model.named_parameters()] == names
    task.save(model, built, tmp_path / "saved")
    size = (tmp_path / "saved" / "adapter_model.safetensors").stat().st_size
    assert size < (teacher / "model.safetensors").stat().st_size


def test_another_tokenizer_is_refused_in_words(tmp_path: Path):
    others = tiny.tiny_llama(tmp_path / "others", words=[*tiny.WORDS[1:], "new"])
    built = Generate().build(str(tiny.tiny_llama(tmp_path / "student")))
    task = Generate(teacher=Teacher(model=str(others)))
    with pytest.raises(ModelError, match=r"its tokenizer is another one than the student's: .* Distil on its answers"):
        task.audit(task.encode(tiny.completions(2), built).items, built)


def test_a_teacher_of_another_kind_is_refused(tmp_path: Path):
    built = Generate().build(str(tiny.tiny_llama(tmp_path / "student")))
    task = Generate(teacher=Teacher(model=str(tiny.tiny_t5(tmp_path / "t5"))))
    with pytest.raises(ModelError, match="one is an encoder-decoder and the other a decoder"):
        task.audit(task.encode(tiny.completions(2), built).items, built)
