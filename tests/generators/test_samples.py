"""Several texts a prompt: from a model on this machine, or from an address."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import tiny
from burnish.errors import RecipeError
from burnish.generators import Writer
from burnish.generators.endpoint import Endpoint
from burnish.generators.local import Local
from burnish.records import Message
from generators.test_endpoint import prompts, said, server

QUESTIONS = prompts("which dog", "the cat is not a bird", "one two three")


def silent(_: int) -> None:
    """Hear nothing."""


def test_a_local_model_draws_texts_that_a_prompt_has_in_any_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.generators.local.chosen_dtype", lambda _: torch.float32)  # company changes rounding
    model = str(tiny.tiny_llama(tmp_path))
    writer = Local(model=model, temperature=1.0, max_new_tokens=6, seed=1).load()
    counts: list[int] = []
    drawn = writer.sample(QUESTIONS, count=4, done=counts.append)
    assert [len(texts) for texts in drawn] == [4, 4, 4]
    assert len({text for texts in drawn for text in texts}) > 6
    assert counts == [12]
    assert writer.sample(QUESTIONS[:1], count=2, done=silent) == [drawn[0][:2]]
    assert writer.write(QUESTIONS, done=silent) == [texts[0] for texts in drawn]
    assert Local(model=model, temperature=1.0, max_new_tokens=6).load().sample(QUESTIONS, count=4, done=silent) != drawn


def test_an_address_is_asked_with_a_seed_for_each_text() -> None:
    def answer(body: dict[str, Any], _: dict[str, str]) -> tuple[int, str]:
        return said(f"{body['messages'][0]['content']}: {body['seed']} at {body['temperature']}")

    counts: list[int] = []
    with server(answer) as url:
        writer = Endpoint(url=url, model="m", temperature=0.7, seed=5).load()
        found = writer.sample(prompts("a", "b"), count=3, done=counts.append)
    assert found == [[f"{name}: {seed} at 0.7" for seed in (5, 6, 7)] for name in ("a", "b")]
    assert sorted(counts) == [*range(1, 7)]


@pytest.mark.parametrize(
    "loaded",
    [
        lambda folder: Local(model=str(tiny.tiny_llama(folder))).load(),
        lambda _: Endpoint(url="http://127.0.0.1:9", model="m").load(),
    ],
    ids=["local", "endpoint"],
)
def test_one_text_many_times_is_refused(loaded: Callable[[Path], Writer], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"generator (local|endpoint) has temperature 0, .* \{temperature: 0\.8\}"):
        loaded(tmp_path).sample(QUESTIONS, count=2, done=silent)


def test_a_nucleus_without_draws_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"top_p is 0\.9, and at temperature 0 nothing is drawn"):
        Local(model="m", top_p=0.9)


def test_a_chat_of_several_turns_is_drawn_after(tmp_path: Path) -> None:
    writer = Local(model=str(tiny.tiny_llama(tmp_path)), temperature=0.9, max_new_tokens=3).load()
    turns = [Message(role="user", content="the cat"), Message(role="assistant", content="yes"), *QUESTIONS[0]]
    [texts] = writer.sample([turns], count=5, done=silent)
    assert len(texts) == 5
