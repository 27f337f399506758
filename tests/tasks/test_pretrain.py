import math
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

import tiny
from burnish.errors import DataError, ModelError
from burnish.methods.lora import Lora
from burnish.models.reading import SENTINEL
from burnish.records import Document
from burnish.tasks import Built, pretrain
from burnish.tasks.pretrain import Pretrain, Segment
from learn import check_micro_batches, learn

TASK = Pretrain(block_tokens=16)
KINDS = ["causal", "masked", "spans"]
AUTO: dict[str, Any] = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "spans": AutoModelForSeq2SeqLM,
}
TEXTS = (  # no word stands in two of them, so that each can be told from any other of its own
    "the cat is red",
    "open file and read list",
    "one two three",
    "dog bird fish blue green",
    "who what which",
    "left right first last",
    "seven eight nine ten six five",
    "question answer",
)
ROWS = [Document(id=text.split()[0], text=text) for text in TEXTS]
LONG = Document(id="long", text=" ".join(tiny.WORDS[:40]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    sentinels = [SENTINEL.format(number) for number in range(20)]
    return {
        "causal": str(tiny.tiny_llama(tmp_path_factory.mktemp("llama"))),
        "masked": str(tiny.tiny_bert(tmp_path_factory.mktemp("bert"), head=True)),
        "spans": str(tiny.tiny_t5(tmp_path_factory.mktemp("t5"), words=[*tiny.WORDS, *sentinels])),
    }


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def built(kind: str, folders: dict[str, str]) -> Built:
    found = TASK.build(folders[kind])
    found.model.eval()
    return found


def segments(built: Built, rows: list[Document]) -> list[Segment]:
    return list(chain.from_iterable(item.segments for item in TASK.encode(rows, built).items))


def loss_of(built: Built, rows: list[Document], *, seed: int = 0) -> float:
    torch.manual_seed(seed)
    items = TASK.encode(rows, built).items
    with torch.no_grad():
        return TASK.total_loss(built.model, TASK.collate(items)).item()


def alone(built: Built, segment: Segment, kind: str, seed: int) -> Tensor:
    """Return transformers' own loss of one segment, summed over its trained tokens."""
    network: Any = built.model
    ids = torch.tensor([segment.ids])
    reading = TASK.encode(ROWS, built).items[0].reading
    if kind == "causal":
        labels = ids
    elif kind == "masked":
        seen, places = pretrain._hidden(segment, reading, seed)
        labels = torch.full_like(ids, -100)
        labels[0, places] = ids[0, places]
        ids = torch.tensor([seen])
    else:
        seen, target = pretrain._left_out(segment, reading, seed)
        ids, labels = torch.tensor([seen]), torch.tensor([target])
    with torch.no_grad():
        return network(input_ids=ids, labels=labels).loss * segment.units


def test_the_loss_is_that_of_transformers_on_each_document_alone(built: Built, kind: str):
    expected = sum(alone(built, segment, kind, 7).item() for segment in segments(built, [*ROWS, LONG]))
    assert loss_of(built, [*ROWS, LONG], seed=7) == pytest.approx(expected, rel=1e-5)


def test_micro_batches_do_not_change_loss_and_gradient(built: Built):
    torch.manual_seed(3)
    check_micro_batches(TASK, built, [*ROWS, LONG])


def test_passes_of_any_size_and_a_head_in_parts_give_the_same(built: Built, monkeypatch: pytest.MonkeyPatch):
    results = []
    for tokens in (4096, 20):
        monkeypatch.setattr(pretrain, "PASS_TOKENS", tokens)
        monkeypatch.setattr(pretrain, "HEAD_TOKENS", tokens // 4)
        torch.manual_seed(0)
        built.model.zero_grad()
        loss = TASK.total_loss(built.model, TASK.collate(TASK.encode([*ROWS, LONG], built).items))
        loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in built.model.parameters() if weight.grad is not None])
        results.append((loss.item(), gradient))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)


def test_eight_documents_are_learned(built: Built, kind: str, tmp_path: Path):
    task = Pretrain(block_tokens=8)  # a document a block
    steps, rate = {"causal": (60, 1e-2), "masked": (160, 7e-3), "spans": (100, 1.5e-2)}[kind]
    losses = learn(task, built, ROWS, tmp_path, steps=steps, rate=rate)
    assert sum(losses[-20:]) / 20 < 0.2  # of ever new holes
    assert losses[0] > 1
    assert task.dev_score(built.model, built, ROWS) > -0.2


def test_what_is_saved_is_a_plain_base_with_equal_outputs(built: Built, kind: str, tmp_path: Path):
    TASK.save(built.model, built, tmp_path)
    again, info = AUTO[kind].from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    check_equal(built.model, again, AutoTokenizer.from_pretrained(tmp_path))


def test_an_adapter_is_put_into_the_base(built: Built, kind: str, tmp_path: Path):
    torch.manual_seed(0)  # A is drawn
    model = Lora(rank=2).apply(built.model, fresh=built.fresh)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    TASK.save(model, built, tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    assert any("lora" in name for name, _ in model.named_parameters())  # the model in training is as before
    check_equal(model.eval(), AUTO[kind].from_pretrained(tmp_path), built.tokenizer)


def check_equal(ours: Any, theirs: Any, tokenizer: Any) -> None:
    ids = torch.tensor([tokenizer(TEXTS[3])["input_ids"]])
    extra = {"decoder_input_ids": ids} if theirs.config.is_encoder_decoder else {}
    with torch.no_grad():
        expected = ours(input_ids=ids, **extra).logits
        torch.testing.assert_close(theirs.eval()(input_ids=ids, **extra).logits, expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_without_a_head_gets_one_and_stays_an_encoder(tmp_path: Path):
    built = TASK.build(str(tiny.tiny_bert(tmp_path / "bert")))
    assert built.fresh == ("cls.predictions.bias", "cls.predictions.transform.")
    losses = learn(Pretrain(block_tokens=8), built, ROWS, tmp_path, steps=60, rate=5e-3)
    assert losses[-1] < losses[0] / 2
    TASK.save(built.model, built, tmp_path / "model")
    _, info = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert all(key.startswith("pooler.") for key in info["missing_keys"])


def test_a_new_head_is_saved_with_an_adapter(tmp_path: Path):
    built = TASK.build(str(tiny.tiny_bert(tmp_path / "bert")))
    model = Lora(rank=2).apply(built.model, fresh=built.fresh)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05)
    TASK.save(model, built, tmp_path / "model")
    check_equal(model.eval(), AutoModelForMaskedLM.from_pretrained(tmp_path / "model"), built.tokenizer)


@pytest.mark.parametrize("kind", ["masked", "spans"], indirect=False)
def test_what_is_hidden_follows_from_the_seed_and_the_document_alone(kind: str, folders: dict[str, str]):
    built = TASK.build(folders[kind])
    built.model.eval()
    first, again, other = (loss_of(built, ROWS, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    turned = [*reversed(ROWS)]  # other blocks
    assert loss_of(built, turned, seed=1) == pytest.approx(first, rel=1e-5)
    torch.manual_seed(1)
    torch.rand(10)  # dropout draws as well, and moves nothing
    items = TASK.encode(ROWS, built).items
    with torch.no_grad():
        assert TASK.total_loss(built.model, TASK.collate(items)).item() == first


def test_a_decoder_learns_every_token_and_the_end(folders: dict[str, str]):
    built = TASK.build(folders["causal"])
    found = segments(built, ROWS)
    assert {built.tokenizer.decode(segment.ids) for segment in found} == {f"{text} <|end|>" for text in TEXTS}
    assert sum(segment.units for segment in found) == sum(len(text.split()) for text in TEXTS)


def test_a_long_document_is_cut_and_no_token_goes_untrained(folders: dict[str, str]):
    built = TASK.build(folders["causal"])
    encoded = TASK.encode([LONG], built)
    assert encoded.notes == {"documents cut into pieces of 16 tokens": 1}
    pieces = sorted((segment.ids for item in encoded.items for segment in item.segments), key=len)
    whole = (*built.tokenizer(LONG.text)["input_ids"], built.tokenizer.eos_token_id)
    assert sorted(map(len, pieces)) == [11, 16, 16]
    assert sum(len(piece) - 1 for piece in pieces) == len(whole) - 1
    starts = [next(n for n in range(41) if whole[n : n + len(piece)] == piece) for piece in pieces]
    assert sorted(starts) == [0, 15, 30]


def test_pieces_of_an_encoder_have_its_special_tokens_and_fill_the_block(folders: dict[str, str]):
    built = TASK.build(folders["masked"])
    pieces = [segment.ids for segment in segments(built, [LONG])]
    assert sorted(map(len, pieces)) == [14, 16, 16]
    assert all((piece[0], piece[-1]) == (2, 3) for piece in pieces)
    inner = sorted(token for piece in pieces for token in piece[1:-1])
    assert inner == sorted(built.tokenizer(LONG.text, add_special_tokens=False)["input_ids"])
    assert [segment.units for segment in segments(built, [LONG])] == [2, 2, 2]


def test_blocks_hold_at_most_their_tokens(built: Built):
    items = TASK.encode([*ROWS, LONG], built).items
    assert all(item.tokens <= 16 for item in items)
    assert len(items) < 11
    several = next(item for item in items if len(item.segments) > 1)
    assert several.id.endswith(f" and {len(several.segments) - 1} more")


def test_documents_too_short_to_learn_from_are_counted(kind: str, folders: dict[str, str]):
    built = TASK.build(folders[kind])
    rows = [Document(id="blank", text="  "), Document(id="one", text="cat"), ROWS[0]]
    encoded = TASK.encode(rows, built)
    lost = {"causal": 1, "masked": 1, "spans": 2}[kind]  # one word is learned with its end, or from nothing around it
    assert encoded.notes == {"documents or last pieces too short to learn from, left out": lost}


def test_the_dev_score_is_the_mean_log_likelihood_and_never_changes(built: Built, kind: str):
    found = segments(built, ROWS)
    expected = -sum(alone(built, segment, kind, 0).item() for segment in found) / sum(s.units for s in found)
    for seed in (1, 2):
        torch.manual_seed(seed)
        assert TASK.dev_score(built.model, built, ROWS) == pytest.approx(expected, rel=1e-5)
    assert TASK.dev_label == "log-likelihood a token"


def test_the_perplexity_is_that_of_every_documents_likelihood(built: Built, kind: str):
    rows = [*ROWS, LONG]
    found = TASK.predictions(built.model, built, rows, reads="likelihoods", progress=lambda *_: None)
    for row, (loss, tokens) in zip(rows, found, strict=True):
        own = segments(built, [row])
        assert tokens == sum(segment.units for segment in own)
        assert loss == pytest.approx(sum(alone(built, segment, kind, 0).item() for segment in own), rel=1e-4)
    perplexity = TASK.metrics[0].value(found, TASK.references(rows))
    assert perplexity == pytest.approx(math.exp(-TASK.dev_score(built.model, built, rows)), rel=1e-6)


def test_a_task_that_writes_nothing_gives_no_answers(built: Built):
    with pytest.raises(DataError, match="task pretrain gives no answers"):
        TASK.predictions(built.model, built, ROWS, reads="answers", progress=lambda *_: None)


def test_scores_that_are_capped_behind_the_head_are_trained_as_they_are(folders: dict[str, str]):
    built = TASK.build(folders["causal"])
    [item] = TASK.encode(ROWS[:1], built).items
    network: Any = built.model
    plain = type(network).forward

    def capped(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = plain(self, *args, **kwargs)
        found.logits = 2 * torch.tanh(found.logits / 2)
        return found

    network.forward = capped.__get__(network)
    [item] = TASK.encode(ROWS[:1], built).items
    assert not item.reading.apart
    with torch.no_grad():
        ids = torch.tensor([item.segments[0].ids])
        logits = network(input_ids=ids).logits[0, :-1]
        expected = functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        assert TASK.total_loss(built.model, TASK.collate([item])).item() == pytest.approx(expected.item(), rel=1e-5)


def test_soft_tokens_are_read_and_trained(folders: dict[str, str]):
    built = TASK.build(folders["causal"])
    network: Any = built.model
    model = get_peft_model(network, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    batch = TASK.collate(TASK.encode(ROWS, built).items)
    TASK.total_loss(model, batch).backward()
    [prompt] = [weight for weight in model.parameters() if weight.requires_grad]
    assert prompt.grad is not None
    assert prompt.grad.abs().max() > 0


def test_the_audit_shows_what_is_read_and_what_is_learned(built: Built, kind: str):
    lines = TASK.audit(TASK.encode(ROWS, built).items, built)
    shown = lines[:-1]
    assert len(shown) == min(3, len(TASK.encode(ROWS, built).items))
    if kind == "causal":
        assert lines[0].startswith(
            "'seven eight nine ten six five <|end|>' ⟶ trained: 'eight nine ten six five <|end|>'"
        )
    elif kind == "masked":
        assert all(line.startswith("'[CLS] ") for line in shown)
    else:
        assert all("<extra_id_0>" in part for line in shown for part in line.split("⟶"))
    trained = sum(segment.units for segment in segments(built, ROWS))
    assert lines[-1].startswith(f"{len(TASK.encode(ROWS, built).items)} blocks of 8 segments, ")
    assert lines[-1].endswith(f" full, {trained} trained tokens")


def test_dev_rows_without_a_token_are_an_error_that_says_so(built: Built):
    with pytest.raises(DataError, match="no dev row is left: none of the 1 documents has a token to learn"):
        TASK.dev_score(built.model, built, [Document(id="blank", text=" ")])


def test_blocks_that_the_model_cannot_read_are_refused(folders: dict[str, str], kind: str):
    with pytest.raises(ModelError, match="blocks of 512 tokens are asked for, and this model reads at most 128"):
        Pretrain().build(folders[kind])


def test_an_encoder_decoder_without_sentinels_is_refused(tmp_path: Path):
    built = TASK.build(str(tiny.tiny_t5(tmp_path)))
    with pytest.raises(ModelError, match="its tokenizer has no sentinel tokens"):
        TASK.encode(ROWS, built)
