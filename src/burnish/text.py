"""The one normal form of text, and the one function that turns queries and passages into model input."""

import re
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b, sha256
from string import punctuation

import regex

from burnish.spec import Spec

KEY = 16  # bytes that name a text: two texts of a billion share them with a chance of 1e-21
_WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+")  # marks belong to their letter: Hindi or Tamil would fall apart
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", punctuation)
_CONTROL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # a terminal's colours and moves, whole: ESC alone would leave `[31m`
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # its window titles and links
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def words(text: str) -> list[str]:
    """Return the casefolded words of a text (NFKC); punctuation and underscores separate."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normal(text: str) -> str:
    """Return the normal form in which two texts are the same text: its words, joined by single spaces."""
    return " ".join(words(text))


def answer_form(text: str) -> str:
    """Return the form in which SQuAD compares answers: lower case, no punctuation, no articles, single spaces.

    Source: Rajpurkar et al. 2016 (arXiv 1606.05250), the official evaluation script.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def text_key(text: str) -> bytes:
    """Return the `KEY` bytes that name a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY).digest()


def fingerprint(*texts: str) -> str:
    """Return 16 hexadecimal digits that name these texts in this order."""
    return fingerprint_of(texts)


def fingerprint_of(texts: Iterable[str]) -> str:
    """Return what `fingerprint` does, of texts that need not be there at once."""
    digest = sha256()
    for text in texts:
        digest.update(f"{len(text)}:".encode())
        digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def printable(text: str) -> str:
    """Return the text without control characters and terminal escapes; tabs and line ends stay."""
    return _CONTROL.sub("", text)


class TextFormat(Spec):
    """How queries and passages become model input: saved with a retriever, and used alike to train, index and serve.

    Lengths are in tokens, special tokens included; what is longer is cut at the end, and counted.
    """

    query_prefix: str = ""
    passage_prefix: str = ""
    query_tokens: int = 64
    passage_tokens: int = 128

    def query(self, text: str) -> str:
        """Return the text that the query tower reads."""
        return self.query_prefix + " ".join(text.split())

    def passage(self, title: str, text: str) -> str:
        """Return the text that the passage tower reads: prefix, title, line end, text."""
        return self.passage_prefix + (f"{title}\n{text}" if title else text)
