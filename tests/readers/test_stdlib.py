import warnings
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.readers import Reader
from burnish.readers.stdlib import Stdlib
from burnish.text import normal

ZIPS = '''"""Work with archives."""

def is_archive(path):
    """Tell whether the bytes in a file begin like a container.

    More about it.
    """
    result = 1
    return result


class Archive:
    # a comment

    class Inner:
        @staticmethod
        def deep(x):
            "Unpack whatever lies below this one."; y = x
            return y

    @property
    def size(self):
        """How many bytes are there altogether."""
        def helper():
            """This one lives inside another function."""
            return 2
        text = """
  kept as it is"""
        return self._size + helper()

    @size.setter
    def size(self, value):
        """Change how many bytes the thing says it holds."""
        self._size = value


if True:
    def late(x):
        """Walk over members in reverse order of entry."""
        return x
'''


def library(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def documented(name: str, words: str, body: str = "return 1") -> str:
    return f'def {name}(x):\n    """{words}"""\n    {body}\n'


def reasons(root: Path) -> dict[str, str]:
    return {row.id: row.reason for row in Stdlib(root=root).load().rejected}


def test_functions_and_methods_become_passages_with_qualified_names(tmp_path):
    source = Reader.read({"kind": "stdlib", "root": str(library(tmp_path, **{"pack.zips": ZIPS, "pack.__init__": ""}))})
    ids = [chunk.id for chunk in source.load().chunks]
    assert ids == [
        "pack.zips.is_archive",
        "pack.zips.Archive.Inner.deep",
        "pack.zips.Archive.size",
        "pack.zips.Archive.size#2",
        "pack.zips.late",
    ]


def test_a_passage_is_the_code_as_written_less_docstring_and_indentation(tmp_path):
    texts = {c.id: c.text for c in Stdlib(root=library(tmp_path, zips=ZIPS)).load().chunks}
    assert texts["zips.is_archive"] == "def is_archive(path):\n    result = 1\n    return result"
    assert texts["zips.Archive.Inner.deep"] == "@staticmethod\ndef deep(x):\n    y = x\n    return y"
    assert "How many bytes" not in texts["zips.Archive.size"]
    assert "\n  kept as it is" in texts["zips.Archive.size"]
    assert "lives inside another" in texts["zips.Archive.size"]


def test_offsets_point_at_the_function_in_its_file(tmp_path):
    text = "# ü: two bytes, one character\x0c\n" + ZIPS
    for chunk in Stdlib(root=library(tmp_path, zips=text)).load().chunks:
        piece = text[chunk.start : chunk.end]
        assert chunk.source == "zips.py"
        assert piece.startswith(chunk.text.split("\n")[0])
        assert piece.endswith(chunk.text.split("\n")[-1].strip())


def test_the_first_paragraph_is_the_question_and_the_plain_name_the_answer(tmp_path):
    questions = {q.id: q for q in Stdlib(root=library(tmp_path, zips=ZIPS)).load().questions}
    first = questions["q:zips.is_archive"]
    assert first.question == ("Tell whether the bytes in a file begin like a container.")
    assert (first.answers, first.gold, first.group) == (("zips.is_archive",), ("zips.is_archive",), "zips")
    assert questions["q:zips.Archive.size#2"].answers == ("zips.Archive.size",)


def test_a_question_that_names_its_function_is_left_out_and_its_passage_stays(tmp_path):
    library(tmp_path, a=documented("is_file", "Tell if this is FILE or folder is_file"))
    library(tmp_path, b=documented("close", "Flush the rest, then close the stream."))
    source = Stdlib(root=tmp_path).load()
    assert [c.id for c in source.chunks] == ["a.is_file", "b.close"]
    assert source.questions == []
    assert [(r.id, r.reason) for r in source.rejected] == [
        ("q:a.is_file", "names itself"),
        ("q:b.close", "names itself"),
    ]


def test_what_is_no_passage_is_rejected_with_its_reason(tmp_path):
    library(
        tmp_path,
        a="def bare(x):\n    return x\n",
        b=documented("short", "Only four words here"),
        c='def empty():\n    """Words enough but no code at all."""\n',
        d="def broken(:\n",
        e=documented("good", "Give back the first of all."),
    )
    assert reasons(tmp_path) == {
        "a.bare": "no docstring",
        "b.short": "docstring of fewer than 5 words",
        "c.empty": "nothing but a docstring",
        "d.py": "unreadable file",
    }


def test_repeated_code_and_repeated_descriptions_keep_the_first(tmp_path):
    library(
        tmp_path,
        a=documented("one", "Give back the first of all."),
        b=documented("one", "Said in wholly different words here."),
        c=documented("two", "Give back the  first of all.", body="return x"),
    )
    source = Stdlib(root=tmp_path).load()
    assert [c.id for c in source.chunks] == ["a.one"]
    assert [(r.id, r.detail) for r in source.rejected] == [("b.one", "a.one"), ("c.two", "a.one")]


def test_tests_and_installed_packages_are_not_the_library(tmp_path):
    good = documented("good", "Give back the first of all.")
    library(tmp_path, **{"site-packages.x": good, "test.y": good, "odd-name.z": good, "real": good})
    assert [c.id for c in Stdlib(root=tmp_path).load().chunks] == ["real.good"]


def test_warnings_of_the_parser_do_not_leak(tmp_path):
    library(tmp_path, a="X = '\\d'\n" + documented("good", "Give back the first of all."))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Stdlib(root=tmp_path).load().chunks) == 1


def test_an_escaped_half_character_becomes_a_question_mark(tmp_path):
    library(tmp_path, a=documented("good", "Give back \\ud800 first of all."))
    [question] = Stdlib(root=tmp_path).load().questions
    assert question.question.endswith("Give back ? first of all.")


def test_a_missing_or_empty_library_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        Stdlib(root=tmp_path / "nowhere").load()
    with pytest.raises(DataError, match="no function here has a docstring"):
        Stdlib(root=tmp_path).load()


def test_the_running_library_is_read_the_same_way_twice_and_without_repeats():
    source = Stdlib().load()
    assert source == Stdlib().load()
    assert len({normal(chunk.text) for chunk in source.chunks}) == len(source.chunks) > 2000
    ids = {chunk.id for chunk in source.chunks}
    assert len(source.questions) > 1500
    assert all(set(question.gold) <= ids for question in source.questions)
