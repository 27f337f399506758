import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from burnish.retrievers import Retriever

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = str(tiny.tiny_bert(tmp_path / "bert", words=[*dict.fromkeys(re.findall(r"\w+", PAGE))]))
    known: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block.replace("embedded/minilm", name), known)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(re.findall(r"'(\w)'", printed[0])) == ["a", "c"]
    assert known["hybrid"].weights == known["tuned"].weights


def test_the_pages_retrievers_can_be_read() -> None:
    lines = [line for block in blocks("yaml") for line in block.splitlines()]
    assert [Retriever.read(yaml.safe_load(line)["retriever"]).kind for line in lines] == ["dense"] * 5 + ["hybrid"]
