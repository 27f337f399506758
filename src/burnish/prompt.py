"""The one place where questions and passages become a prompt: the same for training, evaluation and serving."""

import re
from collections.abc import Sequence

from burnish.errors import DataError
from burnish.rag_rows import RagRow
from burnish.records import Chunk, Completion, Message, Prompt
from burnish.spec import Spec
from burnish.text import normal

Shot = tuple[str, Sequence[Chunk], str]  # an example: its question, its passages, its answer
_CITED = re.compile(r"\s*\[(\d+(?:\s*,\s*\d+)*)\]")


class PromptFormat(Spec):
    """How a question and its passages are put to a chat model, and how it is to answer.

    Passages are numbered from 1 in the order given; each is cut to `passage_words` words of its text. `abstain` is what
    is said where they hold no answer, and `cite` has an answer end with the number of each passage that it rests on,
    as in `Paris [2]`; the instruction asks for both.
    """

    instruction: str = "Answer the question from the passages. Reply with the answer alone."
    bare_instruction: str = "Answer the question. Reply with the answer alone."
    ask: str = "{question}"  # how a question is put: `{question}` stands for it
    question_first: bool = False  # before its passages, which a causal model then reads with it in mind
    passages: int = 5
    passage_words: int = 60
    abstain: str = ""
    cite: bool = False

    def messages(self, question: str, passages: Sequence[Chunk], *, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """Return the chat messages: the instruction, the examples as earlier turns, then the question."""
        system = Message(role="system", content=self._grounded() if passages else self.bare_instruction)
        earlier = [
            message
            for shot_question, shot_passages, answer in shots
            for message in (
                Message(role="user", content=self.turn(shot_question, shot_passages)),
                Message(role="assistant", content=answer),
            )
        ]
        return system, *earlier, Message(role="user", content=self.turn(question, passages))

    def turn(self, question: str, passages: Sequence[Chunk]) -> str:
        """Return the text of one user's turn: the passages, then the question."""
        shown = [f"[{place}] {self.piece(chunk)}" for place, chunk in enumerate(passages[: self.passages], start=1)]
        asked = self.ask.replace("{question}", question)
        return "\n\n".join([asked, *shown] if self.question_first else [*shown, asked])

    def piece(self, chunk: Chunk) -> str:
        """Return a passage as the prompt shows it: its title, a line end, and the first words of its text."""
        text = " ".join(chunk.text.split()[: self.passage_words])
        return f"{chunk.title}\n{text}" if chunk.title else text

    def reply(self, row: RagRow) -> str:
        """Return what a row teaches to say: its answer, with citations where they are asked for, or to abstain.

        Raises:
            DataError: its passages hold no answer, and there is no sentence for that.
        """
        if row.answerable:
            return self._cited(row.answer, row)
        if not self.abstain:
            raise DataError(
                f"row {row.id!r}: its passages hold no answer, and prompt.abstain is empty; write there what is to be "
                "said then, or leave such rows out"
            )
        return self.abstain

    def completion(self, row: RagRow, *, shots: Sequence[Shot] = ()) -> Completion:
        """Return a row as the prompt that serving will write, and what should follow it.

        Raises:
            DataError: the row has more passages than the prompt shows, or nothing to say.
        """
        if len(row.passages) > self.passages:
            raise DataError(
                f"row {row.id!r} has {len(row.passages)} passages, and prompt.passages shows {self.passages}; the "
                "answer may stand in the others. Make them equal"
            )
        return Completion(
            id=row.id,
            group=row.group,
            prompt=self.messages(row.question, row.passages, shots=shots),
            completion=self.reply(row),
            others=tuple(self._cited(other, row) for other in row.others) if row.answerable else (),
        )

    def asked(self, row: RagRow) -> Prompt:
        """Return a row as a prompt alone, with the passages and the right answers that judges of answers read.

        Raises:
            DataError: as in `completion`.
        """
        told = self.completion(row)
        return Prompt(
            id=row.id,
            group=row.group,
            prompt=told.prompt,
            answers=(told.completion, *told.others),
            passages=tuple(map(self.piece, row.passages)),
        )

    def abstains(self, text: str) -> bool:
        """Tell whether a text says that the passages hold no answer, in other case or punctuation too."""
        return bool(self.abstain) and normal(text) == normal(self.abstain)

    def _grounded(self) -> str:
        """Return the instruction that goes with passages."""
        cite = " End with the number of the passage that holds it, as in [1]." if self.cite else ""
        none = f" If the passages do not hold the answer, reply: {self.abstain}" if self.abstain else ""
        return f"{self.instruction}{cite}{none}"

    def _cited(self, answer: str, row: RagRow) -> str:
        """Return an answer with the numbers of the gold passages shown."""
        marks = "".join(f"[{place}]" for place in row.gold_places) if self.cite else ""
        return f"{answer} {marks}" if marks else answer


def citations(text: str) -> tuple[int, ...]:
    """Return the numbers of the passages that a text cites, each once, in their order: 2 and 1 of `Paris [2][1, 2]`."""
    found = [int(number) for marks in _CITED.findall(text) for number in marks.split(",")]
    return tuple(dict.fromkeys(found))


def without_citations(text: str) -> str:
    """Return a text without the marks that cite: what an answer's words are compared by."""
    return _CITED.sub("", text).strip()
