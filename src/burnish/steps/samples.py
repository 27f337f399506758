"""Samples: questions with their passages, and the answer before and after, for a person to read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from burnish.evaluation.measure import Measured
from burnish.prepare.corpus import Prepared
from burnish.records import Question
from burnish.run import write_text

SHOWN = 200


def write_samples(path: Path, data: Prepared, questions: Sequence[Question], measured: Mapping[str, Measured]) -> None:
    """Write one line a question: the best earlier answer rung is "before", the last one "after"."""
    answering = [name for name, found in measured.items() if found.kind == "answer"]
    if len(answering) < 2:
        return
    after = answering[-1]
    before = max(answering[:-1], key=lambda name: sum(measured[name].right.values()))
    chunks = {chunk.id: chunk for chunk in data.chunks}
    lines = [
        json.dumps(
            {
                "id": question.id,
                "question": question.question,
                "answers": question.answers,
                "gold": question.gold,
                "passages": [
                    {"id": chunk, "title": chunks[chunk].title, "text": chunks[chunk].text}
                    for chunk in measured[after].rankings[question.id]
                ],
                **{
                    when: {
                        "rung": name,
                        "text": measured[name].answers[question.id],
                        "right": measured[name].right[question.id],
                    }
                    for when, name in (("before", before), ("after", after))
                },
            },
            ensure_ascii=False,
        )
        for question in questions[:SHOWN]
    ]
    write_text(path, "".join(line + "\n" for line in lines))
