import random
from typing import Any

import pytest
import torch

import tiny
from burnish.models.decode import ROWS_A_PASS, shared_start, write_greedily
from burnish.models.load import load_causal


@pytest.fixture(scope="module", params=range(3))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.tiny_llama(tmp_path_factory.mktemp("llama"), seed=request.param)
    return load_causal(str(folder), dtype=torch.float32)[0].eval()


def prompts(count: int, *, shared: int) -> list[list[int]]:
    draw = random.Random(count)
    start = [draw.randrange(5, 60) for _ in range(shared)]
    return [start + [draw.randrange(5, 60) for _ in range(draw.randint(1, 20))] for _ in range(count)]


def expected(model: Any, prompt: list[int], *, end: int, length: int) -> list[int]:
    """Return what transformers writes for a prompt of its own."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length, eos_token_id=end
    )
    text = out[0, len(prompt) :].tolist()
    return text[: text.index(end)] if end in text else text


@pytest.mark.parametrize("shared", [0, 9])
def test_rows_are_written_as_transformers_writes_each_alone(model: Any, shared: int):
    rows = prompts(ROWS_A_PASS + 7, shared=shared)
    unended = write_greedily(model, rows, end=-1, max_new_tokens=12)
    end = max(range(5, 60), key=lambda token: sum(token in text[3:] for text in unended))  # so that some rows end
    written = write_greedily(model, rows, end=end, max_new_tokens=12)
    assert written == [expected(model, row, end=end, length=12) for row in rows]
    assert len({len(text) for text in written}) > 1


def test_equal_prompts_get_equal_texts(model: Any):
    [prompt] = prompts(1, shared=5)
    written = write_greedily(model, [prompt] * 3, end=-1, max_new_tokens=6)
    assert written == [expected(model, prompt, end=-1, length=6)] * 3


def test_finished_prompts_are_counted_aloud(model: Any):
    seen: list[int] = []
    write_greedily(model, prompts(20, shared=0), end=3, max_new_tokens=2, done=seen.append)
    assert seen == [ROWS_A_PASS, 20]


def test_no_prompts_give_no_texts(model: Any):
    assert write_greedily(model, [], end=3, max_new_tokens=2) == []


def test_the_shared_start_leaves_each_prompt_a_token_of_its_own():
    assert shared_start([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert shared_start([[1, 2], [1, 2, 3]]) == 1
    assert shared_start([[1, 2, 3]] * 2) == 2
    assert shared_start([[1], [2]]) == 0
