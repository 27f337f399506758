import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import MultiVectorEncoder
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.encode import Encoder
from burnish.models.late import PUNCTUATION, LateEncoder
from burnish.models.late_folder import LateFormat
from burnish.models.maxsim import maxsim
from burnish.models.quiet import quiet
from tiny import WORDS, tiny_bert, tiny_llama

FP32 = torch.float32
KNOWN = [*WORDS, ".", ",", "?"]
QUERIES = [" ".join(WORDS[:3]), f"{WORDS[5]} ?", " ".join(WORDS[2:22])]
PASSAGES = [f"{WORDS[0]} , {WORDS[9]} .", " ".join(WORDS[3:30]), WORDS[20], f". {WORDS[7]} . {WORDS[8]} ."]
PLAIN = LateFormat(query_tokens=16, passage_tokens=20)
FORMS = {
    "plain": PLAIN,
    "skipping": PLAIN.model_copy(update={"skipped_words": PUNCTUATION}),
    "filled": PLAIN.model_copy(update={"expand_to": 12}),
    "attending": PLAIN.model_copy(update={"expand_to": 16, "attend": True}),
    "prefixes": PLAIN.model_copy(update={"query_prefix": "question ", "passage_prefix": "passage "}),
    "mean": PLAIN.model_copy(update={"mean": True}),
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("late") / "bert", words=KNOWN)


def late(folder: Path, form: LateFormat = PLAIN, *, width: int | None = 8) -> LateEncoder:
    found = LateEncoder.load(str(folder), dtype=FP32)
    if width:
        found.project(width, seed=0)
    found.read_by(form)
    return found


def scores(encoder: LateEncoder) -> Tensor:
    form = encoder.format
    queries = encoder.encode_queries([form.query(text) for text in QUERIES])
    found = maxsim(queries, encoder.encode_passages([form.passage("", text) for text in PASSAGES]))
    return found / queries.lengths[:, None] if form.mean else found


def outside(folder: Path) -> MultiVectorEncoder:
    with quiet():
        return MultiVectorEncoder(str(folder), device="cpu")


def their_scores(model: MultiVectorEncoder) -> Tensor:
    queries, passages = model.encode_query(QUERIES), model.encode_document(PASSAGES)
    found: Tensor = model.similarity(queries, passages)
    return found


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_saved_folder_scores_as_in_sentence_transformers(bert: Path, tmp_path: Path, form: LateFormat) -> None:
    encoder = late(bert, form)
    encoder.save(tmp_path / "saved")
    torch.testing.assert_close(their_scores(outside(tmp_path / "saved")), scores(encoder), atol=1e-5, rtol=0)
    again = LateEncoder.load(str(tmp_path / "saved"), dtype=FP32)
    assert again.saved
    assert again.format == form
    assert torch.equal(scores(again), scores(encoder))


def test_without_a_projection_the_token_vectors_are_the_transformers(bert: Path, tmp_path: Path) -> None:
    encoder = late(bert, width=None)
    encoder.save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "1_Dense").exists()
    torch.testing.assert_close(their_scores(outside(tmp_path / "saved")), scores(encoder), atol=1e-5, rtol=0)
    again = LateEncoder.load(str(tmp_path / "saved"), dtype=FP32)
    assert (again.saved, again.projection, again.width) == (True, None, 32)


def test_a_decoder_fills_queries_up_with_its_end_of_text(tmp_path: Path) -> None:
    encoder = late(tiny_llama(tmp_path / "llama", words=KNOWN), FORMS["filled"])
    encoder.save(tmp_path / "saved")
    model = outside(tmp_path / "saved")
    torch.testing.assert_close(their_scores(model), scores(encoder), atol=1e-5, rtol=0)
    [row] = encoder.query_rows([[9, 9]])
    assert row.ids == (9, 9, *[encoder.tokenizer.eos_token_id] * 10)


def test_what_sentence_transformers_makes_of_an_encoder_and_saves_is_read(bert: Path, tmp_path: Path) -> None:
    model = outside(bert)
    first: Any = model[0]
    first.query_expansion = {"strategy": "fixed", "attend": False, "length": 14}
    first.document_length = 18
    with quiet():
        model.save(str(tmp_path / "theirs"), create_model_card=False)
    encoder = LateEncoder.load(str(tmp_path / "theirs"), dtype=FP32)
    assert (encoder.width, encoder.format.query_tokens, encoder.format.expand_to) == (128, 14, 14)
    torch.testing.assert_close(their_scores(model), scores(encoder), atol=1e-5, rtol=0)


def test_a_bi_encoder_lends_its_prefixes_and_its_token_vectors(bert: Path, tmp_path: Path) -> None:
    dense = Encoder.load(str(bert), dtype=FP32)
    dense.format = dense.format.model_copy(update={"query_prefix": "question ", "passage_tokens": 20})
    dense.save(tmp_path / "dense")
    encoder = LateEncoder.load(str(tmp_path / "dense"), dtype=FP32)
    assert not encoder.saved
    assert (encoder.format.query_prefix, encoder.format.passage_tokens, encoder.width) == ("question ", 20, 32)
    vectors = encoder.encode_passages(PASSAGES)
    torch.testing.assert_close(vectors.vectors.norm(dim=1), torch.ones(int(vectors.lengths.sum())))


def test_a_marker_of_the_vocabulary_is_one_token_here_and_there(tmp_path: Path) -> None:
    bert = tiny_bert(tmp_path / "bert", words=[*KNOWN, "[unused0]"])
    form = PLAIN.model_copy(update={"query_prefix": "[unused0] "})
    encoder = late(bert, form)
    [ids], _ = encoder.encoder.tokenize([form.query(WORDS[0])], max_tokens=16)
    assert ids[1] == encoder.tokenizer.get_vocab()["[unused0]"]
    assert len(ids) == 4
    encoder.save(tmp_path / "saved")
    torch.testing.assert_close(their_scores(outside(tmp_path / "saved")), scores(encoder), atol=1e-5, rtol=0)


def test_skipped_tokens_have_no_vector_in_passages_alone(bert: Path) -> None:
    encoder = late(bert, FORMS["skipping"])
    assert encoder.encode_passages([PASSAGES[0]]).lengths.tolist() == [4]  # two words, and the special tokens
    assert encoder.encode_queries([PASSAGES[0]]).lengths.tolist() == [6]


def test_filled_in_tokens_are_compared_and_seen_by_none_unless_they_attend(bert: Path) -> None:
    encoder = late(bert, FORMS["filled"])
    ids, _ = encoder.encoder.tokenize(QUERIES[:1], max_tokens=16)
    [row] = encoder.query_rows(ids)
    assert row.ids[5:] == (encoder.tokenizer.mask_token_id,) * 7
    assert (row.attended, sum(row.compared)) == (5, 12)
    filled = encoder.encode_queries(QUERIES[:1]).vectors
    encoder.read_by(PLAIN)
    torch.testing.assert_close(filled[:5], encoder.encode_queries(QUERIES[:1]).vectors, atol=1e-6, rtol=0)
    encoder.read_by(FORMS["attending"])
    assert not torch.allclose(filled[:5], encoder.encode_queries(QUERIES[:1]).vectors[:5], atol=1e-3)


@pytest.mark.parametrize("tokens_per_pass", [1, 40, 1000])
def test_vectors_and_gradients_do_not_depend_on_what_shares_their_pass(bert: Path, tokens_per_pass: int) -> None:
    encoder = late(bert, FORMS["skipping"])
    ids, _ = encoder.encoder.tokenize(PASSAGES, max_tokens=20)
    rows = encoder.passage_rows(ids)
    found = encoder.embed(rows, tokens_per_pass=tokens_per_pass)
    alone = [encoder.embed([row]) for row in rows]
    assert found.lengths.tolist() == [int(one.lengths) for one in alone]
    torch.testing.assert_close(found.vectors, torch.cat([one.vectors for one in alone]), atol=1e-5, rtol=0)
    layer = encoder.projection
    assert isinstance(layer, nn.Linear)
    ours, theirs = (
        torch.autograd.grad(sum((part.vectors[:, 0].sum() for part in parts), torch.zeros(())), layer.weight)[0]
        for parts in ([found], alone)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_encoding_switches_dropout_off_for_its_time(bert: Path) -> None:
    encoder = late(bert).train()
    assert torch.equal(encoder.encode_queries(QUERIES).vectors, encoder.encode_queries(QUERIES).vectors)
    assert encoder.training
    assert encoder.encode_passages([]).vectors.shape == (0, 8)
    assert encoder.embed([]).vectors.shape == (0, 8)


def test_lora_updates_and_the_new_projection_are_in_what_is_saved(bert: Path, tmp_path: Path) -> None:
    encoder: Any = late(bert)
    settings: Any = {
        "target_modules": "all-linear",
        "modules_to_save": ["projection"],
        "exclude_modules": ["projection"],
    }
    with quiet():
        get_peft_model(encoder, LoraConfig(r=2, init_lora_weights=False, **settings))
    with torch.no_grad():
        encoder.projection.modules_to_save["default"].weight.mul_(-1).add_(0.3)
    tuned, name = scores(encoder), encoder.fingerprint()
    encoder.save(tmp_path / "saved")
    assert not torch.allclose(tuned, scores(late(bert)), atol=1e-2)
    torch.testing.assert_close(their_scores(outside(tmp_path / "saved")), tuned, atol=1e-5, rtol=1e-5)
    assert torch.equal(scores(encoder), tuned)  # saving changed nothing
    assert encoder.fingerprint() == name


def test_the_fingerprint_names_the_projection_and_the_format(bert: Path) -> None:
    encoder, other = late(bert), late(bert)
    assert encoder.fingerprint() == other.fingerprint()
    other.project(8, seed=1)
    assert encoder.fingerprint() != other.fingerprint()
    other = late(bert, FORMS["skipping"])
    assert encoder.fingerprint() != other.fingerprint()


def test_queries_are_not_filled_up_beyond_their_cut() -> None:
    with pytest.raises(ValueError, match="filled up to 32 tokens, and cut after 16; raise query_tokens"):
        LateFormat(query_tokens=16, expand_to=32)


def test_a_token_that_the_vocabulary_lacks_fills_nothing(bert: Path) -> None:
    form = PLAIN.model_copy(update={"expand_to": 8, "expansion_token": "[FILL]"})
    with pytest.raises(ModelError, match=r"filled up to 8 tokens, and the tokenizer has no \[FILL\]"):
        late(bert, form)


@pytest.mark.parametrize(
    ("file", "settings", "fault"),
    [
        ("config_sentence_transformers.json", {"model_type": "ColBERT"}, "is in PyLate format; load it once with"),
        ("config.json", {"architectures": ["HF_ColBERT"]}, "is in Stanford's format"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["query"]}, "leaves tokens out in a way"),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [3]}, "leaves tokens out in a way"),
        ("1_Dense/config.json", {"bias": True}, "is a matrix alone, and this has bias"),
        ("1_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}, "has torch.*Tanh"),
        ("1_Dense/config.json", {"module_input_name": "sentence_embedding"}, "has input sentence_embedding"),
        ("sentence_bert_config.json", {"query_expansion": {"length": "many"}}, "cannot be understood"),
    ],
)
def test_a_folder_that_scores_another_way_is_refused(
    bert: Path, tmp_path: Path, file: str, settings: dict[str, object], fault: str
) -> None:
    late(bert).save(tmp_path / "saved")
    change(tmp_path / "saved" / file, **settings)
    with pytest.raises(ModelError, match=fault):
        LateEncoder.load(str(tmp_path / "saved"), dtype=FP32)


def test_modules_that_are_unknown_missing_or_elsewhere_are_refused(bert: Path, tmp_path: Path) -> None:
    late(bert).save(tmp_path / "saved")
    path = tmp_path / "saved" / "modules.json"
    modules = json.loads(path.read_text())
    faults = {
        "does not know: custom.Dense": [modules[0], {**modules[1], "type": "custom.Dense"}, *modules[2:]],
        "the same part twice": [*modules, modules[1]],
        "not of unit length": modules[:3],
        "leads out of the model's folder": [modules[0], {**modules[1], "path": "../x"}, *modules[2:]],
    }
    for fault, changed in faults.items():
        path.write_text(json.dumps(changed))
        with pytest.raises(ModelError, match=fault):
            LateEncoder.load(str(tmp_path / "saved"), dtype=FP32)


def test_a_projection_that_does_not_fit_is_refused(bert: Path, tmp_path: Path) -> None:
    encoder = late(bert)
    encoder.projection = nn.Linear(16, 8, bias=False)
    encoder.save(tmp_path / "saved")
    with pytest.raises(ModelError, match=r"a projection of 32 dimensions \(linear.weight\) is needed"):
        LateEncoder.load(str(tmp_path / "saved"), dtype=FP32)
