import json
import random
from dataclasses import replace

import pytest

from burnish.errors import DataError
from burnish.prepare.corpus import Prepared, prepare
from burnish.prepare.folder import open_prepared, save
from burnish.readers import Source
from burnish.records import Chunk, Question, Rejected

SHARES = {"train": 0.6, "dev": 0.2, "test": 0.2}
BOILERPLATE = "this text is the very same in each of the modules except for one word at its end which is"


def text(seed: str) -> str:
    return " ".join(random.Random(seed).choices([f"w{number}" for number in range(500)], k=30))


def source(modules: int = 30, functions: int = 3, *, boilerplate: int = 0) -> Source:
    chunks, questions = [], []
    for module in range(modules):
        for number in range(functions):
            key = f"m{module}.f{number}"
            copied = number == 0 and module < boilerplate
            body = f"{BOILERPLATE} {text('all')} {key}" if copied else text(key)
            chunks.append(Chunk(id=key, group=f"m{module}", title=key, text=body))
            asked = f"Which function does this: {text('q' + key)}"
            questions.append(Question(id=f"q:{key}", group=f"m{module}", question=asked, answers=(key,), gold=(key,)))
    return Source(chunks, questions, [Rejected(reason="no docstring", id="m0.bare")])


def ready(found: Source, *, seed: int = 0) -> Prepared:
    return prepare(found, name="made-up", shares=SHARES, seed=seed)


def sides(prepared: Prepared) -> dict[str, list[Question]]:
    return {"train": prepared.train, "dev": prepared.dev, "test": prepared.test}


def test_every_question_is_on_one_side_or_rejected_and_no_group_on_two():
    found = source()
    prepared = ready(found)
    ids = [question.id for rows in sides(prepared).values() for question in rows]
    assert sorted(ids) == sorted(question.id for question in found.questions)
    groups = [{question.group for question in rows} for rows in sides(prepared).values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 30
    assert prepared.card["questions"] == {"train": 54, "dev": 18, "test": 18}
    assert prepared.card["rejected"] == {"no docstring": 1}


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicate_passages_never_stand_on_two_sides(seed):
    prepared = ready(source(boilerplate=3), seed=seed)
    holding = [
        side for side, rows in sides(prepared).items() if any(q.gold[0] in ("m0.f0", "m1.f0", "m2.f0") for q in rows)
    ]
    assert len(holding) == 1
    assert prepared.leaks == []
    assert prepared.card["near_duplicate_pairs_across_groups"] == 3
    assert prepared.near_duplicates == [("m0.f0", "m1.f0", "m2.f0")]


def test_boilerplate_does_not_chain_the_corpus_into_one_component():
    prepared = ready(source(boilerplate=30))
    assert prepared.card["largest_component"] < 0.1
    assert prepared.leaks == []
    assert not any(q.id.endswith(".f0") for q in (*prepared.train, *prepared.dev))
    cleared = [row for row in prepared.rejected if row.reason.startswith("leak out of")]
    assert len(cleared) == prepared.card["leaks_cleared"] > 0
    assert all("near-duplicate passage m0.f0, on the test side" in row.detail for row in cleared)


def test_near_duplicate_questions_never_stand_on_two_sides():
    found = source()
    asked = found.questions[0].question
    found.questions[-1] = found.questions[-1].model_copy(update={"question": asked + " indeed"})
    for seed in range(4):
        prepared = ready(found, seed=seed)
        near = {"q:m0.f0", "q:m29.f2"}
        assert sum(any(q.id in near for q in rows) for rows in sides(prepared).values()) == 1
        assert prepared.leaks == []


def test_copies_are_dropped_and_what_points_to_them_is_turned_to_the_first():
    found = source()
    copy = found.chunks[0].model_copy(update={"id": "copy"})
    found.chunks.append(copy)
    found.questions.append(Question(id="again", question="Who made this?", answers=("x",), gold=("copy",)))
    found.questions.append(Question(id="twice", question="who made this", answers=("y",), gold=("m0.f1",)))
    prepared = ready(found)
    [again] = [q for rows in sides(prepared).values() for q in rows if q.id == "again"]
    assert again.gold == ("m0.f0", "m0.f1")
    assert again.answers == ("x", "y")
    assert [(row.reason, row.id, row.detail) for row in prepared.rejected[1:]] == [
        ("duplicate passage", "copy", "m0.f0"),
        ("duplicate question, its answers added to the first", "twice", "again"),
    ]


def test_questions_without_a_group_follow_their_passage():
    found = source()
    bare = [question.model_copy(update={"group": ""}) for question in found.questions]
    grouped, ungrouped = ready(found), ready(replace(found, questions=bare))
    assert [q.id for q in grouped.test] == [q.id for q in ungrouped.test]


def test_the_same_source_and_seed_give_the_same_corpus():
    assert ready(source(boilerplate=5)) == ready(source(boilerplate=5))
    assert ready(source()).test != ready(source(), seed=1).test


def test_faults_of_a_source_are_named():
    with pytest.raises(DataError, match=r"no side 'tets'.* Did you mean 'test'"):
        prepare(source(), name="x", shares={"train": 0.8, "tets": 0.2}, seed=0)
    with pytest.raises(DataError, match="no question; there is nothing to split"):
        ready(replace(source(), questions=[]))
    with pytest.raises(DataError, match=r"its gold passage 'm0\.f0' is not in the corpus"):
        ready(replace(source(), chunks=source().chunks[1:]))


def test_a_saved_corpus_comes_back_equal(tmp_path):
    prepared = ready(source(boilerplate=3))
    save(prepared, tmp_path / "data" / "made-up")
    save(prepared, tmp_path / "data" / "made-up")
    assert open_prepared(tmp_path / "data" / "made-up") == prepared
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["made-up"]
    assert "| test | 0.20 | 18 | 6 |" in (tmp_path / "data" / "made-up" / "card.md").read_text()
    assert json.loads((tmp_path / "data" / "made-up" / "card.json").read_text())["passages"] == 90


def test_a_side_that_is_left_out_is_empty_and_comes_back_so(tmp_path):
    prepared = prepare(source(), name="x", shares={"train": 0.8, "test": 0.2}, seed=0)
    save(prepared, tmp_path / "x")
    assert open_prepared(tmp_path / "x").dev == []


def test_changed_and_missing_files_are_named(tmp_path):
    save(ready(source()), tmp_path / "x")
    (tmp_path / "x" / "dev.jsonl").unlink()
    (tmp_path / "x" / "test.jsonl").write_text("{}\n")
    with pytest.raises(DataError) as caught:
        open_prepared(tmp_path / "x")
    assert "dev.jsonl: this file is missing" in str(caught.value)
    assert "test.jsonl: this file was changed" in str(caught.value)
    with pytest.raises(DataError, match="not a prepared corpus"):
        open_prepared(tmp_path)


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="is not overwritten"):
        save(ready(source()), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the corpus cannot be written"):
        save(ready(source()), tmp_path / "file" / "x")


def test_equal_questions_keep_the_highest_grade_of_each_passage():
    chunks = [Chunk(id=name, text=f"passage {name} of the corpus") for name in "abc"]
    twice = Chunk(id="d", text=chunks[0].text)
    questions = [
        Question(id="1", question="which?", gold=("a", "b"), grades=(1, 2)),
        Question(id="2", question="Which", gold=("d", "c"), grades=(3, 1)),
    ]
    prepared = prepare(Source([*chunks, twice], questions, []), name="x", shares={"test": 1.0}, seed=0)
    assert prepared.test[0].graded == {"a": 3, "b": 2, "c": 1}
