"""Mining from a folder to training rows: what comes out, what is refused, what a kill costs."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import DataError, ModelError, RecipeError, RunError
from burnish.prepare import mining
from burnish.prepare.beir import write_beir
from burnish.records import Chunk, Pair, Question, read_jsonl
from burnish.retrievers import Hit
from burnish.retrievers.bm25 import Bm25
from burnish.run import read_json
from burnish.steps import hits
from burnish.steps.mine import mine
from burnish.steps.mine_recipe import Mine, read_mine
from burnish.steps.veto import Veto

CHUNKS, ASKED = 60, 30


def quiet(*_: Any) -> None:
    """Hear what a step says, and show nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BEIR folder: each passage has words of its own, and its question some of them."""
    draw = random.Random(0)
    texts = [tiny.sentence(draw, 12) for _ in range(CHUNKS)]
    chunks = [Chunk(id=f"c{n}", title=f"title{n}", text=text) for n, text in enumerate(texts)]
    asked = [
        Question(id=f"q{n}", question=" ".join(texts[n].split()[:4]), gold=(f"c{n}",), answers=(f"w{n % 20} cat",))
        for n in range(ASKED)
    ]
    place = tmp_path_factory.mktemp("data") / "data"
    write_beir(place, chunks, {"train": asked[:24], "dev": asked[24:]})
    return place


def recipe(folder: Path, **settings: Any) -> Mine:
    made = read_mine(folder)
    rules = {"per_question": 3, "depth": 20, **settings.pop("rules", {})}
    return Mine.model_validate({**made.model_dump(mode="json"), **settings, "rules": rules})


def rows_of(out: Path) -> list[Pair]:
    return read_jsonl(out, Pair)


def test_a_folder_becomes_rows_with_negatives_and_everything_is_counted(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    found = mine(recipe(folder), out, say=quiet, progress=quiet)
    rows = rows_of(out)
    assert [row.id for row in rows] == [f"q{n}" for n in range(24)]  # the questions of train.tsv, in their order
    assert all(text not in row.positives for row in rows for text in row.negatives)
    counts = found["counts"]
    assert counts["questions"] == 24
    assert counts["negatives"] == sum(len(row.negatives) for row in rows) == found["found_by"]["bm25"]
    assert counts["short"] == sum(len(row.negatives) < 3 for row in rows)
    assert read_json(tmp_path / "train.mined.json") == found
    told = [json.loads(line) for line in (tmp_path / "train.negatives.jsonl").read_text().splitlines()]
    assert [len(line["negatives"]) for line in told] == [len(row.negatives) for row in rows]
    assert all(negative["ranks"][0] >= 1 for line in told for negative in line["negatives"])
    assert found["settings"]["rules"]["per_question"] == 3
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_two_retrievers_find_more_and_each_negative_says_who_found_it(folder: Path, tmp_path: Path) -> None:
    bert = str(tiny.tiny_bert(tmp_path / "bert"))
    dense = {"kind": "dense", "model": bert}
    made = recipe(folder, retrievers=["bm25", dense], rules={"depth": 4, "ceiling": None})
    found = mine(made, tmp_path / "both.jsonl", say=quiet, progress=quiet)
    assert list(found["found_by"]) == ["bm25", f"dense {bert}"]
    assert min(found["found_by"].values()) > 0
    told = [json.loads(line) for line in (tmp_path / "both.negatives.jsonl").read_text().splitlines()]
    pairs = [tuple(rank is None for rank in n["ranks"]) for line in told for n in line["negatives"]]
    assert {(False, False), (True, False)} <= set(pairs)


def test_what_another_split_calls_right_is_no_negative(tmp_path: Path) -> None:
    chunks = [Chunk(id=f"c{n}", text=f"cat dog {word}") for n, word in enumerate(["bird", "fish", "red", "green"])]
    asked = [Question(id="q", question="cat dog bird", gold=("c0",))]
    write_beir(tmp_path / "data", chunks, {"train": asked})
    (tmp_path / "data" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc1\t1\n")
    rules = {"ceiling": None, "copies": None}
    found = mine(recipe(tmp_path / "data", rules=rules), tmp_path / "out.jsonl", say=quiet, progress=quiet)
    assert set(rows_of(tmp_path / "out.jsonl")[0].negatives) == {"cat dog red", "cat dog green"}
    assert found["dropped"][mining.RIGHT] == 2


@pytest.mark.parametrize("at", [1, 2, 5])
def test_a_killed_mining_goes_on_and_writes_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(hits, "QUESTIONS", 5)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "train.jsonl"
    made = recipe(folder, rules={"sampling": "random"})
    mine(made, whole, say=quiet, progress=quiet)
    searched = counting(monkeypatch, stop_at=at)
    with pytest.raises(KeyboardInterrupt):
        mine(made, out, say=quiet, progress=quiet)
    assert not out.exists()
    before = len(searched)
    mine(made, out, say=quiet, progress=quiet)
    assert len(searched) - before == 5 - (at - 1)  # blocks that were searched are not searched again
    assert out.read_bytes() == whole.read_bytes()
    assert out.with_suffix(".negatives.jsonl").read_bytes() == whole.with_suffix(".negatives.jsonl").read_bytes()
    mine(recipe(folder, rules={"per_question": 1}), out, say=quiet, progress=quiet)
    assert len(searched) - before == 5 - (at - 1)  # other rules choose among the same hits
    assert max(len(row.negatives) for row in rows_of(out)) == 1


def counting(monkeypatch: pytest.MonkeyPatch, *, stop_at: int) -> list[int]:
    """Count the searches of BM25; the one with this number, from 1, is stopped."""
    searched: list[int] = []
    build = Bm25.build

    class Counting:
        notes: dict[str, int] = {}  # noqa: RUF012

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
            searched.append(len(questions))
            if len(searched) == stop_at:
                raise KeyboardInterrupt
            return self.inner.search(questions, k)

    monkeypatch.setattr(Bm25, "build", lambda self, chunks, **options: Counting(build(self, chunks, **options)))
    return searched


def test_hits_of_a_model_whose_weights_changed_are_not_used(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    made = recipe(folder, retrievers=[{"kind": "dense", "model": str(tiny.tiny_bert(tmp_path / "bert"))}])
    first = mine(made, out, say=quiet, progress=quiet)
    tiny.tiny_bert(tmp_path / "bert", seed=1)
    again = mine(made, out, say=quiet, progress=quiet)
    assert first["fingerprints"]["retrievers"] != again["fingerprints"]["retrievers"]
    assert first["rows_sha256"] != again["rows_sha256"]


def test_rows_that_somebody_else_wrote_or_changed_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    out.write_text("mine\n")
    with pytest.raises(RunError, match=r"train\.jsonl: what stands here was not written by a mining"):
        mine(recipe(folder), out, say=quiet, progress=quiet)
    out.unlink()
    mine(recipe(folder), out, say=quiet, progress=quiet)
    mine(recipe(folder), out, say=quiet, progress=quiet)
    out.write_text(out.read_text() + "\n")
    with pytest.raises(RunError, match="was changed since"):
        mine(recipe(folder), out, say=quiet, progress=quiet)


class Lengths:
    """A cross-encoder that likes long passages, and counts what it is asked."""

    fresh = ()
    asked = 0

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        Lengths.asked += len(pairs)
        return [float(len(passage)) for _, passage in pairs]


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> type[Lengths]:
    cross = pytest.importorskip("burnish.models.cross")
    monkeypatch.setattr(cross.CrossEncoder, "load", lambda name, **_: Lengths())
    Lengths.asked = 0
    return Lengths


def test_a_veto_is_asked_once_for_a_pair_also_after_a_stop(
    folder: Path, tmp_path: Path, lengths: type[Lengths]
) -> None:
    out = tmp_path / "train.jsonl"
    made = recipe(folder, rules={"veto": "a re-ranker"})
    found = mine(made, out, say=quiet, progress=quiet)
    assert found["dropped"][mining.VETO] > 0
    asked = lengths.asked
    assert asked > 0
    [scores] = (tmp_path / "train.mining").glob("veto-*.jsonl")
    scores.write_text(scores.read_text()[:-4])  # a kill in the middle of the last line
    assert mine(made, out, say=quiet, progress=quiet)["rows_sha256"] == found["rows_sha256"]
    assert lengths.asked == asked + 1


def test_a_veto_by_a_model_that_was_not_trained_for_it_is_refused(lengths: type[Lengths]) -> None:
    lengths.fresh = ("classifier",)  # type: ignore[assignment]
    try:
        with pytest.raises(ModelError, match="this model was not trained to score a query with a passage"):
            Veto("some/encoder").score([("a", "b")])
    finally:
        lengths.fresh = ()


def test_test_questions_do_not_become_training_rows_unasked(tmp_path: Path) -> None:
    write_beir(
        tmp_path / "data", [Chunk(id="c", text="cat")], {"test": [Question(id="q", question="cat", gold=("c",))]}
    )
    assert read_mine(tmp_path / "data").data.model_dump()["split"] is None
    (tmp_path / "data" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
    with pytest.raises(DataError, match=r"none is train\.tsv \(dev, test\).*--split dev"):
        read_mine(tmp_path / "data")
    assert read_mine(tmp_path / "data", split="dev").data.model_dump()["split"] == "dev"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retrievers": ["bm52"]}, "no retriever is called 'bm52'. Did you mean 'bm25'?.*or name a model"),
        ({"overrides": ["rules.celing=0.9"]}, "there is no such key. Did you mean 'ceiling'?"),
        ({"overrides": ["rules.sampling=best"]}, "rules.sampling: Input should be 'top' or 'random'"),
        ({"retrievers": ["trained/model"]}, "a retriever uses trained/model, and the recipe has no `rounds:`"),
        ({"overrides": ["rounds.model=x"]}, "none of them is the model that the rounds train"),
    ],
)
def test_a_faulty_request_is_told_with_the_near_miss(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("?", r"\?").replace(".*", "(?s:.*)")):
        read_mine(folder, **arguments)


def test_a_recipe_says_itself_what_searches(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: {{kind: beir, path: {folder}, split: train}}\nretrievers: [bm25]\n")
    assert [part.kind for part in read_mine(path).retrievers] == ["bm25"]
    with pytest.raises(RecipeError, match="a recipe says itself which retrievers"):
        read_mine(path, retrievers=["bm25"])


def test_a_source_without_questions_is_told(tmp_path: Path) -> None:
    write_beir(tmp_path / "data", [Chunk(id="c", text="cat")], {"train": [Question(id="q", question="cat")]})
    with pytest.raises(DataError, match=r"1 passages and no question with a right one.*burnish synthesize"):
        mine(recipe(tmp_path / "data"), tmp_path / "out.jsonl", say=quiet, progress=quiet)


def test_the_command_mines_and_prints_a_table(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bert = str(tiny.tiny_bert(tmp_path / "bert"))
    asked = ["mine", str(folder), "--retriever", "bm25", "--retriever", bert, "--out", "train.jsonl"]
    done = CliRunner().invoke(app, [*asked, "--set", "rules.depth=10"], catch_exceptions=False)
    assert "negatives for 24 questions" in done.output
    assert "is a right passage" in done.output
    assert "kept, found by bm25" in done.output
    assert len(rows_of(tmp_path / "train.jsonl")) == 24
    refused = CliRunner().invoke(app, [*asked, "--run", "x"])
    assert isinstance(refused.exception, RecipeError)
