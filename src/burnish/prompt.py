"""The one place where questions and passages become a prompt: the same for training, evaluation and serving."""

from collections.abc import Sequence

from burnish.records import Chunk, Message
from burnish.spec import Spec

Shot = tuple[str, Sequence[Chunk], str]  # an example: its question, its passages, its answer


class PromptFormat(Spec):
    """How a question and its passages are put to a chat model.

    Passages are numbered from 1 in the order of the retriever; each is cut to `passage_words` words of its text.
    """

    instruction: str = "Answer the question from the passages. Reply with the answer alone."
    bare_instruction: str = "Answer the question. Reply with the answer alone."
    ask: str = "{question}"  # how a question is put: `{question}` stands for it
    question_first: bool = False  # before its passages, which a causal model then reads with it in mind
    passages: int = 5
    passage_words: int = 60

    def messages(self, question: str, passages: Sequence[Chunk], *, shots: Sequence[Shot] = ()) -> tuple[Message, ...]:
        """Return the chat messages: the instruction, the examples as earlier turns, then the question."""
        system = Message(role="system", content=self.instruction if passages else self.bare_instruction)
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
