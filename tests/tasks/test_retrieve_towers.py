"""A retriever of two towers: trained by every method, held still in one of them, searched with, and trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from burnish.errors import ModelError
from burnish.losses.contrastive import Contrastive
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.models.encode import Encoder
from burnish.models.precision import chosen_dtype
from burnish.models.towers import Towers, load_bi_encoder
from burnish.prepare.teach import BiEncoderScorer
from burnish.records import Chunk
from burnish.retrievers.dense import Dense, DenseIndex
from burnish.tasks.retrieve import Retrieve
from burnish.train.check import require_trainable
from learn import learn, summed

LENGTHS: dict[str, Any] = {"query_tokens": 16, "passage_tokens": 24}
TASK = Retrieve(two_towers=True, **LENGTHS)
FP32 = torch.float32
CHUNKS = [Chunk(id=f"c{place}", text=" ".join(tiny.WORDS[place : place + 3])) for place in range(20)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("bert")))


def side(model: nn.Module, name: str) -> list[tuple[str, nn.Parameter]]:
    return [(key, weight) for key, weight in model.named_parameters() if f".{name}." in f".{key}"]


def loss_of(task: Retrieve, model: nn.Module, batch: Any) -> Tensor:
    model.eval()
    model.zero_grad()
    return task.total_loss(model, batch)


def test_each_tower_gets_its_share_of_the_gradient_of_one_that_reads_both(base: str) -> None:
    one, two = Retrieve(**LENGTHS).build(base), TASK.build(base)
    batch = TASK.collate(TASK.encode(tiny.pairs(6), two).items)
    loss, expected = loss_of(TASK, two.model, batch), loss_of(TASK, one.model, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    shares = [
        {key.partition(".")[2]: weight.grad for key, weight in side(two.model, name)}
        for name in ("queries", "passages")
    ]
    for name, weight in one.model.named_parameters():
        halves = [share[name] for share in shares]
        assert all(half is not None and half.any() for half in halves), name
        torch.testing.assert_close(halves[0] + halves[1], weight.grad, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences(base: str) -> None:
    built = TASK.build(base)
    built.model.double()
    batch = TASK.collate(TASK.encode(tiny.pairs(4), built).items)
    loss_of(TASK, built.model, batch).backward()
    for name in ("queries", "passages"):
        weight = dict(side(built.model, name))[f"{name}.transformer.encoder.layer.1.output.dense.bias"]
        assert weight.grad is not None
        found, place, step = weight.grad.clone(), int(weight.grad.abs().argmax()), 1e-2
        values = []
        for way in (step, -2 * step):
            with torch.no_grad():
                weight[place] += way
                values.append(TASK.total_loss(built.model, batch).item())
        with torch.no_grad():
            weight[place] += step
        assert found[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-2)


def test_how_many_tokens_a_pass_holds_does_not_change_loss_or_gradient(base: str) -> None:
    built = TASK.build(base)
    items = TASK.encode(tiny.pairs(6), built).items
    found = [
        summed(TASK.model_copy(update={"pass_tokens": tokens}), built.model, items, size=6) for tokens in (1, 60, 9999)
    ]
    for loss, _, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, found[0][2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["full", "lora", "ia3", "bitfit"])
def test_a_method_trains_both_towers(name: str, base: str, tmp_path: Path) -> None:
    built = TASK.build(base)
    method: Method = Method.read(name)
    model = method.apply(built.model, fresh=built.fresh)
    require_trainable(model, method)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:  # what starts at zero hides another weight's gradient
                weight.add_(torch.randn_like(weight), alpha=0.05)
    loss_of(TASK, model, TASK.collate(TASK.encode(tiny.pairs(6), built).items)).backward()
    for tower in ("queries", "passages"):
        moving = [(key, weight) for key, weight in side(model, tower) if weight.requires_grad]
        assert moving
        assert not [key for key, weight in moving if weight.grad is None or not weight.grad.any()]
    before = TASK.predictions(model, built, tiny.pairs(6), reads="answers", progress=lambda *_: None)
    TASK.save(model, built, tmp_path / "model")
    again = TASK.build(str(tmp_path / "model"))
    assert TASK.predictions(again.model, again, tiny.pairs(6), reads="answers", progress=lambda *_: None) == before


@pytest.mark.parametrize("name", ["head", "prompt", "prefix", "adapters"])
def test_a_method_that_has_no_place_in_an_encoder_has_none_in_two(name: str, base: str) -> None:
    built = TASK.build(base)
    method: Method = Method.read(name)
    with pytest.raises(ModelError, match=rf"method {name}.* Towers .*Use lora or full|method prompt.*Towers is none"):
        method.apply(built.model, fresh=built.fresh)


def test_two_towers_learn_a_few_rows_and_are_trained_on(base: str, tmp_path: Path) -> None:
    built = TASK.build(base)
    rows = tiny.pairs(8, longest=4)
    losses = learn(TASK, built, rows, tmp_path / "first", steps=16, rate=5e-3)
    assert losses[-1] < 0.4 * losses[0]
    TASK.save(built.model, built, tmp_path / "model")
    task = Retrieve(loss=Contrastive(learn="temperature"), **LENGTHS)  # what has two towers keeps them
    more = task.build(str(tmp_path / "model"))
    assert isinstance(more.model, Towers)
    assert more.fresh == ("log_scale",)
    assert max(learn(task, more, rows, tmp_path / "second", steps=2, rate=1e-4)) < 0.05 * losses[0]


def test_a_frozen_tower_keeps_its_vectors(base: str, tmp_path: Path) -> None:
    built = TASK.build(base)
    assert isinstance(built.model, Towers)
    before = built.model.passages.fingerprint(), built.model.queries.fingerprint()
    method = Full(freeze=("passages.*",), learning_rate=1e-2)
    method.apply(built.model)
    trainable, all_of_them = require_trainable(built.model, method)
    assert 2 * trainable == all_of_them
    items = TASK.encode(tiny.pairs(6), built).items
    loss = loss_of(TASK.model_copy(update={"pass_tokens": 40}), built.model, TASK.collate(items))
    loss.backward()
    assert all(weight.grad is None for _, weight in side(built.model, "passages"))
    torch.optim.SGD([weight for weight in built.model.parameters() if weight.requires_grad], 0.1).step()
    assert built.model.passages.fingerprint() == before[0]
    assert built.model.queries.fingerprint() != before[1]


def test_a_method_that_finds_nothing_in_one_tower_says_so(base: str, tmp_path: Path) -> None:
    queries = Encoder.load(str(tiny.tiny_llama(tmp_path / "llama")), dtype=FP32)
    towers = Towers(queries, Encoder.load(base, dtype=FP32))
    method: Method = Method.read("bitfit")
    with pytest.raises(ModelError, match="bitfit finds weights to train in the encoder of passages alone; use lora"):
        require_trainable(method.apply(towers), method)
    require_trainable(Lora().apply(towers), Lora())


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect how many texts are encoded at a time, questions as well."""
    counts: list[int] = []
    encode = Encoder.encode_ids

    def counting(self: Encoder, given: Sequence[Sequence[int]], **options: Any) -> Any:
        counts.append(len(given))
        return encode(self, given, **options)

    monkeypatch.setattr(Encoder, "encode_ids", counting)
    return counts


def _saved(towers: Towers, folder: Path, change: Callable[[Towers], Encoder]) -> str:
    with torch.no_grad():
        for weight in change(towers).parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    towers.save(folder)
    return str(folder)


def test_passages_are_not_encoded_again_where_their_tower_stays(base: str, tmp_path: Path, encoded: list[int]) -> None:
    built = TASK.build(base)
    assert isinstance(built.model, Towers)
    first = _saved(built.model, tmp_path / "first", lambda towers: towers.queries)
    second = _saved(built.model, tmp_path / "second", lambda towers: towers.queries)
    third = _saved(built.model, tmp_path / "third", lambda towers: towers.passages)
    ranks, counts = [], []
    for name in (first, second, third):
        encoded.clear()
        searcher = Dense(model=name).build(CHUNKS, cache=tmp_path / "cache", progress=lambda *_: None)
        [hits] = searcher.search(["cat dog red"], len(CHUNKS))
        ranks.append([hit.id for hit in hits])
        counts.append(sum(encoded))
        encoder = load_bi_encoder(name, dtype=chosen_dtype())
        scores = (
            encoder.queries.encode(["cat dog red"], max_tokens=16)[0]
            @ encoder.passages.encode([chunk.text for chunk in CHUNKS], max_tokens=24)[0].T
        )
        assert {hit.id: hit.score for hit in hits} == pytest.approx(
            dict(zip((chunk.id for chunk in CHUNKS), scores[0].tolist(), strict=True)), abs=1e-5
        )
    assert counts == [len(CHUNKS) + 1, 1, len(CHUNKS) + 1]
    assert ranks[0] != ranks[1]


def test_an_index_opens_with_another_tower_of_queries_and_refuses_another_of_passages(
    base: str, tmp_path: Path
) -> None:
    built = TASK.build(base)
    assert isinstance(built.model, Towers)
    first = _saved(built.model, tmp_path / "first", lambda towers: towers.queries)
    DenseIndex.open(tmp_path / "index", Dense(model=first)).add(CHUNKS)
    second = _saved(built.model, tmp_path / "second", lambda towers: towers.queries)
    assert len(DenseIndex.open(tmp_path / "index", Dense(model=second)).search(["cat"], 3)[0]) == 3
    third = _saved(built.model, tmp_path / "third", lambda towers: towers.passages)
    with pytest.raises(ModelError, match=r"this index was made with .*first"):
        DenseIndex.open(tmp_path / "index", Dense(model=third))


def test_two_towers_teach_by_the_cosine_of_query_and_passage(base: str, tmp_path: Path) -> None:
    built = TASK.build(base)
    assert isinstance(built.model, Towers)
    teacher = load_bi_encoder(_saved(built.model, tmp_path / "first", lambda towers: towers.queries), dtype=FP32)
    query, _ = teacher.queries.encode(["cat dog"], max_tokens=16)
    passage, _ = teacher.passages.encode(["red"], max_tokens=24)
    assert BiEncoderScorer(teacher).score([("cat dog", "red")]) == pytest.approx([(query @ passage.T).item()], abs=1e-6)


def test_each_tower_reads_texts_with_its_own_tokenizer(base: str, tmp_path: Path) -> None:
    queries = Encoder.load(str(tiny.tiny_llama(tmp_path / "llama")), dtype=FP32)
    Towers(queries, Encoder.load(base, dtype=FP32)).save(tmp_path / "model")
    built = Retrieve(**LENGTHS).build(str(tmp_path / "model"))
    items = TASK.encode(tiny.pairs(3), built).items
    lines = TASK.audit(items, built)
    assert lines[0] == f"query: {tiny.pairs(3)[0].query}"
    assert lines[1] == f"positive: [CLS] {tiny.pairs(3)[0].positives[0]} [SEP]"
    assert torch.isfinite(TASK.total_loss(built.model, TASK.collate(items)))
