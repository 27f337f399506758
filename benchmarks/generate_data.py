"""The rows of benchmarks/generate.py: questions with their passages, and abstracts; both as chats."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import data_folder, scitldr

from burnish.prepare.synthesize import sample
from burnish.prompt import PromptFormat
from burnish.rag_rows import RagRow
from burnish.records import Chunk, Completion, dump_jsonl, read_jsonl
from burnish.run import write_text
from burnish.text import words

SEED = 0
TRAIN, TEST = 128, 64  # rows
DECISIONS = ("yes", "no", "maybe")
_DECIDED = re.compile(r"^\W*(?:yes|no|maybe)\b\W*", re.IGNORECASE)
PUBMED = PromptFormat(
    instruction="Answer the question from the passages. Begin with yes, no or maybe, then give the reason.",
    passages=4,
    passage_words=50,
)


@dataclass(frozen=True)
class Data:
    """One data set: where its rows stand, what is tested, and what an answer may rest on.

    passages: of each test row, by its id. decisions: the right one of yes, no and maybe, where rows have one.
    """

    name: str
    files: Mapping[str, str]
    test: Sequence[Completion]
    passages: Mapping[str, tuple[str, ...]]
    decisions: Mapping[str, str]
    new_tokens: int
    quick: bool


def pubmedqa(folder: Path, *, quick: bool) -> Data:
    """Questions on abstracts (Jin et al. 2019, arXiv 1909.06146): the official test ids, the others to train on.

    An answer is the decision and the abstract's conclusion. The abstract's other parts are the passages, each cut to
    its first 50 words.
    """
    source = data_folder("pubmedqa")
    found = json.loads((source / "ori_pqal.json").read_text(encoding="utf-8"))
    official = json.loads((source / "test_ground_truth.json").read_text(encoding="utf-8"))
    rows = {key: _question(key, row) for key, row in found.items()}
    others = [row for key, row in rows.items() if key not in official]
    dev = sample(others, 8, seed=SEED)
    train = sample([row for row in others if row not in dev], 16 if quick else TRAIN, seed=SEED)
    test = sample([rows[key] for key in official], 6 if quick else TEST, seed=SEED)
    sides = {"train": train, "dev": dev, "test": test}
    files = {side: str(folder / "pubmedqa" / f"{side}.jsonl") for side in sides}
    for side, of in sides.items():
        write_text(Path(files[side]), dump_jsonl(map(PUBMED.completion, of)))
    return Data(
        name="PubMedQA",
        files=files,
        test=read_jsonl(Path(files["test"]), Completion),
        passages={row.id: tuple(map(PUBMED.piece, row.passages)) for row in test},
        decisions={key: str(official[key]) for key in (row.id for row in test)},
        new_tokens=24 if quick else 48,
        quick=quick,
    )


def _question(key: str, row: Mapping[str, object]) -> RagRow:
    contexts, labels = row["CONTEXTS"], row["LABELS"]
    assert isinstance(contexts, list)
    assert isinstance(labels, list)
    titles = [*map(str.capitalize, labels), *[""] * len(contexts)]
    chunks = [Chunk(id=f"{key}.{n}", title=titles[n], text=text) for n, text in enumerate(contexts[: PUBMED.passages])]
    decision, reason = str(row["final_decision"]), " ".join(str(row["LONG_ANSWER"]).split())
    return RagRow(
        id=key,
        question=str(row["QUESTION"]),
        passages=tuple(chunks),
        answer=f"{decision.capitalize()}. {reason}",
    )


def summaries(folder: Path, *, quick: bool) -> Data:
    """SciTLDR (Cachola et al. 2020, arXiv 2004.15011): an abstract, and what the paper shows in one sentence."""
    files = scitldr(folder / "scitldr", train_rows=16 if quick else TRAIN, test_rows=6 if quick else TEST, seed=SEED)
    test = read_jsonl(Path(files["test"]), Completion)
    passages = {row.id: (_asked(row).partition("\n\n")[2],) for row in test}
    return Data("SciTLDR", files, test, passages, {}, new_tokens=24 if quick else 32, quick=quick)


def _asked(row: Completion) -> str:
    assert not isinstance(row.prompt, str)
    return row.prompt[-1].content


def decision(text: str) -> str:
    """Return the first of yes, no and maybe among a text's words; nothing where it has none."""
    return next((word for word in words(text) if word in DECISIONS), "")


def reason(text: str) -> str:
    """Return what an answer says beside its decision, which no passage holds word for word."""
    return _DECIDED.sub("", text, count=1)


DATA = {"PubMedQA": pubmedqa, "SciTLDR": summaries}
