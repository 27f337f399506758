import os
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from burnish.errors import DataError
from burnish.evaluation import plots
from burnish.evaluation.folder import Quadrants
from burnish.evaluation.plots import duration
from burnish.evaluation.report import card_tables, fault, ladder_picture, probability, share, signed, size, write_report

VOID = {"meta", "input", "link", "br", "img"}


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Reads a page as a browser would, as far as tags, attributes and texts go."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return page_of(run)


def test_the_page_is_well_formed_and_shows_the_verdict_first(page: str) -> None:
    assert page.startswith("<!DOCTYPE html>")
    read = Page(page)
    assert read.open == []
    assert page.index("LoRA fine-tuned, best retriever pays") < page.index("<table>")
    [headline] = re.findall(r'<h1 class="verdict">(.*?)</h1>', page)
    assert headline.endswith("[+0.384, +0.443].")


def test_no_two_elements_of_the_page_share_an_id_and_every_link_stays_on_it(page: str) -> None:
    read = Page(page)
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    targets = [*read.values("href"), *read.values("for"), *re.findall(r"url\((.*?)\)", page)]
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert read.values("src") == []


def test_the_page_allows_its_own_style_sheet_and_nothing_else(page: str) -> None:
    read = Page(page)
    [policy] = [a["content"] for tag, a in read.tags if tag == "meta" and "http-equiv" in a]
    [css] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = b64encode(sha256(css.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert [tag for tag, _ in read.tags if tag in {"script", "link", "img", "iframe", "object", "form", "base"}] == []
    assert read.values("style") == []
    assert "@import" not in css
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []


def test_nothing_that_the_data_says_becomes_markup(example: Any, tmp_path: Path) -> None:
    harmless = Page(page_of(example.write(tmp_path / "plain")))
    text = page_of(example.write_hostile(tmp_path / "hostile"))
    read = Page(text)
    assert {tag for tag, _ in read.tags} <= {tag for tag, _ in harmless.tags}
    assert [name for _, attributes in read.tags for name in attributes if name.startswith("on")] == []
    assert [value for value in read.values("href") if not value.startswith("#")] == []
    assert "<script" not in text
    assert "62710561" not in text  # the template language of the data is not run
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", text) == []
    shown = "".join(read.texts)
    assert "<script>alert(1)</script> </script></style></pre></details> <img src=x onerror=alert(1)>" in shown


def test_the_same_folder_gives_the_same_page_and_picture(run: Path, page: str) -> None:
    assert page_of(run) == page
    assert ladder_picture(run) == ladder_picture(run)


def test_nothing_but_the_report_is_left_in_the_folder(example: Any, tmp_path: Path) -> None:
    run = example.write(tmp_path / "run")
    before = {path.name for path in run.iterdir()}
    assert write_report(run) == run / "report.html"
    assert {path.name for path in run.iterdir()} == before | {"report.html"}


def test_every_rung_stands_in_the_tables_with_its_interval_and_difference(example: Any, page: str) -> None:
    for name, value, *_ in example.rungs_made:
        assert f'<th scope="row">{name}</th>' in page
        assert f"{value:.3f}<small>" in page
    assert '+0.413<small>+0.384 … +0.443</small><small class="against">against zero-shot, best retriever<' in page
    assert "&lt; 0.001" in page
    assert "0.214" in page


def test_samples_can_be_picked_by_what_became_of_them(page: str) -> None:
    states = [a["class"] for tag, a in Page(page).tags if tag == "details" and "sample" in (a["class"] or "")]
    assert states.count("sample fixed") == 13
    assert states.count("sample broken") == 1
    assert ">Fixed 13</label>" in page
    assert ">Still wrong 7</label>" in page


def test_the_gold_passage_is_marked_where_it_was_found(page: str) -> None:
    assert page.count('<span class="mark">gold</span>') == 24


def test_the_page_colours_every_colour_of_its_pictures(page: str) -> None:
    [css] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    used = {(name, value) for name in ("fill", "stroke") for value in Page(page).values(name) if value != "none"}
    assert used
    assert [pair for pair in used if f'svg [{pair[0]}="{pair[1]}"]' not in css] == []
    light = css.split("@media")[0]
    assert [one for one in (plots.INK, plots.MUTED, plots.GRID, plots.PLAIN, plots.ACCENT) if one not in light] == []


def test_a_folder_without_trainings_or_samples_has_a_page_without_them(example: Any, tmp_path: Path) -> None:
    run = example.write(tmp_path / "run", rows=[])
    for file in (run / "trainings").rglob("*.jsonl"):
        file.unlink()
    read = Page(page_of(run))
    assert {"training", "samples"} & set(read.values("id")) == set()
    assert {"#training", "#samples"} & set(read.values("href")) == set()


def test_a_ladder_of_retrievers_alone_has_a_page_and_a_picture(example: Any, tmp_path: Path) -> None:
    told = example.ladder() | {"rungs": example.rungs()[:3], "main": {"retrieval": "nDCG@10"}}
    run = example.write(tmp_path / "run", told=told)
    assert "No rung of this ladder writes answers." in page_of(run)
    ElementTree.fromstring(ladder_picture(run).encode())


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_an_error_with_its_place(example: Any, tmp_path: Path) -> None:
    run = example.write(tmp_path / "run")
    run.chmod(0o500)
    with pytest.raises(DataError, match=r"report\.html: the report cannot be written: Permission denied"):
        write_report(run)
    run.chmod(0o700)


def test_a_report_whose_place_is_taken_is_an_error_with_its_place(example: Any, tmp_path: Path) -> None:
    run = example.write(tmp_path / "run")
    (run / "report.html").mkdir()
    with pytest.raises(DataError, match=r"report\.html: the report cannot be written: Is a directory"):
        write_report(run)


def test_the_sentence_of_the_fault_follows_the_larger_part() -> None:
    def quadrants(*counts: int) -> Quadrants:
        keys = ("retrieved_right", "retrieved_wrong", "missed_right", "missed_wrong")
        return Quadrants(**dict(zip(keys, counts, strict=True)))

    assert fault(quadrants(10, 7, 0, 3)).startswith("Mostly the generator’s fault: 7 of 10")
    assert fault(quadrants(10, 3, 0, 7)).startswith("Mostly the retriever’s fault: 7 of 10")
    assert "equally" in fault(quadrants(10, 5, 0, 5))
    assert fault(quadrants(10, 0, 2, 0)) == "No answer is wrong."
    assert fault(quadrants(0, 0, 1, 9)).startswith("No gold passage was shown")


def test_numbers_are_written_as_people_say_them() -> None:
    assert [duration(s) for s in (0, 0.001, 0.42, 9.96, 38.4, 59.7, 185, 7800, 3599.8)] == [
        *("0 s", "< 0.01 s", "0.42 s", "10 s", "38 s", "1 min 00 s", "3 min 05 s", "2 h 10 min", "1 h 00 min")
    ]
    assert [size(n) for n in (0, 820, 148_224, 4_884_480, 134_515_008, 7_240_000_000)] == [
        *("0", "820", "148 k", "4.9 M", "135 M", "7.2 B")
    ]
    assert [signed(0.0512), signed(-0.0512)] == ["+0.051", "−0.051"]
    assert [probability(0.0002), probability(0.0461)] == ["< 0.001", "0.046"]
    assert [share(1, 4), share(0.5), share(0, 0)] == ["25 %", "50 %", "–"]


def test_the_card_joins_sections_with_the_same_columns_and_cuts_long_lists(example: Any) -> None:
    overview, sides, *others = card_tables(example.card())
    assert ("passages", "4,812") in overview.rows
    assert sides.head == ("", "train", "dev", "test")
    assert sides.rows[0] == ("questions", "3,011", "409", "410")
    assert [row[0] for row in sides.rows] == ["questions", "groups", "shares"]
    listed = others[-1]
    assert (listed.title, len(listed.rows), listed.note) == ("near duplicates", 12, "… and 28 more")


def test_the_card_shows_any_plain_value() -> None:
    told = {
        "yes": True,
        "nothing": None,
        "empty": [],
        "names": ["a", "b"],
        "many": list(range(14)),
        "matrix": {"a": {"x": 1, "y": 0.5}, "b": {"x": 2, "y": 0.25}},
        "deep": {"a": {"x": {"y": 1}}},
        "objects": [{"x": 1}, {"x": 2}],
        "ragged": [[1], [1, 2]],
    }
    overview, *others = card_tables(told)
    rows = dict(overview.rows)
    assert rows == {
        **{"yes": "yes", "nothing": "–", "empty": "–", "names": "a, b"},
        "many": "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 … and 2 more",
    }
    tables = {table.title: table for table in others}
    assert tables["matrix"].head == ("", "x", "y")
    assert tables["matrix"].rows == (("a", "1", "0.5"), ("b", "2", "0.25"))
    assert tables["objects"].head == ("x",)
    assert tables["ragged"].rows == (("1", ""), ("1", "2"))
    assert tables["deep"].rows == (("a", '{"y": 1}'),)
