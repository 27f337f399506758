import random

import pytest

from burnish.text import TextFormat, answer_form, fingerprint, normal, printable, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't panic!", ["don", "t", "panic"]),
        ("zipfile.is_zipfile(path)", ["zipfile", "is", "zipfile", "path"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("\ufb01ne ﬁne FINE", ["fine", "fine", "fine"]),  # the ligature
        ("x² №5 Ⅳ", ["x2", "no5", "iv"]),
        ("cafe\u0301 café", ["café", "café"]),  # an accent of its own
        ("ＡＢＣ１２３", ["abc123"]),
        ("東京 タワー", ["東京", "タワー"]),
        ("a\u00a0b\u2003c\td\ne", ["a", "b", "c", "d", "e"]),
        ("ΣΊΣΥΦΟΣ", ["σίσυφοσ"]),
        ("__init__ — … 😀", ["init"]),
        ("", []),
    ],
)
def test_words_are_the_same_however_they_are_written(text, found):
    assert words(text) == found


def test_the_normal_form_is_its_own_normal_form():
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(chr(rng.choice((rng.randrange(32, 0x250), rng.randrange(0x370, 0x3000)))) for _ in range(30))
        assert normal(normal(text)) == normal(text)


def test_the_normal_form_forgets_case_space_and_punctuation():
    assert normal("  The CAT,\n sat. ") == normal("the cat sat") == "the cat sat"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Beatles", "beatles"),
        ("a cat, an apple and the dog.", "cat apple and dog"),
        ("Theodore", "theodore"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("the\tquick \n brown", "quick brown"),
        ("a-the-an", "athean"),  # punctuation goes first, and what it leaves is no article
        ("$1,000.50", "100050"),
        ("“quoted”", "“quoted”"),  # only ASCII punctuation goes
        ("Ça", "ça"),
        ("the a an", ""),
        ("", ""),
    ],
)
def test_answers_are_compared_as_the_squad_script_compares_them(text, form):
    assert answer_form(text) == form


def test_fingerprints_keep_the_borders_between_texts():
    assert fingerprint("ab", "c") != fingerprint("a", "bc") != fingerprint("abc")
    assert fingerprint("1:a") != fingerprint("", "a")
    assert fingerprint() != fingerprint("")
    assert fingerprint("a", "b") != fingerprint("b", "a")


def test_a_fingerprint_stays_what_it_was():
    assert fingerprint("burnish") == "299f2e31e312b929"  # the SHA-256 of `7:burnish`
    assert len(fingerprint("\ud800")) == 16  # even of what is no text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[1;38;5;208mbold\x1b[m", "bold"),
        ("\x1b[2J\x1b[H\x1b[?25lgone", "gone"),
        ("\x9b31mred", "red"),
        ("\x1b]0;a new title\x07text", "text"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;without an end\nnext line", "\nnext line"),
        ("a\x00b\x07c\x08d\x7fe\x85f", "abcdef"),
        ("line\r\nline\ttab", "line\nline\ttab"),
        ("\x1bcreset", "creset"),
        ("café [31m] 😀", "café [31m] 😀"),
    ],
)
def test_text_for_a_terminal_holds_no_escapes(text, shown):
    assert printable(text) == shown


def test_nothing_that_a_terminal_obeys_survives():
    rng = random.Random(1)
    for _ in range(500):
        text = printable("".join(rng.choice("\x1b\x9b[]0;31mH\x07\\ab\n\t\r\x00") for _ in range(40)))
        assert set(text) <= set("[]0;31mH\\ab\n\t")
        assert printable(text) == text


def test_queries_are_one_line_and_passages_keep_theirs():
    text = TextFormat(query_prefix="query: ", passage_prefix="passage: ")
    assert text.query("  how\n do I  zip? ") == "query: how do I zip?"
    assert text.passage("zipfile", "def f():\n    pass") == "passage: zipfile\ndef f():\n    pass"
    assert text.passage("", "body") == "passage: body"
