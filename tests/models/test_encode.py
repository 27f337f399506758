import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.encode import Encoder
from burnish.models.quiet import quiet
from burnish.models.sentence_folder import Pooling
from burnish.text import TextFormat
from tiny import WORDS, tiny_bert

FP32 = torch.float32
SHORT, LONGER, ONE = " ".join(WORDS[:3]), " ".join(WORDS[3:20]), WORDS[20]
TEXTS = [SHORT, LONGER, ONE, " ".join(WORDS[20:29]), ONE]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.load(str(tiny_bert(tmp_path / "bert")), dtype=FP32)


def one_by_one(encoder: Encoder, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return torch.cat([encoder.embed(encoder.tokenize([text], max_tokens=20)[0]) for text in texts])


def in_sentence_transformers(folder: Path, texts: list[str]) -> Tensor:
    with quiet():
        model = SentenceTransformer(str(folder), device="cpu")
    vectors: Tensor = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    return vectors


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("tokens_per_pass", [1, 12, 1000])
def test_vectors_do_not_depend_on_what_shares_their_pass(
    encoder: Encoder, pooling: Pooling, tokens_per_pass: int
) -> None:
    encoder.pooling = pooling
    ids, _ = encoder.tokenize(TEXTS, max_tokens=20)
    with torch.no_grad():
        vectors = encoder.embed(ids, tokens_per_pass=tokens_per_pass)
    assert vectors.dtype == FP32
    torch.testing.assert_close(vectors, one_by_one(encoder, TEXTS), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))


def test_pooling_is_what_its_name_says(encoder: Encoder) -> None:
    [ids], _ = encoder.tokenize([SHORT], max_tokens=20)
    with torch.no_grad():
        hidden = encoder.transformer(input_ids=torch.tensor([ids])).last_hidden_state[0]
        for pooling, expected in (("mean", hidden.mean(0)), ("cls", hidden[0]), ("last", hidden[-1])):
            encoder.pooling = pooling  # type: ignore[assignment]
            torch.testing.assert_close(encoder.embed([ids])[0], expected / expected.norm(), atol=1e-6, rtol=1e-5)


def test_gradients_do_not_depend_on_the_passes(encoder: Encoder) -> None:
    ids, _ = encoder.tokenize(TEXTS, max_tokens=20)
    gradients = []
    for tokens_per_pass in (10, 1000):
        encoder.zero_grad()
        vectors = encoder.embed(ids, tokens_per_pass=tokens_per_pass)
        (vectors[0] @ vectors[1:].T).sum().backward()
        gradients.append({name: weight.grad for name, weight in encoder.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())  # no weight without a use
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_encoding_reads_equal_texts_once_and_reports_progress(encoder: Encoder) -> None:
    seen: list[tuple[int, int]] = []
    vectors, cut = encoder.encode(TEXTS, max_tokens=20, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (4, 4)
    assert cut == 0
    assert torch.equal(vectors[2], vectors[4])
    torch.testing.assert_close(vectors, one_by_one(encoder, TEXTS), atol=1e-5, rtol=0)


def test_encoding_switches_dropout_off_for_its_time(encoder: Encoder) -> None:
    plain, _ = encoder.encode(TEXTS, max_tokens=20)
    encoder.train()
    again, _ = encoder.encode(TEXTS, max_tokens=20)
    assert torch.equal(plain, again)
    assert encoder.training


def test_nothing_to_encode_is_no_error(encoder: Encoder) -> None:
    assert encoder.encode([], max_tokens=20)[0].shape == (0, 32)
    assert encoder.embed([]).shape == (0, 32)


def test_long_texts_are_cut_and_counted(encoder: Encoder) -> None:
    ids, cut = encoder.tokenize([f"{ONE} " * 30, ONE, f"{ONE} " * 6], max_tokens=8)
    assert [len(row) for row in ids] == [8, 3, 8]
    assert cut == 1
    assert all(row[-1] == encoder.tokenizer.sep_token_id for row in ids)


def test_more_tokens_than_the_model_reads_are_refused(encoder: Encoder) -> None:
    most = encoder.longest
    encoder.tokenize([ONE], max_tokens=most)
    with pytest.raises(ModelError, match=f"up to {most + 1} tokens are asked for, and this model reads at most {most}"):
        encoder.tokenize([ONE], max_tokens=most + 1)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_saved_folder_loads_in_sentence_transformers(encoder: Encoder, tmp_path: Path, pooling: Pooling) -> None:
    encoder.pooling = pooling
    texts = [*TEXTS, f"{ONE} " * 200]
    vectors, _ = encoder.encode(texts, max_tokens=encoder.longest)
    encoder.save(tmp_path / "saved")
    torch.testing.assert_close(in_sentence_transformers(tmp_path / "saved", texts), vectors, atol=1e-5, rtol=0)
    again = Encoder.load(str(tmp_path / "saved"), dtype=FP32)
    assert again.pooling == pooling
    assert torch.equal(again.encode(texts, max_tokens=encoder.longest)[0], vectors)


def test_saving_is_complete_quiet_and_in_fp32(
    encoder: Encoder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder.to(torch.bfloat16).save(tmp_path / "saved")
    SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert "MISSING" not in capfd.readouterr().err  # BERT's pooler is not asked for
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "float32"
    assert next(encoder.parameters()).dtype == torch.bfloat16


def test_the_text_format_is_saved_and_known_to_sentence_transformers(encoder: Encoder, tmp_path: Path) -> None:
    encoder.format = TextFormat(query_prefix=f"{WORDS[30]} ", passage_prefix=f"{WORDS[31]} ", query_tokens=20)
    encoder.save(tmp_path / "saved")
    assert Encoder.load(str(tmp_path / "saved"), dtype=FP32).format.query_tokens == 20
    (tmp_path / "saved" / "burnish.json").unlink()
    read = Encoder.load(str(tmp_path / "saved"), dtype=FP32).format
    assert (read.query_prefix, read.passage_prefix) == (f"{WORDS[30]} ", f"{WORDS[31]} ")
    with quiet():
        model = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    theirs = model.encode_query([SHORT], convert_to_tensor=True, show_progress_bar=False)
    ours, _ = encoder.encode([encoder.format.query(SHORT)], max_tokens=20)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)


def test_what_sentence_transformers_saves_is_read(encoder: Encoder, tmp_path: Path) -> None:
    encoder.pooling = "cls"
    vectors, _ = encoder.encode(TEXTS, max_tokens=20)
    encoder.save(tmp_path / "ours")
    with quiet():
        SentenceTransformer(str(tmp_path / "ours"), device="cpu").save(
            str(tmp_path / "theirs"), create_model_card=False
        )
    again = Encoder.load(str(tmp_path / "theirs"), dtype=FP32)
    assert again.pooling == "cls"
    assert torch.equal(again.encode(TEXTS, max_tokens=20)[0], vectors)


def test_lora_updates_are_merged_into_what_is_saved(encoder: Encoder, tmp_path: Path) -> None:
    plain, _ = encoder.encode(TEXTS, max_tokens=20)
    with quiet():
        get_peft_model(encoder, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    tuned, _ = encoder.encode(TEXTS, max_tokens=20)
    assert not torch.allclose(plain, tuned, atol=1e-3)
    encoder.save(tmp_path / "saved")
    torch.testing.assert_close(in_sentence_transformers(tmp_path / "saved", TEXTS), tuned, atol=1e-5, rtol=0)
    assert torch.equal(encoder.encode(TEXTS, max_tokens=20)[0], tuned)  # saving changed nothing


@pytest.mark.parametrize(
    ("file", "settings", "fault"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling by .* is not one of mean, cls, last"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "pooling by weightedmean is not one of"),
        ("1_Pooling/config.json", {"include_prompt": False}, "leaves its prompt out of the vector"),
        ("burnish.json", {"query_tokens": "many"}, "this is not a text format"),
    ],
)
def test_a_folder_that_reads_texts_another_way_is_refused(
    encoder: Encoder, tmp_path: Path, file: str, settings: dict[str, object], fault: str
) -> None:
    encoder.save(tmp_path / "saved")
    change(tmp_path / "saved" / file, **settings)
    with pytest.raises(ModelError, match=fault):
        Encoder.load(str(tmp_path / "saved"), dtype=FP32)


@pytest.mark.parametrize(
    ("module", "fault"),
    [
        ({"type": "sentence_transformers.models.Dense", "path": "2_Dense"}, "does not know: Dense"),
        ({"type": "custom.Transformer", "path": ""}, "does not know: Transformer"),
        ({"type": "sentence_transformers.models.Transformer", "path": "../bert"}, "leads out of the model's folder"),
    ],
)
def test_parts_that_burnish_would_leave_out_are_refused(
    encoder: Encoder, tmp_path: Path, module: dict[str, str], fault: str
) -> None:
    encoder.save(tmp_path / "saved")
    path = tmp_path / "saved" / "modules.json"
    kept = [
        entry for entry in json.loads(path.read_text()) if not entry["type"].endswith(module["type"].split(".")[-1])
    ]
    path.write_text(json.dumps([module, *kept]))
    with pytest.raises(ModelError, match=fault):
        Encoder.load(str(tmp_path / "saved"), dtype=FP32)


def test_vectors_that_are_compared_without_unit_length_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "saved")
    path = tmp_path / "saved" / "modules.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))
    Encoder.load(str(tmp_path / "saved"), dtype=FP32)  # by the cosine, which is the same
    change(tmp_path / "saved" / "config_sentence_transformers.json", similarity_fn_name="dot")
    with pytest.raises(ModelError, match="by 'dot' without making them unit length"):
        Encoder.load(str(tmp_path / "saved"), dtype=FP32)


def test_a_fingerprint_follows_weights_format_and_pooling(encoder: Encoder, tmp_path: Path) -> None:
    before = encoder.fingerprint()
    assert Encoder.load(str(tiny_bert(tmp_path / "same")), dtype=FP32).fingerprint() == before
    with torch.no_grad():
        next(encoder.transformer.parameters())[0, 0] += 1
    changed = encoder.fingerprint()
    encoder.format = TextFormat(query_prefix="q: ")
    formatted = encoder.fingerprint()
    encoder.pooling = "cls"
    assert len({before, changed, formatted, encoder.fingerprint()}) == 4


@pytest.mark.models
def test_minilm_gives_the_vectors_of_sentence_transformers() -> None:
    encoder = Encoder.load("embedded/minilm", dtype=FP32)
    texts = ["How do I open a file?", "def open(path):\n    return io.open(path)", "word " * 300]
    vectors, cut = encoder.encode(texts, max_tokens=256)
    with quiet():
        model: nn.Module = SentenceTransformer(encoder.tokenizer.name_or_path, device="cpu")
        theirs = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)  # type: ignore[operator]
    assert cut == 1
    torch.testing.assert_close(theirs, vectors, atol=1e-5, rtol=0)
