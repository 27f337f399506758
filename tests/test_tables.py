import json
from collections import Counter
from pathlib import Path

import pytest

from burnish.errors import DataError
from burnish.records import Chunk, Completion, Labelled, Pair, Question, dump_jsonl
from burnish.tables import read_rows
from real_data import real_data

ROWS = [
    Labelled(id="rows:1", text='a "quoted", text\nof two lines', label="x"),
    Labelled(id="rows:2", text="ünï", label="y"),
]


def written(folder: Path, name: str, content: str | bytes | object) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def faults_of(path: Path, record=Labelled, columns=None, **options) -> list[str]:
    """Return the lines of the error that reading this file raises, without the folder."""
    with pytest.raises(DataError) as caught:
        read_rows(path, record, columns or {}, **options)
    return str(caught.value).replace(f"{path.parent}/", "").split("\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", '\ufefftext,label\r\n"a ""quoted"", text\nof two lines",x\r\n\r\nünï,y\r\n'),
        ("rows.json", [{"text": ROWS[0].text, "label": "x"}, {"text": "ünï", "label": "y"}]),
        ("rows.CSV", 'label,text\nx,"a ""quoted"", text\nof two lines"\ny,ünï'),
    ],
    ids=["csv", "json", "other order"],
)
def test_a_table_becomes_rows_that_are_called_by_their_number(tmp_path, name, content):
    assert read_rows(written(tmp_path, name, content), Labelled) == ROWS


def test_columns_are_mapped_and_others_left_out(tmp_path):
    path = written(tmp_path, "rows.csv", "n,body,class,group,label\n1,one,x,g,no\n2,two,y,,no\n")
    assert read_rows(str(path), Labelled, {"text": "body", "label": "class", "id": "n"}) == [
        Labelled(id="1", text="one", label="x", group="g"),
        Labelled(id="2", text="two", label="y"),
    ]


def test_jsonl_without_columns_is_read_as_burnish_writes_it(tmp_path):
    path = written(tmp_path, "rows.jsonl", dump_jsonl(ROWS))
    assert read_rows(path, Labelled) == ROWS
    written(tmp_path, "rows.jsonl", '{"text": "x", "label": "y"}\n')
    assert faults_of(path) == ["rows.jsonl:1: id: this key is needed and missing"]


def test_jsonl_with_columns_numbers_its_rows_and_not_its_lines(tmp_path):
    path = written(
        tmp_path, "rows.jsonl", '\ufeff{"a": "one", "label": 3}\n\n{"a": "two", "label": true, "id": null}\n'
    )
    rows = read_rows(path, Labelled, {"text": "a"})
    assert [(row.id, row.text, row.label) for row in rows] == [("rows:1", "one", "3"), ("rows:2", "two", "true")]


def test_an_object_of_objects_is_rows_by_id(tmp_path):
    path = written(tmp_path, "rows.json", {"q7": {"QUESTION": "who?", "ANSWER": "me"}, "q8": {"QUESTION": "why?"}})
    rows = read_rows(path, Question, {"question": "QUESTION", "answers": "ANSWER"})
    assert rows == [Question(id="q7", question="who?", answers=("me",)), Question(id="q8", question="why?")]


def test_a_column_may_lead_into_its_cells(tmp_path):
    row = {"talk": [{"from": "me", "says": "hi"}], "source": ["One.", "Two."], "best": {"says": "ho"}, "a.b": "dotted"}
    path = written(tmp_path, "rows.json", [row])
    [made] = read_rows(path, Completion, {"prompt": "talk.0.says", "completion": "best.says"})
    assert (made.prompt, made.completion) == ("hi", "ho")
    [joined] = read_rows(path, Labelled, {"text": "source.*", "label": "source.1"})
    assert (joined.text, joined.label) == ("One. Two.", "Two.")
    [pair] = read_rows(path, Pair, {"query": "a.b", "positives": "source", "negatives": "a.b"})
    assert (pair.query, pair.positives, pair.negatives) == ("dotted", ("One.", "Two."), ("dotted",))
    assert faults_of(path, Labelled, {"text": "source", "label": "best"}) == [
        "rows.json: row 1: 'source' holds a list of 2, and 'text' needs one text: name source.0 for the first, or "
        "source.* for all, joined by spaces",
        "rows.json: row 1: 'best' holds an object with the keys says, and 'label' needs one text: name best.says",
    ]
    assert faults_of(path, Labelled, {"text": "source.5", "label": "talk.*"}) == [
        "rows.json: row 1: '5' leads nowhere in a list of 2",
        "rows.json: row 1: '*' joins texts, not a list of 1",
    ]


def test_tab_separated_cells_keep_their_quotation_marks(tmp_path):
    path = written(tmp_path, "rows.tsv", 'text\tlabel\nsaid "no\tx\n"Yes" she said\ty\n')
    assert [row.text for row in read_rows(path, Labelled)] == ['said "no', '"Yes" she said']


def test_quoted_tab_separated_cells_are_not_guessed_at(tmp_path):
    path = written(tmp_path, "rows.tsv", 'text\tlabel\n"a ""b"""\tx\nplain\ty\n')
    [fault] = faults_of(path)
    assert fault.startswith("rows.tsv:2: all 1 cells that begin with a quotation mark also end with one")
    assert [row.text for row in read_rows(path, Labelled, quote='"')] == ['a "b"', "plain"]
    assert [row.text for row in read_rows(path, Labelled, quote="")] == ['"a ""b"""', "plain"]
    split = written(tmp_path, "split.tsv", 'text\tlabel\n"a\tb"\tx\n')
    assert faults_of(split) == [
        "split.tsv:2: 2 cells are needed, as in the header (found 3). If cells with tabs stand in quotation marks, say "
        "quote='\"'"
    ]


def test_every_row_with_a_wrong_number_of_cells_is_named_with_its_line(tmp_path):
    path = written(tmp_path, "rows.csv", 'text,label\n"two\nlines",x\nalone\na,b,c\nfine,y\n')
    assert faults_of(path) == [
        "rows.csv:4: 2 cells are needed, as in the header (found 1)",
        "rows.csv:5: 2 cells are needed, as in the header (found 3)",
    ]


def test_a_quotation_mark_that_is_never_closed_swallows_no_rows(tmp_path):
    path = written(tmp_path, "rows.csv", 'text,label\nfine,x\n"open,y\nmore,z\n')
    [fault] = faults_of(path)
    assert fault.startswith(
        "rows.csv:3: the row that begins here cannot be read: unexpected end of data. A quoted cell"
    )


def test_a_cell_may_be_as_long_as_a_document(tmp_path):
    path = written(tmp_path, "rows.csv", f"text,label\n{'word ' * 50_000},x\n")
    assert len(read_rows(path, Labelled)[0].text) == 250_000


@pytest.mark.parametrize(
    ("name", "content", "columns", "messages"),
    [
        (
            "a.csv",
            "text,category\nx,y\n",
            {"label": "categry"},
            ["a.csv: no column 'categry'; there are: text, category. Did you mean 'category'?"],
        ),
        (
            "a.csv",
            "text,labl\nx,y\n",
            {},
            [
                "a.csv: no column 'label'; there are: text, labl. Did you mean 'labl'? Say in `columns` which one "
                "holds the label"
            ],
        ),
        (
            "a.csv",
            "text,label,gruop,by\nx,y,z,w\n",
            {},
            [
                "a.csv: column 'gruop' is no field of a Labelled (id, group, text, pair, label). Did you mean 'group'? "
                "Name in `columns` what to read; other columns are then left out",
                "a.csv: column 'by' is no field of a Labelled (id, group, text, pair, label). Name in `columns` what "
                "to read; other columns are then left out",
            ],
        ),
        (
            "a.csv",
            "x,y\n",
            {"txt": "x"},
            ["columns: a Labelled has no field 'txt'. Did you mean 'text'? It has: id, group, text, pair, label"],
        ),
        ("a.csv", "text,text\nx,y\n", {}, ["a.csv:1: two columns are called 'text'; each needs a name of its own"]),
        ("a.csv", "", {}, ["a.csv: the table holds no rows; a Labelled a row is needed"]),
        ("a.csv", "text,label\n", {}, ["a.csv: the table holds no rows; a Labelled a row is needed"]),
        (
            "a.csv",
            "id,text,label\n1,x,y\n2,x,y\n1,z,y\n",
            {},
            ["a.csv:4: id '1' already stands in {path}:2"],
        ),
        ("a.csv", "text,label\nx\0,y\n", {}, ["a.csv:2: 'text' holds a NUL character, which is no text"]),
        (
            "a.csv",
            b"text,label\nx,y\n\xe9,y\n",
            {},
            ["a.csv:3: this is not UTF-8 text (invalid continuation byte). Save it as UTF-8"],
        ),
        (
            "a.csv",
            "text,label\n".encode("utf-16"),
            {},
            ["a.csv:1: this is not UTF-8 text (invalid start byte); it looks like UTF-16. Save it as UTF-8"],
        ),
        (
            "a.jsonl",
            '{"a": "x", "label": "y"}\nnope\n[1]\n{"a": "x"}\n{"a": {"b": 1}, "label": "y"}\n',
            {"text": "a"},
            [
                "a.jsonl:2: this row is not JSON: Expecting value at column 1",
                "a.jsonl:3: a row must be an object with a key a column (found list)",
                "a.jsonl:4: this row has no 'label'",
                "a.jsonl:5: 'a' holds an object with the keys b, and 'text' needs one text: name a.b",
            ],
        ),
        (
            "a.jsonl",
            b'{"a": "\\ud800", "label": "y"}\n{"a": "\xff"}\n' + b'{"a": ' + b"1" * 5000 + b"}\n",
            {"text": "a"},
            [
                "a.jsonl:2: this row is not UTF-8 text (invalid start byte at byte 8)",
                "a.jsonl:3: this row is nested too deeply, or holds a number that is too long",
                "a.jsonl:1: 'a' holds half of a character (a lone surrogate)",
            ],
        ),
        ("a.json", '[{"text": "x",\n]', {}, ["a.json:2: this is not JSON: Expecting property name enclosed in double"]),
        (
            "a.json",
            '{"rows": []}',
            {},
            [
                "a.json: a list of objects, or an object of objects by id, is needed here; 'rows' holds a list: write "
                "it to a file of its own"
            ],
        ),
        ("a.json", "[" * 100_000, {}, ["a.json: this file is nested too deeply, or holds a number that is too long"]),
        (
            "a.xlsx",
            "x",
            {},
            [
                "a.xlsx: a table in .jsonl, .json, .csv, .tsv, .parquet or a folder of text files is needed (found "
                ".xlsx)"
            ],
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, name, content, columns, messages):
    path = written(tmp_path, name, content)
    found = faults_of(path, Labelled, columns)
    wanted = [message.replace("{path}", "a.csv") for message in messages]
    assert [fault[: len(message)] for fault, message in zip(found, wanted, strict=True)] == wanted


def test_a_missing_file_is_an_error_with_the_near_miss(tmp_path):
    written(tmp_path, "train.csv", "x")
    with pytest.raises(DataError, match=r"trian\.csv: there is no such file or folder\. Did you mean 'train\.csv'\?"):
        read_rows(tmp_path / "trian.csv", Labelled)


def test_another_separator_is_named(tmp_path):
    path = written(tmp_path, "a.csv", "text;label\nx;y\n")
    assert "separated by ';': commas are needed in .csv" in faults_of(path)[0]


def test_typed_fields_are_read_from_text(tmp_path):
    path = written(tmp_path, "a.csv", "id,title,text,source,start,end\n1,,some text,doc,0,9\n2,t,more,doc,x,\n")
    assert faults_of(path, Chunk) == [
        "a.csv:3: start: Input should be a valid integer, unable to parse string as an integer (found 'x')"
    ]
    good = written(tmp_path, "b.csv", "id,title,text,source,start,end\n1,,some text,doc,0,9\n")
    assert read_rows(good, Chunk) == [Chunk(id="1", text="some text", source="doc", end=9)]


def test_a_folder_of_texts_has_a_class_a_sub_folder(tmp_path):
    for name in ("spam/b.txt", "spam/a.txt", "ham/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path, name, f"text of {name}")
    written(tmp_path, "README.md", "about")
    written(tmp_path, "spam/.hidden", "")
    rows = read_rows(tmp_path, Labelled)
    assert [(row.id, row.label) for row in rows] == [
        ("ham/a.txt", "ham"),
        ("spam/a.txt", "spam"),
        ("spam/b.txt", "spam"),
    ]
    assert rows[0].text == "text of ham/a.txt"


def test_what_does_not_belong_into_a_folder_of_texts_is_named(tmp_path):
    folder = tmp_path / "texts"
    (folder / "spam" / "deep").mkdir(parents=True)
    written(folder, "loose.txt", "x")
    written(folder / "spam", "a.md", "x")
    written(folder / "spam", "bad.txt", b"\xff")
    written(tmp_path, "secret.txt", "x")
    (folder / "spam" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert faults_of(folder) == [
        "texts/loose.txt: this text stands in no class's sub-folder",
        "texts/spam/a.md: a sub-folder of a class holds .txt files and nothing else",
        "texts/spam/bad.txt:1: this is not UTF-8 text (invalid start byte). Save it as UTF-8",
        "texts/spam/deep: a sub-folder of a class holds .txt files and nothing else",
        f"texts/spam/link.txt: this is a link that leads out of {folder}".replace(f"{tmp_path}/", ""),
    ]
    tables = tmp_path / "tables"
    tables.mkdir()
    written(tables, "train.csv", "text,label\n")
    assert faults_of(tables) == [
        "tables: a folder of texts needs one sub-folder a class, and this one has none. Did you mean tables/train.csv?"
    ]


def test_the_shape_of_banking77_is_read():
    folder = real_data("banking77")
    rows = read_rows(folder / "train.csv", Labelled, {"text": "text", "label": "category"})
    assert (len(rows), len({row.label for row in rows})) == (10_003, 77)
    assert rows[16].id == "train:17"
    assert len(read_rows(folder / "test.csv", Labelled, {"label": "category"})) == 3_080


def test_the_shape_of_scitldr_is_read():
    columns = {"id": "paper_id", "prompt": "source.*", "completion": "target.0"}
    rows = read_rows(real_data("scitldr") / "train.jsonl", Completion, columns)
    assert len(rows) == 1_992
    assert (rows[0].id, rows[0].completion[:10]) == ("SysEexbRb", "We provide")


def test_the_shape_of_pubmedqa_is_read():
    columns = {"question": "QUESTION", "answers": "final_decision"}
    rows = read_rows(real_data("pubmedqa") / "ori_pqal.json", Question, columns)
    assert Counter(row.answers for row in rows) == {("yes",): 552, ("no",): 338, ("maybe",): 110}


def test_the_shape_of_begin_is_read():
    columns = {"text": "response", "label": "begin_label"}
    cmu = read_rows(real_data("begin") / "begin_dev_cmu.tsv", Labelled, columns)
    wow = read_rows(real_data("begin") / "begin_dev_wow.tsv", Labelled, columns)
    assert (len(cmu), len(wow)) == (416, 430)
    assert {row.label for row in [*cmu, *wow]} == {"Fully attributable", "Not fully attributable", "Generic"}


def test_a_list_of_labels_is_several_labels(tmp_path):
    path = written(tmp_path, "rows.json", [{"text": "t", "label": ["x", 3]}, {"text": "u", "label": []}])
    assert [row.label for row in read_rows(path, Labelled)] == [("x", "3"), ()]
