"""A table of answers, judged; a detector's threshold, chosen on dev rows."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from burnish.claims import Case, Grounded
from burnish.errors import DataError, ModelError, RecipeError
from burnish.grounding import Grounder
from burnish.models.detector import read_calibrated
from burnish.recipe import Recipe
from burnish.records import Labelled, dump_jsonl
from burnish.steps.calibrate import calibrate
from burnish.steps.faithful import faithful
from burnish.steps.train import train

ROWS = [
    {"id": "1", "answer": "The cat is red.", "passages": ["the cat is red"]},
    {"id": "2", "answer": "The cat is red. The dog is green.", "passages": ["the cat is red", "a dog"]},
    {"id": "3", "answer": "", "passages": ["a dog"]},
]


def quiet(*_: object) -> None:
    pass


def table(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def judged(folder: Path, grounder: Any, **columns: str) -> dict[str, Any]:
    out = folder / "out.jsonl"
    return faithful(folder / "answers.jsonl", out, Grounder.read(grounder), columns=columns, seed=0, progress=quiet)


def test_every_answer_has_a_line_and_all_together_a_summary(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    found = judged(tmp_path, "lexical")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["id"], line["score"], line["faithful"], len(line["claims"])) for line in lines] == [
        ("1", 1.0, True, 1),
        ("2", 0.5, False, 2),
        ("3", 0.0, False, 0),
    ]
    assert lines[1]["claims"][1] | {"evidence": ""} == lines[1]["claims"][1]
    assert (found["rows"], found["judged"], found["failures"]) == (3, 3, {})
    assert (found["claims"], found["unsupported"]) == (3, 1)
    assert found["scores"]["grounded"]["value"] == pytest.approx(0.5)
    assert found["scores"]["faithful"]["value"] == pytest.approx(1 / 3)
    assert json.loads((tmp_path / "out.faithful.json").read_text()) == found


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    table(tmp_path, [{"said": "a dog", "context": "the dog"}])
    assert judged(tmp_path, "lexical", answer="said", passages="context")["scores"]["grounded"]["value"] == 1.0


def test_a_judge_that_is_not_there_is_told_and_its_failures_stand_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.generators.endpoint.time.sleep", quiet)
    table(tmp_path, ROWS[:2])
    generator = {"kind": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "m", "tries": 1}
    with pytest.raises(ModelError, match=r"judge: not one answer could be judged, 2 of 2 \(2 disconnect\): Connect"):
        judged(tmp_path, {"kind": "judge", "generator": generator})
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["failure"] for line in lines] == ["disconnect", "disconnect"]


def test_what_fails_is_counted_and_in_no_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.generators.endpoint.time.sleep", quiet)
    table(tmp_path, ROWS)
    generator = {"kind": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "m", "tries": 1}
    found = judged(tmp_path, {"kind": "judge", "generator": generator})  # of the empty answer nothing is asked
    assert (found["rows"], found["judged"], found["failures"]) == (3, 1, {"disconnect": 2})
    assert found["scores"]["grounded"] | {"value": 0.0, "n": 1} == found["scores"]["grounded"]


WORDS = ("red", "green", "blue", "left", "right", "first", "last", "one", "two", "three", "four", "five")
PAIRS = [
    Labelled(
        id=f"{word}{other}", text=f"the cat is {word}", pair=f"cat {other}", label="yes" if word == other else "no"
    )
    for number, word in enumerate(WORDS)
    for other in (word, WORDS[number - 1])
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    for side in ("train", "dev"):
        (folder / f"{side}.jsonl").write_text(dump_jsonl(PAIRS), encoding="utf-8")
    recipe = {
        "task": {"kind": "classify", "mark_new": "not", "max_tokens": 32, "metrics": ["balanced_accuracy"]},
        "model": str(tiny.tiny_bert(folder / "bert")),
        "method": {"kind": "full", "learning_rate": 5e-3},
        "data": {side: str(folder / f"{side}.jsonl") for side in ("train", "dev")},
        "training": {"epochs": 8, "batch": 8, "precision": "fp32", "evaluations": 1},
    }
    train(Recipe.model_validate(recipe), folder / "run", say=quiet, progress=quiet)
    return folder / "run"


def test_a_detector_is_calibrated_on_dev_and_then_judges_with_what_stands_beside_it(run: Path) -> None:
    found = calibrate(run, label="yes", data=None, progress=quiet)
    known = read_calibrated(run / "model")
    assert known is not None
    assert (known.label, known.labels, known.max_tokens, known.mark_new, known.rows) == (
        "yes",
        ("no", "yes"),
        32,
        "not",
        24,
    )
    assert found["threshold"] == known.threshold
    assert known.balanced_accuracy == 1.0  # a mark is all that it takes
    assert known.by_words == 0.0
    check = Grounder.read({"kind": "cross_encoder", "model": str(run / "model")}).load()
    judged = check([Case((row.text,), str(row.pair)) for row in PAIRS], progress=quiet)
    assert [isinstance(one, Grounded) and one.faithful for one in judged] == [row.label == "yes" for row in PAIRS]


def test_words_have_a_share_where_they_tell_the_dev_rows_better_apart(run: Path, tmp_path: Path) -> None:
    rows = [
        Labelled(id=f"{noun} {word}", text=f"the {noun} is {word}{red}", pair=f"the {noun} is red", label=label)
        for noun in ("cat", "dog", "bird")
        for word, red, label in (("", "red", "yes"), ("not ", "red", "no"))
    ]
    (tmp_path / "denied.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
    found = calibrate(run, label="yes", data=str(tmp_path / "denied.jsonl"), progress=quiet)
    assert found["by_words"] == 0.5
    assert found["balanced_accuracy"] == 1.0


def test_what_cannot_be_calibrated_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no label is called 'yess'\. Did you mean 'yes'"):
        calibrate(run, label="yess", data=None, progress=quiet)
    bare = [row.model_copy(update={"pair": None}) for row in PAIRS[:2]]
    (tmp_path / "bare.jsonl").write_text(dump_jsonl(bare), encoding="utf-8")
    with pytest.raises(DataError, match="2 of 2 rows have no `pair`"):
        calibrate(run, label="yes", data=str(tmp_path / "bare.jsonl"), progress=quiet)
