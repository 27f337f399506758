"""Retriever and generator together: loss and gradient as by hand, in any passes, and halves that load elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from burnish.errors import DataError
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.models.render import render
from burnish.records import Completion, dump_jsonl
from burnish.tasks import Built, Task
from burnish.tasks.rag import Rag, Retrieved
from rag_data import CHUNKS, ROWS, write_halves


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with both halves, passages and a cache of its own."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return write_halves(tmp_path)


def task_of(place: Path, **settings: Any) -> Rag:
    named = {"passages": str(place / "passages.jsonl"), "retriever": str(place / "bert"), "top_k": 3}
    more = {"prompt": {"passages": 2}, "query_tokens": 16, "passage_tokens": 16, "max_new_tokens": 4}
    task = Task.read({"kind": "rag", **named, **more, **settings})
    assert isinstance(task, Rag)
    return task


def begun(
    task: Rag, place: Path, method: Method | None = None, *, alike: bool = False
) -> tuple[Built, Any, list[Retrieved]]:
    """Return what is built, the model as the method leaves it, and the first step's items of four questions.

    alike: to the generator every token is as likely as any other.
    """
    built = task.build(str(place / "llama"))
    model = task.adapted_by(method or Full()).apply(built.model)
    if alike:
        torch.nn.init.zeros_(model.generator.get_output_embeddings().weight)
    items = task.encode(ROWS, built).items
    task.prepare(model, items, cache=place / "cache", progress=lambda *_: None)
    sampler = task.sampler(model, built, items, seed=0)
    return built, model, list(sampler(0, range(4)))


def by_hand(task: Rag, built: Built, model: Any, found: Sequence[Retrieved]) -> tuple[list[Tensor], list[Tensor]]:
    """Return each question's scores and its passages' (passages, tokens) ln probabilities of the answer, one by one."""
    towers, chunks = model.retriever, {chunk.id: chunk for chunk in CHUNKS}
    form, scores, logps = towers.format, [], []
    for one in found:
        ids, _ = towers.queries.tokenize([form.query(one.item.row.question)], max_tokens=form.query_tokens)
        query = towers.queries.embed(list(ids))[0]
        shown = [chunks[key] for key in one.ids]
        read, _ = towers.passages.tokenize(
            [form.passage(chunk.title, chunk.text) for chunk in shown], max_tokens=form.passage_tokens
        )
        scores.append(towers.passages.embed(list(read)).detach() @ query)
        each = []
        for number, chunk in enumerate(shown):
            given = shown[:number] + shown[number + 1 :] if task.loss.kind == "loop" else [chunk]
            form_of = task.prompt.model_copy(update={"passages": len(given)})
            asked = form_of.messages(one.item.row.question, given)
            told = Completion(id="", prompt=asked, completion=one.item.row.answers[0])
            [(prompt, answer)] = render([told], built.tokenizer)
            logits = model.generator(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            each.append(-functional.cross_entropy(logits, torch.tensor(answer), reduction="none"))
        logps.append(torch.stack(each))
    return scores, logps


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Compare gradients weight by weight, by the size of the whole half's gradient."""
    assert ours.keys() == theirs.keys()
    for half in ("retriever", "generator"):
        names = [name for name in ours if name.startswith(half)]
        if not names:
            continue
        size = max(theirs[name].abs().max().item() for name in names)
        apart = max((ours[name] - theirs[name]).abs().max().item() for name in names)
        assert apart <= 1e-5 * size, (half, apart, size)


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("pass_tokens", [1, 64, 4096])
@pytest.mark.parametrize("loss", ["rag_sequence", "rag_token"])
def test_loss_and_gradient_of_both_halves_are_those_of_the_whole_graph(
    place: Path, loss: str, pass_tokens: int
) -> None:
    task = task_of(place, loss=loss, pass_tokens=pass_tokens)
    built, model, found = begun(task, place)
    total = task.total_loss(model, task.collate(found))
    total.backward()
    ours = gradients(model)
    expected = torch.zeros(())
    for scores, logps in zip(*by_hand(task, built, model, found), strict=True):
        shares = (scores / 0.05).log_softmax(0)
        if loss == "rag_sequence":
            expected = expected - (shares + logps.sum(1)).logsumexp(0)
        else:
            expected = expected - (shares[:, None] + logps).logsumexp(0).sum()
    expected.backward()
    theirs = gradients(model)
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert {name.split(".")[0] for name in ours} == {"retriever", "generator"}
    assert_near(ours, theirs)


@pytest.mark.parametrize("loss", ["pdist", "replug", "emdr2", "loop"])
def test_what_teaches_the_retriever_alone_leaves_the_generator_to_its_own_loss(place: Path, loss: str) -> None:
    task = task_of(place, loss=loss, generator_weight=0.0)
    built, model, found = begun(task, place)
    batch = task.collate(found)
    total = task.total_loss(model, batch)
    total.backward()
    ours = gradients(model)
    assert {name.split(".")[0] for name in ours} == {"retriever"}
    assert max(gradient.abs().max().item() for gradient in ours.values()) > 1e-6
    scores, logps = by_hand(task, built, model, found)
    there, tokens = torch.ones(1, 3, dtype=torch.bool), [len(one[0]) for one in logps]
    expected = sum(
        task.loss(own[None], there, told[None].detach(), torch.tensor([count]))  # type: ignore[operator]
        for own, told, count in zip(scores, logps, tokens, strict=True)
    )
    expected.backward()
    assert_near(ours, gradients(model))
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert batch.told["kl"] == (pytest.approx(0.0, abs=1e-6), 4)  # nothing has moved yet


def test_the_generator_learns_from_the_prompt_that_serving_writes(place: Path) -> None:
    task = task_of(place, trains="generator")
    built, model, found = begun(task, place)
    batch = task.collate(found)
    total = task.total_loss(model, batch)
    chunks, expected = {chunk.id: chunk for chunk in CHUNKS}, 0.0
    for one in found:
        shown = [chunks[key] for key in one.ids[:2]]
        asked = task.prompt.messages(one.item.row.question, shown)
        told = Completion(id="", prompt=asked, completion=one.item.row.answers[0])
        [(prompt, answer)] = render([told], built.tokenizer)
        logits = model.generator(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        expected += functional.cross_entropy(logits, torch.tensor(answer)).item()
    assert total.item() == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert {name.split(".")[0] for name in gradients(model)} == {"generator"}


@pytest.mark.parametrize("loss", ["emdr2", "rag_sequence", "rag_token"])
def test_a_generator_to_which_passages_are_alike_teaches_the_retriever_nothing(place: Path, loss: str) -> None:
    *_, ours = taught_by_one_to_which_all_are_alike(place, loss)
    moved = [g.abs().max().item() for name, g in ours.items() if name.startswith("retriever")]
    assert max(moved) < 1e-5


@pytest.mark.parametrize("loss", ["pdist", "replug", "loop"])
def test_a_generator_to_which_passages_are_alike_has_a_uniform_target(place: Path, loss: str) -> None:
    task, built, model, found, ours = taught_by_one_to_which_all_are_alike(place, loss)
    scores, _ = by_hand(task, built, model, found)
    torch.stack([-(own / 0.05).log_softmax(0).mean() for own in scores]).sum().backward()
    assert_near(ours, gradients(model))


def taught_by_one_to_which_all_are_alike(
    place: Path, loss: str
) -> tuple[Rag, Built, Any, list[Retrieved], dict[str, Tensor]]:
    """Return task, parts, model, questions and the gradients, where every token is as likely as any other."""
    task = task_of(place, loss=loss, generator_weight=0.0)
    built, model, found = begun(task, place, alike=True)
    task.total_loss(model, task.collate(found)).backward()
    return task, built, model, found, gradients(model)


def test_passages_that_read_alike_are_one(place: Path) -> None:
    task = task_of(place)
    _, model, found = begun(task, place)
    first = task.total_loss(model, task.collate(found)).item()
    twice = [*CHUNKS, *(chunk.model_copy(update={"id": f"again {chunk.id}"}) for chunk in CHUNKS)]
    (place / "passages.jsonl").write_text(dump_jsonl(twice), encoding="utf-8")
    _, model, found = begun(task, place)
    assert all(len({*one.ids}) == 3 and not any("again" in key for key in one.ids) for one in found)
    assert task.total_loss(model, task.collate(found)).item() == pytest.approx(first, rel=1e-6)


def test_how_a_step_is_cut_changes_nothing(place: Path) -> None:
    task = task_of(place, loss="pdist", start_weight=0.5)
    _, model, found = begun(task, place)
    with torch.no_grad():  # as if it had moved
        for weight in model.retriever.queries.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    task.total_loss(model, task.collate(found)).backward()
    whole = gradients(model)
    for one in found:
        task.total_loss(model, task.collate([one])).backward()
    assert_near(gradients(model), whole)


def test_both_halves_load_where_they_come_from_and_the_whole_is_read_back(place: Path, tmp_path: Path) -> None:
    task = task_of(place, loss="rag_sequence")
    built, model, found = begun(task, place, Lora(rank=2))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    model.eval()
    folder = tmp_path / "saved"
    folder.mkdir()
    task.save(model, built, folder)
    theirs = SentenceTransformer(str(folder / "retriever"))
    form = model.retriever.format
    queries, _ = model.retriever.queries.encode([form.query("the cat")], max_tokens=form.query_tokens)
    torch.testing.assert_close(queries, torch.tensor(theirs.encode_query(["the cat"])), rtol=1e-5, atol=1e-5)
    again = task.build(str(folder))
    asked = {"reads": "answers", "progress": lambda *_: None}
    with torch.inference_mode():
        answers = task.predictions(model, built, ROWS, **asked)
        assert task.predictions(again.model, again, ROWS, **asked) == answers
        shown = task.predictions(model, built, ROWS, reads="passages", progress=lambda *_: None)
    assert {len(texts) for texts in shown} == {5}
    assert {text for texts in shown for text in texts} <= {f"{chunk.title}\n{chunk.text}" for chunk in CHUNKS}
    [recall] = [metric for metric in task.metrics if metric.reads == "passages"]
    held = [recall.value([texts], [["is"]]) for texts in shown]
    assert held == [1.0] * len(ROWS)
    upstream = AutoPeftModelForCausalLM.from_pretrained(folder / "generator").eval()
    ids = torch.tensor([found[0].scored[0][0]])
    with torch.no_grad():
        torch.testing.assert_close(upstream(input_ids=ids).logits, model.generator(input_ids=ids).logits)


def test_full_weights_are_saved_for_transformers(place: Path, tmp_path: Path) -> None:
    task = task_of(place, loss="rag_token")
    built, model, _ = begun(task, place)
    folder = tmp_path / "saved"
    folder.mkdir()
    task.save(model, built, folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder / "generator")
    for name, weight in theirs.named_parameters():
        assert torch.equal(weight, dict(model.generator.named_parameters())[name])


def test_what_cannot_teach_is_refused(place: Path) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        task_of(place, top_k=1)
    with pytest.raises(ValidationError, match=r"the loss of rag is pdist, .* not contrastive"):
        task_of(place, loss="contrastive")
    with pytest.raises(DataError, match="12 different passages are there, and top_k is 13"):
        begun(task_of(place, top_k=13), place)
