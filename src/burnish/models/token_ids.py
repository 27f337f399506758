"""Token ids of many texts: the tokenizer is asked for some texts at a time, and four bytes a token are kept."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, overload

from burnish.models.quiet import quiet
from burnish.text import KEY

# Of the tokenizer, which tells of a token so much beside its id that it takes some 150 bytes for as long as a call.
TEXTS_A_CALL = 1000
CHARACTERS_A_CALL = 1 << 20


class Cut(NamedTuple):
    """A text, or a pair of them, as token ids, special tokens included.

    types: 1 on the tokens of a pair's second text, where the model tells the two apart by this; else 0, or empty. cut:
    whether there was more of it.
    """

    ids: list[int]
    types: list[int]
    cut: bool


class TokenRows(Sequence[list[int]]):
    """The token ids of texts, in their order; cut: of each, whether there was more of it."""

    def __init__(self, rows: Iterable[Cut]) -> None:
        """Take the rows over one by one."""
        self._ids, self._ends = array("i"), array("q", [0])
        self.cut: list[bool] = []
        for row in rows:
            self._ids.extend(row.ids)
            self._ends.append(len(self._ids))
            self.cut.append(row.cut)

    def __len__(self) -> int:
        """Return how many texts there are."""
        return len(self.cut)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> list[int] | list[list[int]]:
        """Return the token ids of one text, or of several."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        at = range(len(self))[place]
        return self._ids[self._ends[at] : self._ends[at + 1]].tolist()


def ids_key(ids: Sequence[int]) -> bytes:
    """Return the `KEY` bytes that name a text by its token ids."""
    return blake2b(array("i", ids).tobytes(), digest_size=KEY).digest()


def cut_ids(
    texts: Sequence[str], tokenizer: Any, *, max_tokens: int, seconds: Sequence[str] | None = None
) -> Iterator[Cut]:
    """Yield the token ids of each text, cut at `max_tokens`; seconds: what is read behind each, as one with it.

    Of a pair, the text that is then the longer one is cut.
    """
    for some in _calls(texts):
        behind = None if seconds is None else list(seconds[some])
        found = tokenizer(
            list(texts[some]), behind, truncation=True, max_length=max_tokens, return_attention_mask=False
        )
        types = found.get("token_type_ids", [[]] * len(found["input_ids"]))
        for ids, kinds, whole in zip(found["input_ids"], types, found.encodings, strict=True):
            yield Cut(ids, kinds, bool(whole.overflowing))


def bare_ids(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
    """Yield the token ids of each text, without special tokens and however long."""
    return _whole_ids(texts, tokenizer, special=False)


def framed_ids(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
    """Yield the token ids of each text, with the special tokens that begin and end it, and however long."""
    return _whole_ids(texts, tokenizer, special=True)


def _whole_ids(texts: Sequence[str], tokenizer: Any, *, special: bool) -> Iterator[list[int]]:
    for some in _calls(texts):
        with quiet():  # the tokenizer warns of texts that are longer than the model reads
            found = tokenizer(list(texts[some]), add_special_tokens=special)["input_ids"]
        yield from found


def _calls(texts: Sequence[str]) -> Iterator[slice]:
    """Yield which texts the tokenizer is given at a time: one at least, however long it is."""
    begin = characters = 0
    for place, text in enumerate(texts):
        if place > begin and (place - begin == TEXTS_A_CALL or characters + len(text) > CHARACTERS_A_CALL):
            yield slice(begin, place)
            begin, characters = place, 0
        characters += len(text)
    if begin < len(texts):
        yield slice(begin, len(texts))
