"""Few-shot learning by choices: one pass a row is many passes, a step draws, and ranks are by the token."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

import tiny
from burnish.choice_rows import Choice
from burnish.errors import DataError
from burnish.losses.t_few import TFew
from burnish.metrics import Guess
from burnish.models.answers_apart import shared_beginning
from burnish.models.completions import is_apart
from burnish.models.layout import Segments
from burnish.records import Labelled, Record
from burnish.tasks import Built, Task
from burnish.tasks.fewshot import Fewshot

ROWS = [
    Choice(id="a", prompt="the cat", choices=("red", "blue one", "green"), answer="blue one"),
    Choice(id="b", prompt="a dog and fish", choices=("yes", "no"), answer="yes"),
    Choice(id="c", prompt="bird", choices=("one two three", "two", "red", "fish"), answer="fish"),
]
LABELLED = [
    Labelled(id=f"r{n}", text=text, label=label)
    for n, (text, label) in enumerate([("the cat", "bird"), ("red one", "red"), ("one two", "one"), ("blue", "red")])
]
TEMPLATES = [{"ask": "{text} ?"}, {"ask": "which is {text}", "answers": {"bird": "cat or dog"}}]


@pytest.fixture(scope="module", params=["tiny_llama", "tiny_t5"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(getattr(tiny, request.param)(tmp_path_factory.mktemp("model") / "model"))


def task_of(**settings: Any) -> Fewshot:
    task: Fewshot = Task.read({"kind": "fewshot", **settings})
    return task


def alone(built: Built, prompt: Sequence[int], choice: Sequence[int]) -> Tensor:
    """Return the ln probabilities of a choice's tokens in a pass of its own."""
    model: Any = built.model
    if is_apart(model):
        begun = torch.tensor([[model.config.decoder_start_token_id, *choice[:-1]]])
        logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits[0]
    else:
        logits = model(input_ids=torch.tensor([[*prompt, *choice]])).logits[0, len(prompt) - 1 : -1]
    return -functional.cross_entropy(logits, torch.tensor(choice), reduction="none")


def test_one_pass_a_row_has_the_loss_and_gradient_of_a_pass_for_each_choice(base: str) -> None:
    task = task_of()
    built = task.build(base)
    built.model.double()  # a random T5 enlarges the rounding of fp32 a thousandfold on its way to the embeddings
    items = task.encode(ROWS, built).items
    total = task.total_loss(built.model, task.collate(items))
    total.backward()
    ours = {name: weight.grad.clone() for name, weight in built.model.named_parameters() if weight.grad is not None}
    built.model.zero_grad()
    expected = torch.zeros((), dtype=torch.float64)
    for item in items:
        each = [alone(built, item.prompts[0], choice) for choice in item.choices[0]]
        logps = torch.nn.utils.rnn.pad_sequence(each, batch_first=True)[None]
        lengths = torch.tensor([[len(choice) for choice in item.choices[0]]])
        expected = expected + TFew()(logps, lengths, torch.tensor([item.right]))
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    size = max(gradient.abs().max().item() for gradient in ours.values())
    for name, weight in built.model.named_parameters():
        if weight.grad is not None:
            assert (ours[name] - weight.grad).abs().max().item() <= 1e-6 * size, name


def test_a_prediction_is_the_choice_of_the_highest_mean(base: str) -> None:
    task = task_of()
    built = task.build(base)
    asked = {"progress": lambda *_: None}
    said = task.predictions(built.model, built, ROWS, reads="answers", **asked)
    guesses: list[Guess] = task.predictions(built.model, built, ROWS, reads="guesses", **asked)
    for row, item, answer, guess in zip(ROWS, task.encode(ROWS, built).items, said, guesses, strict=True):
        with torch.no_grad():
            means = torch.stack([alone(built, item.prompts[0], choice).mean() for choice in item.choices[0]])
        assert answer == guess.label == row.choices[int(means.argmax())]
        assert guess.probability == pytest.approx(means.softmax(0).max().item(), rel=1e-4)
    assert task.references(ROWS) == [row.answer for row in ROWS]


def test_a_step_draws_a_template_and_wrong_choices_and_the_same_ones_again(base: str) -> None:
    labels = ["blue", "green", "one", "red", "three", "two"]
    rows = [Labelled(id=f"r{n}", text="the cat", label=labels[n]) for n in range(6)]
    task = task_of(templates=TEMPLATES, choices=3).settled(rows)
    assert task.labels == tuple(labels)
    assert task.record is Labelled
    built = task.build(base)
    items = task.encode(rows, built).items
    sampler = task.sampler(built.model, built, items, seed=7)
    met: set[tuple[int, ...]] = set()
    drawn: set[tuple[tuple[int, ...], ...]] = set()
    for step in range(8):
        found = list(sampler(step, range(6)))
        assert found == list(sampler(step, range(6)))
        for item, whole in zip(found, items, strict=True):
            [prompt], [choices] = item.prompts, item.choices
            place = whole.prompts.index(prompt)
            assert len(choices) == 3
            assert choices[item.right] == whole.choices[place][whole.right]
            assert {*choices} <= {*whole.choices[place]}
            met.add(prompt)
            drawn.add(choices)
    assert len(met) == 2
    assert len(drawn) > 8
    every = task_of(templates=TEMPLATES, choices=None).settled(rows)
    assert len(every.sampler(built.model, built, items, seed=7)(0, [2])[0].choices[0]) == 6


def test_labels_are_predicted_by_the_first_template(base: str) -> None:
    task = task_of(templates=TEMPLATES).settled(LABELLED)
    built = task.build(base)
    items = task.encode(LABELLED, built).items
    assert all(len(item.prompts) == 2 for item in items)
    said = task.predictions(built.model, built, LABELLED, reads="answers", progress=lambda *_: None)
    first = task_of(templates=TEMPLATES[:1]).settled(LABELLED)
    assert said == first.predictions(built.model, built, LABELLED, reads="answers", progress=lambda *_: None)
    assert {*said} <= {"bird", "red", "one"}
    assert task.references(LABELLED) == [row.label for row in LABELLED]
    lines = task.audit(items, built)
    assert any("cat or dog" in line or "'bird" in line for line in lines)


def test_what_cannot_be_ranked_is_refused(base: str) -> None:
    with pytest.raises(ValidationError, match="the loss of fewshot is t_few, not mse"):
        task_of(loss="mse")
    with pytest.raises(ValidationError, match="labels are for rows of texts with labels"):
        task_of(labels=["a", "b"])
    with pytest.raises(DataError, match="have 1 label"):
        task_of(templates=TEMPLATES).settled(LABELLED[1:2])
    task = task_of(max_tokens=3)
    with pytest.raises(DataError, match=r"rows and their longest choice have over 3 tokens .*: a, b, c"):
        task.encode(ROWS, task.build(base))


def test_records_are_those_that_the_settings_ask_for() -> None:
    found: type[Record] = task_of().record
    assert found is Choice


def test_examples_before_all_prompts_are_read_once_a_pass_and_change_no_rank(
    base: str,
) -> None:
    task = task_of()
    built = task.build(base)
    earlier = "the cat is red and the dog is blue and one fish is green " * 2
    rows = [row.model_copy(update={"prompt": earlier + str(row.prompt)}) for row in ROWS]
    items = task.encode(rows, built).items
    assert is_apart(built.model) or shared_beginning([item.prompts[0] for item in items]) > 20
    found = task.ranked(built.model, items, lambda *_: None)
    for item, own in zip(items, found, strict=True):
        with torch.no_grad():
            means = [alone(built, item.prompts[0], choice).mean().item() for choice in item.choices[0]]
        assert own == pytest.approx(means, rel=1e-4)
    if not is_apart(built.model):
        read = task.collate(items).completions.read
        assert isinstance(read, Segments)
        alike = shared_beginning([item.prompts[0] for item in items])
        apart = sum(len(task.collate([item]).completions.read.ids) for item in items)
        assert len(read.ids) == apart - (len(items) - 1) * alike
