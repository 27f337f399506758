"""Reward models: scores whose differences are preferences, the same in other libraries, and of any backbone."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from burnish.models.quiet import quiet
from burnish.models.reward import conversation_ids, load_reward
from burnish.preference_rows import Preference
from burnish.records import Message
from burnish.tasks.reward import Reward
from learn import check_micro_batches, learn

WORDS = ("cat", "dog", "red fish", "a bird and the cat", "green", "one two three", "left", "what is it")
ROWS = [
    Preference(
        id=text, prompt=(Message(role="user", content=f"the {text}"),), chosen="yes " * (1 + n % 3), rejected="no"
    )
    for n, text in enumerate(WORDS)
]
MAKERS = {"bert": tiny.tiny_bert, "llama": tiny.tiny_llama, "t5": tiny.tiny_t5}
kinds = pytest.mark.parametrize("kind", MAKERS)


@kinds
def test_a_trained_model_is_loaded_elsewhere_and_gives_equal_scores(kind: str, tmp_path: Path):
    task = Reward()
    built = task.build(str(MAKERS[kind](tmp_path / "base")))
    losses = learn(task, built, ROWS, tmp_path, steps=16, rate=3e-3)
    assert losses[-1] < losses[0]
    margins = task.predictions(built.model, built, ROWS, reads="margins", progress=lambda *_: None)
    assert min(margins) > 0
    task.save(built.model, built, tmp_path / "model")
    reward = load_reward(str(tmp_path / "model"))
    prompts = [row.prompt for row in ROWS]
    chosen, rejected = (reward.score(prompts, [getattr(row, side) for row in ROWS]) for side in ("chosen", "rejected"))
    assert [a - b for a, b in zip(chosen, rejected, strict=True)] == pytest.approx(margins, abs=1e-5)
    with quiet():
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    for ids, score in zip(
        conversation_ids(prompts, [row.chosen for row in ROWS], reward.tokenizer), chosen, strict=True
    ):
        with torch.no_grad():
            assert theirs(input_ids=torch.tensor([ids])).logits.item() == pytest.approx(score, abs=1e-5)


@kinds
def test_micro_batches_do_not_change_the_step(kind: str, tmp_path: Path):
    check_micro_batches(Reward(), Reward().build(str(MAKERS[kind](tmp_path / "base"))), ROWS)


def test_the_chat_template_writes_the_conversation(tmp_path: Path):
    built = Reward().build(str(tiny.tiny_llama(tmp_path)))
    [ids] = conversation_ids(["the cat"], ["yes"], built.tokenizer)
    said = built.tokenizer.decode(ids)
    assert " ".join(said.split()) == "<|start|> user the cat <|end|> <|start|> assistant yes <|end|>"


def test_a_margin_in_the_rows_raises_the_loss(tmp_path: Path):
    task, built = Reward(), Reward().build(str(tiny.tiny_bert(tmp_path)))
    wide = [row.model_copy(update={"margin": 2.0}) for row in ROWS]
    plain, asked = (
        task.total_loss(built.model.eval(), task.collate(task.encode(rows, built).items)).item()
        for rows in (ROWS, wide)
    )
    assert asked > plain + 8


def test_long_rows_are_left_out_and_counted(tmp_path: Path):
    built = Reward().build(str(tiny.tiny_bert(tmp_path)))
    long = ROWS[0].model_copy(update={"id": "long", "chosen": "yes " * 40})
    found = Reward(max_tokens=32).encode([*ROWS, long], built)
    assert (len(found.items), found.notes) == (8, {"rows of more than 32 tokens left out": 1})
