import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
from torch import Tensor

from burnish.errors import ModelError
from burnish.models.cross import CrossEncoder
from burnish.models.encode import Encoder
from burnish.models.late import LateEncoder
from burnish.models.load import load_classifier
from burnish.models.quiet import quiet
from burnish.models.towers import BiEncoder, Towers, load_bi_encoder
from burnish.text import TextFormat
from tiny import WORDS, tiny_bert, tiny_llama

FP32 = torch.float32
FORM = TextFormat(query_prefix=f"{WORDS[0]} ", passage_prefix=f"{WORDS[1]} ", query_tokens=8, passage_tokens=12)
TEXTS = [" ".join(WORDS[2:5]), " ".join(WORDS[5:40]), WORDS[40]]


@pytest.fixture
def towers(tmp_path: Path) -> Towers:
    queries, passages = (Encoder.load(str(tiny_bert(tmp_path / str(n), seed=n)), dtype=FP32) for n in (0, 1))
    queries.pooling = "cls"
    made = Towers(queries, passages)
    made.read_by(FORM)
    return made


def vectors(encoder: BiEncoder) -> tuple[Tensor, Tensor]:
    form = encoder.format
    queries, _ = encoder.queries.encode([form.query(text) for text in TEXTS], max_tokens=form.query_tokens)
    read = [form.passage("", text) for text in TEXTS]
    return queries, encoder.passages.encode(read, max_tokens=form.passage_tokens)[0]


def opened(folder: Path) -> Any:
    with quiet():
        return SentenceTransformer(str(folder), device="cpu")


def theirs(model: Any) -> tuple[Tensor, Tensor]:
    asked = {"convert_to_tensor": True, "show_progress_bar": False}
    return model.encode_query(TEXTS, **asked), model.encode_document(TEXTS, **asked)


def same(ours: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]) -> None:
    for mine, other in zip(ours, others, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)


def resaved(model: Any, folder: Path) -> Path:
    with quiet():
        model.save(str(folder), create_model_card=False)
    return folder


def test_sentence_transformers_makes_the_same_vectors_of_queries_and_documents(towers: Towers, tmp_path: Path) -> None:
    towers.save(tmp_path / "saved")
    same(vectors(towers), theirs(opened(tmp_path / "saved")))
    again = load_bi_encoder(str(tmp_path / "saved"), dtype=FP32)
    assert isinstance(again, Towers)
    assert again.format == FORM
    same(vectors(towers), vectors(again))
    assert again.fingerprint() == towers.fingerprint()


def test_each_tower_is_a_model_of_its_own(towers: Towers, tmp_path: Path) -> None:
    towers.save(tmp_path / "saved")
    queries, passages = (opened(tmp_path / "saved" / name) for name in ("queries", "passages"))
    same(vectors(towers), (theirs(queries)[0], theirs(passages)[1]))
    alone = Encoder.load(str(tmp_path / "saved" / "passages"), dtype=FP32)
    torch.testing.assert_close(vectors(alone)[1], vectors(towers)[1], atol=0, rtol=0)


def test_what_sentence_transformers_saves_of_two_towers_is_read(towers: Towers, tmp_path: Path) -> None:
    towers.save(tmp_path / "ours")
    again = load_bi_encoder(str(resaved(opened(tmp_path / "ours"), tmp_path / "theirs")), dtype=FP32)
    assert again.format == FORM
    same(vectors(towers), vectors(again))


@pytest.mark.parametrize("behind", [False, True])
def test_a_router_that_sentence_transformers_made_is_read(towers: Towers, tmp_path: Path, behind: bool) -> None:
    parts = []
    for name, tower in (("q", towers.queries), ("p", towers.passages)):
        tower.save(tmp_path / name)
        modules = list(opened(tmp_path / name).children())
        parts.append(modules[:2] if behind else modules)
    router = Router.for_query_document(query_modules=parts[0], document_modules=parts[1])
    prompts = {"query": FORM.query_prefix, "document": FORM.passage_prefix}
    model = SentenceTransformer(modules=[router, *([Normalize()] * behind)], prompts=prompts, device="cpu")
    again = load_bi_encoder(str(resaved(model, tmp_path / "made")), dtype=FP32)
    same(theirs(model), vectors(again))


def test_another_model_is_one_encoder(tmp_path: Path) -> None:
    assert isinstance(load_bi_encoder(str(tiny_bert(tmp_path / "bert")), dtype=FP32), Encoder)


def test_towers_that_begin_as_one_share_no_weights(tmp_path: Path) -> None:
    towers = Towers.beginning_as(Encoder.load(str(tiny_bert(tmp_path / "bert")), dtype=FP32))
    assert not {*map(id, towers.queries.parameters())} & {*map(id, towers.passages.parameters())}
    assert towers.queries.encode([WORDS[3]], max_tokens=8)[0].equal(towers.passages.encode([WORDS[3]], max_tokens=8)[0])


def _moved(tower: Encoder) -> None:
    with torch.no_grad():
        next(tower.parameters())[0, 0] += 1


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda towers: _moved(towers.queries), True),
        (lambda towers: towers.read_by(FORM.model_copy(update={"query_prefix": "", "query_tokens": 16})), True),
        (lambda towers: _moved(towers.passages), False),
        (lambda towers: towers.read_by(FORM.model_copy(update={"passage_prefix": ""})), False),
        (lambda towers: towers.read_by(FORM.model_copy(update={"passage_tokens": 16})), False),
    ],
)
def test_what_names_the_passages_vectors_follows_their_tower_alone(
    towers: Towers, change: Callable[[Towers], None], stays: bool
) -> None:
    before = (towers.passages.fingerprint(), towers.fingerprint())
    change(towers)
    assert (towers.passages.fingerprint() == before[0]) is stays
    assert towers.fingerprint() != before[1]


def test_towers_of_two_kinds_are_saved_and_read(tmp_path: Path) -> None:
    queries = Encoder.load(str(tiny_llama(tmp_path / "llama")), dtype=FP32)
    towers = Towers(queries, Encoder.load(str(tiny_bert(tmp_path / "bert")), dtype=FP32))
    towers.save(tmp_path / "saved")
    same(vectors(towers), vectors(load_bi_encoder(str(tmp_path / "saved"), dtype=FP32)))
    same(vectors(towers), theirs(opened(tmp_path / "saved")))


def test_vectors_of_two_widths_are_refused(towers: Towers) -> None:
    towers.passages.config.hidden_size = 48
    with pytest.raises(ModelError, match=r"vectors of passages have 48 numbers here, and those of queries 32"):
        Towers(towers.queries, towers.passages)


def _renamed(router: dict[str, Any]) -> None:
    router["structure"]["image"] = router["structure"].pop("document")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_renamed, "routes for query and document, by nothing but the task, .* these are query, image"),
        (lambda router: router["parameters"].update(route_mappings={"(None, 'text')": "query"}), "chosen by .*text"),
        (lambda router: router["structure"].update(document=router["structure"]["query"]), "go through one network"),
        (lambda router: router["structure"]["query"].insert(0, "../other"), r"'\.\./other' has no type, or its place"),
        (lambda router: router["types"].update({"../other": "x"}) or router["structure"]["query"].append("../other"),
         "its place leads out of the model's folder"),
        (lambda router: router["structure"]["query"].pop(0), "route 'query' does not begin with a Transformer"),
        (lambda router: router["types"].update({"queries/1_Pooling": "sentence_transformers.models.Dense"}),
         "does not know: Dense"),
        (lambda router: router.update(structure=["query"]), "structure, types and parameters are needed here"),
    ],
)  # fmt: skip
def test_a_router_that_works_another_way_is_refused(
    towers: Towers, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    towers.save(tmp_path / "saved")
    path = tmp_path / "saved" / "router_config.json"
    router = json.loads(path.read_text())
    change(router)
    path.write_text(json.dumps(router))
    with pytest.raises(ModelError, match=said):
        load_bi_encoder(str(tmp_path / "saved"), dtype=FP32)


def test_a_router_behind_another_module_is_refused(towers: Towers, tmp_path: Path) -> None:
    towers.save(tmp_path / "saved")
    path = tmp_path / "saved" / "modules.json"
    other = {"idx": 0, "name": "0", "path": "x", "type": "sentence_transformers.models.Normalize"}
    path.write_text(json.dumps([other, *json.loads(path.read_text())]))
    with pytest.raises(ModelError, match="a Router is known as the first module alone"):
        load_bi_encoder(str(tmp_path / "saved"), dtype=FP32)


@pytest.mark.parametrize(
    "load",
    [
        lambda name: Encoder.load(name, dtype=FP32),
        lambda name: LateEncoder.load(name, dtype=FP32),
        CrossEncoder.load,
        lambda name: load_classifier(name, ["a", "b"], dtype=FP32, seed=0),
    ],
)
def test_who_needs_one_network_says_so(towers: Towers, tmp_path: Path, load: Callable[[str], Any]) -> None:
    towers.save(tmp_path / "saved")
    said = "an encoder for queries and another for passages, and one network is needed here. Name one of them: "
    with pytest.raises(ModelError) as caught:
        load(str(tmp_path / "saved"))
    assert said + f"{tmp_path / 'saved' / 'passages'}, {tmp_path / 'saved' / 'queries'}" in str(caught.value)
