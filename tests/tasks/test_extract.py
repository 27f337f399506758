from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

import tiny
from burnish.errors import DataError, ModelError
from burnish.methods.lora import Lora
from burnish.models.load import load_tokenizer
from burnish.records import Extraction, Span
from burnish.tasks import Built
from burnish.tasks.extract import Extract
from learn import check_micro_batches, learn, typed_bert

TASK = Extract(max_tokens=14, overlap=3, question_tokens=4, answer_tokens=4)
LONG = "the red cat, the blue dog; the green bird. one two three four five six seven eight fish nine ten"


def row(name: str, question: str, context: str, *answers: str) -> Extraction:
    spans = tuple(Span(text=text, start=context.index(text)) for text in answers)
    return Extraction(id=name, question=question, context=context, answers=spans)


ROWS = [
    row("a", "which cat", "the red cat and the blue dog", "red"),
    row("b", "which dog", "the red cat and the blue dog", "blue"),
    row("c", "which fish", "the red cat and the blue dog"),
    row("d", "what", LONG, "eight fish"),
    row("e", "which bird", LONG, "green bird"),
    row("f", "which system", LONG),
    row("g", "where", "one two in three", "in three"),
    row("h", "when", "four five", "five"),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.tiny_bert(tmp_path_factory.mktemp("bert"), words=[*tiny.WORDS, ",", ";", "."]))


@pytest.fixture
def built(bert: str) -> Built:
    built = TASK.build(bert)
    built.model.eval()
    return built


class Given(nn.Module):
    """A reader that says what is right: the score of a token follows from a table, whatever the question."""

    def __init__(self, built: Built, starts: dict[str, float], ends: dict[str, float], nothing: dict[str, float]):
        super().__init__()
        self.config = built.model.config
        self.unused = nn.Parameter(torch.zeros(()))
        self.ids = built.tokenizer.convert_tokens_to_ids
        self.tables = starts, ends
        self.nothing = nothing

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        found = []
        for table in self.tables:
            scores = torch.zeros(input_ids.shape)
            for word, score in table.items():
                scores[input_ids == self.ids(word)] = score
            for word, score in self.nothing.items():
                scores[(input_ids == self.ids(word)).any(dim=1), 0] = score
            found.append(scores)
        return type("Output", (), {"start_logits": found[0], "end_logits": found[1]})()


def test_the_loss_is_twice_that_of_transformers_own_head(built: Built):
    network: Any = built.model
    for item in TASK.encode(ROWS, built).items:
        batch = TASK.collate([item])
        with torch.no_grad():
            expected = network(batch.input_ids, start_positions=batch.starts, end_positions=batch.ends).loss
            assert TASK.total_loss(built.model, batch).item() == pytest.approx(2 * expected.item(), rel=1e-5)
    assert TASK.count(TASK.collate(TASK.encode(ROWS, built).items)) == len(TASK.encode(ROWS, built).items)


def test_micro_batches_do_not_change_loss_and_gradient(built: Built):
    check_micro_batches(TASK, built, ROWS)


def test_eight_rows_are_learned_and_a_saved_model_gives_equal_scores(built: Built, tmp_path: Path):
    losses = learn(TASK, built, ROWS, tmp_path, steps=150, rate=5e-3)
    assert losses[-1] < 0.05 < losses[0]
    assert TASK.predict(built.model, built, ROWS) == [
        "red",
        "blue",
        "",
        "eight fish",
        "green bird",
        "",
        "in three",
        "five",
    ]
    assert TASK.dev_score(built.model, built, ROWS) == 1.0
    found = TASK.predictions(built.model, built, ROWS, reads="answers", progress=lambda *_: None)
    assert [metric.value(found, TASK.references(ROWS)) for metric in TASK.metrics] == [1.0, 1.0]
    assert [metric.label for metric in TASK.metrics] == ["token F1", "exact match"]
    TASK.save(built.model, built, tmp_path / "model")
    again = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    network: Any = built.model
    for found in ROWS[:3]:
        inputs = tokenizer(found.question, found.context, return_tensors="pt")
        with torch.no_grad():
            ours, theirs = network(**inputs), again(**inputs)
        torch.testing.assert_close(ours.start_logits, theirs.start_logits)
        torch.testing.assert_close(ours.end_logits, theirs.end_logits)
    kept = TASK.build(str(tmp_path / "model"))
    assert kept.fresh == ()
    assert TASK.predict(kept.model.eval(), kept, ROWS) == TASK.predict(built.model, built, ROWS)


def test_windows_cover_the_context_and_point_back_into_it(built: Built):
    [windows] = TASK._windows([ROWS[3]], [ROWS[3].question], built.tokenizer)
    words = [
        LONG[a:b]
        for a, b in built.tokenizer(LONG, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ]
    seen: list[str] = []
    for number, window in enumerate(windows):
        texts = [LONG[a:b] for a, b in window.offsets]
        tokens = built.tokenizer.convert_ids_to_tokens(window.item.text)
        assert tokens[window.first : window.first + len(texts)] == texts
        assert tokens[: window.first] == ["[CLS]", "what", "[SEP]"]
        if number:
            assert seen[-3:] == texts[:3]
        seen += texts[3:] if number else texts
    assert seen == words
    assert len(windows) == 3


def test_targets_are_the_answers_tokens_and_0_where_a_window_lacks_it(built: Built):
    items = TASK.encode(ROWS, built).items
    for item in items:
        [found] = [found for found in ROWS if found.id == item.id]
        if item.end:
            assert built.tokenizer.decode(item.text[item.start : item.end + 1]) == found.answers[0].text
        else:
            assert (item.start, item.end) == (0, 0)
    assert [bool(item.end) for item in items if item.id == "d"] == [False, False, True]
    assert not any(item.end for item in items if item.id in "cf")


def test_an_answer_at_the_edge_of_a_window_is_trained_where_it_is_whole(built: Built):
    context = "one two three four five six seven eight nine ten"  # windows of 10: one … ten would need 11 with 2 more
    rows = [
        row(str(n), "what is it", context, f"{a} {b}")
        for n, (a, b) in enumerate(zip(context.split(), context.split()[1:], strict=False))
    ]
    items = TASK.encode(rows, built).items
    for place in range(9):
        whole = [item for item in items if item.id == str(place) and item.end]
        assert whole
        for item in whole:
            assert built.tokenizer.decode(item.text[item.start : item.end + 1]) == rows[place].answers[0].text


def test_a_row_whose_answer_fits_no_window_is_left_out_and_counted(built: Built):
    long = row("long", "what", LONG, LONG[: LONG.index(" ten")])
    encoded = TASK.encode([long, ROWS[0]], built)
    assert {item.id for item in encoded.items} == {"a"}
    assert encoded.notes == {
        "rows whose answer stands in no window whole, left out": 1,
        "contexts read in several windows": 1,
    }
    assert len(TASK.predict(built.model, built, [long, ROWS[0]])) == 2  # it is asked all the same


def test_a_window_trains_the_first_answer_that_it_holds(built: Built):
    several = row("s", "what", LONG, "ten", "red")
    texts = [
        built.tokenizer.decode(item.text[item.start : item.end + 1]) for item in TASK.encode([several], built).items
    ]
    assert texts == ["red", "[CLS]", "ten"]


def test_long_questions_are_cut_and_counted(built: Built):
    long = row("q", "which red cat and blue dog is it", "the red cat", "red")
    encoded = TASK.encode([long], built)
    assert encoded.notes == {"questions cut at 4 tokens": 1}
    assert built.tokenizer.decode(encoded.items[0].text) == "[CLS] which red cat and [SEP] the red cat [SEP]"


def test_padding_changes_no_score(built: Built):
    items = TASK.encode(ROWS, built).items
    together = TASK._scores(built.model, TASK.collate(items))[0]
    for place, item in enumerate(items):
        alone = TASK._scores(built.model, TASK.collate([item]))[0][0]
        torch.testing.assert_close(together[place, : item.tokens], alone, rtol=1e-4, atol=1e-5)
        assert (together[place, item.tokens :] == -torch.inf).all()


def test_the_best_span_over_all_windows_is_the_answer(built: Built):
    model = Given(built, {"red": 3, "eight": 5}, {"cat": 3, "fish": 4}, {})
    assert TASK.find(model, built, [row("x", "what", LONG)]) == [Span(text="eight fish", start=LONG.index("eight"))]


def test_a_span_is_valid_if_it_does_not_end_before_it_starts_nor_is_too_long(built: Built):
    backwards = Given(built, {"fish": 9, "two": 2}, {"one": 9, "three": 2}, {})
    context = "one two three four five six fish"
    [found] = TASK.predict(backwards, built, [row("x", "what", context)])
    best = max(  # all valid spans, by hand
        ((a, b) for a in range(7) for b in range(a, min(a + 4, 7))),
        key=lambda span: {1: 2, 6: 9}.get(span[0], 0) + {0: 9, 2: 2}.get(span[1], 0),
    )
    assert found == " ".join(context.split()[best[0] : best[1] + 1])
    far = Given(built, {"one": 5}, {"five": 5, "two": 1}, {})
    assert TASK.predict(far, built, [row("x", "what", context)]) == ["one two"]


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, ""), (0.9, ""), (1.1, "red"), (-9.0, ""), (None, "red")])
def test_nothing_is_said_where_it_scores_higher_by_more_than_the_threshold(
    threshold: float | None, expected: str, built: Built
):
    task = TASK.model_copy(update={"null_threshold": threshold})
    model = Given(built, {"red": 2}, {"red": 2}, {"cat": 2.5})  # the span scores 4, nothing scores 5
    assert task.predict(model, built, [row("x", "what", "the red cat")]) == [expected]


def test_nothing_scores_what_the_least_sure_window_gives_it(built: Built):
    model = Given(built, {"red": 2}, {"red": 2}, {"red": 9, "nine": 1})  # 18 in the first window, 2 in the last
    assert TASK.predict(model, built, [row("x", "what", LONG)]) == ["red"]
    sure = Given(built, {"red": 2}, {"red": 2}, {"red": 9, "two": 9, "nine": 9})
    assert TASK.predict(sure, built, [row("x", "what", LONG)]) == [""]


def test_an_answer_has_no_spaces_around_it(built: Built):
    spaced = Extraction(id="s", question="what", context="one  red  two", answers=(Span(text=" red ", start=4),))
    [item] = TASK.encode([spaced], built).items
    assert built.tokenizer.decode(item.text[item.start : item.end + 1]) == "red"


def test_a_context_without_tokens_has_no_answer(built: Built):
    assert TASK.predict(built.model, built, [row("x", "what", "  ")]) == [""]
    assert Extract(**{**TASK.model_dump(), "null_threshold": None}).find(built.model, built, [row("x", "a", " ")]) == [
        None
    ]


def test_no_rows_have_no_answers(built: Built):
    assert TASK.find(built.model, built, []) == []
    assert list(TASK.encode([], built).items) == []


def test_an_adapters_head_is_saved_with_it(bert: str, tmp_path: Path):
    built = TASK.build(bert)
    model = Lora(rank=2).apply(built.model, fresh=built.fresh)
    expected = TASK._scores(model.eval(), TASK.collate(TASK.encode(ROWS[:1], built).items))[0]
    TASK.save(model, built, tmp_path / "model")
    again = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model").eval()
    found = TASK._scores(again, TASK.collate(TASK.encode(ROWS[:1], built).items))[0]
    torch.testing.assert_close(found, expected)


def test_the_audit_shows_windows_and_how_many_are_empty(built: Built):
    assert TASK.audit(TASK.encode(ROWS[:3], built).items, built) == [
        "[CLS] which cat [SEP] the red cat and the blue dog [SEP] → 'red'",
        "[CLS] which dog [SEP] the red cat and the blue dog [SEP] → 'blue'",
        "[CLS] which fish [SEP] the red cat and the blue dog [SEP] → no answer",
        "3 windows, 1 of them without an answer",
    ]


def test_rows_that_could_only_teach_silence_are_refused(built: Built):
    with pytest.raises(DataError, match="none of the 1 windows holds an answer, so the model could only learn"):
        TASK.audit(TASK.encode(ROWS[2:3], built).items, built)


def test_windows_that_the_model_cannot_read_are_refused(bert: str):
    with pytest.raises(ModelError, match="windows of 384 tokens are asked for, and this model reads at most 128"):
        Extract().build(bert)


def test_windows_without_room_for_the_context_are_refused():
    with pytest.raises(
        ValidationError, match="max_tokens is 100, and a question of 64 tokens and an overlap of 128 need"
    ):
        Extract(max_tokens=100)


def test_a_tokenizer_without_special_tokens_has_the_question_at_position_0(tmp_path: Path):
    tokenizer = load_tokenizer("llama", tiny.tiny_llama(tmp_path))
    built = Built(nn.Linear(1, 1), tokenizer)
    items = TASK.encode([row("l", "what is", "the red cat", "red cat")], built).items
    assert [tokenizer.decode(item.text[item.start : item.end + 1]) for item in items] == ["red cat"]


def test_the_context_is_told_from_the_question_where_the_model_does(tmp_path: Path):
    built = TASK.build(str(typed_bert(tmp_path)))
    built.model.eval()
    network: Any = built.model
    [item] = TASK.encode(ROWS[:1], built).items
    assert item.types == (0,) * 4 + (1,) * 8
    batch = TASK.collate([item])
    with torch.no_grad():
        expected = network(
            batch.input_ids, token_type_ids=batch.types, start_positions=batch.starts, end_positions=batch.ends
        ).loss
        assert TASK.total_loss(built.model, batch).item() == pytest.approx(2 * expected.item(), rel=1e-5)
