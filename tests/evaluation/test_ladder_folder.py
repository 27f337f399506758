import json
import re
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import DataError
from burnish.evaluation.folder import read_finished, shown
from burnish.evaluation.report import ladder_picture, write_report


def test_what_could_mislead_the_eye_is_shown_as_such() -> None:
    assert shown("\x1b[31ma\u202eb\ud800\tc\n") == "a\ufffdb\ufffd\tc\n"


def test_the_retriever_was_trained_first(run: Path) -> None:
    assert [training.name for training in read_finished(run).trainings] == ["retriever", "generator"]


@pytest.mark.parametrize("name", ["ladder.json", "data/card.json", "samples.jsonl"])
def test_a_missing_file_is_named_with_what_makes_it(example: Any, tmp_path: Path, name: str) -> None:
    run = example.write(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(DataError, match=f"{re.escape(name)}: there is no such file. `burnish ladder RECIPE` makes it"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_report(tmp_path)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": ', "ladder.json:1: this is not JSON"),
        ("[]", "keys and values are needed here \\(found list\\)"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "rungs: this key is needed and missing"),
        ('{"seconds": NaN}', "seconds: Input should be a finite number"),
    ],
)
def test_a_damaged_ladder_is_refused_with_its_place(example: Any, tmp_path: Path, text: str, message: str) -> None:
    run = example.write(tmp_path / "run")
    (run / "ladder.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        write_report(run)


def test_a_ladder_in_another_encoding_is_refused(example: Any, tmp_path: Path) -> None:
    run = example.write(tmp_path / "run")
    (run / "ladder.json").write_bytes(b'{"name": "caf\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        ladder_picture(run)


def test_a_main_metric_that_a_rung_lacks_is_named_with_the_nearest(example: Any, tmp_path: Path) -> None:
    told = example.ladder() | {"main": {"retrieval": "nDCG@1", "answer": "exact match"}}
    run = example.write(tmp_path / "run", told=told)
    with pytest.raises(DataError, match=r"rung 'BM25' has no score for 'nDCG@1'.* Did you mean 'nDCG@10'?"):
        write_report(run)
    (run / "ladder.json").write_text(json.dumps(told | {"main": {"retrieval": "nDCG@10"}}), encoding="utf-8")
    with pytest.raises(DataError, match="rung 'no passages' is of kind 'answer', for which `main` names no metric"):
        write_report(run)
