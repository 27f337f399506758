from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from burnish.errors import DataError, ModelError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.methods.lora import Lora
from burnish.models import segments
from burnish.models.load import load_tokenizer
from burnish.models.padding import pad_right
from burnish.models.render import prompt_ids, render
from burnish.records import Completion, Message
from burnish.tasks import Built
from burnish.tasks.generate import Generate
from learn import fit_items

UNLIKE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\nyes {% endif %}"  # which no answered chat holds
)
UNENDED = (
    "{% for message in messages %}{{ message['role'] }}\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def built(folder: Path) -> Built:
    return Generate().build(str(folder))


def test_the_loss_is_the_full_cross_entropy_over_labels_that_hide_the_prompt(folder: Path, built: Built):
    task, rows = Generate(), tiny.completions(9)
    items = task.encode(rows, built).items
    batch = task.collate(items)
    ids, mask = pad_right([(*item.prompt, *item.completion) for item in items])
    labels = torch.full_like(ids, -100)
    for row, item in enumerate(items):
        labels[row, len(item.prompt) : item.tokens] = torch.tensor(item.completion)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss = task.total_loss(built.model, batch) / task.count(batch)
    assert task.count(batch) == (labels != -100).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_is_the_sum_over_its_rows(built: Built):
    task = Generate(loss=CrossEntropy(label_smoothing=0.1))
    items = task.encode(tiny.completions(9), built).items
    with torch.no_grad():
        whole = task.total_loss(built.model, task.collate(items)).item()
        single = sum(task.total_loss(built.model, task.collate([item])).item() for item in items)
    assert whole == pytest.approx(single, rel=1e-5)


def test_an_adapters_loss_is_that_of_its_whole_forward_pass(built: Built):
    task = Generate()
    model = Lora(rank=2).apply(built.model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    [item] = task.encode(tiny.completions(1), built).items
    ids = torch.tensor([item.prompt + item.completion])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(item.prompt) - 1 : -1]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(item.completion), reduction="sum")
        loss = task.total_loss(model, task.collate([item]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_prompt_is_what_the_model_will_meet_when_it_writes(built: Built):
    rows = tiny.completions(5)
    items = Generate().encode(rows, built).items
    assert [list(item.prompt) for item in items] == prompt_ids([row.prompt for row in rows], built.tokenizer)
    for item, row in zip(items, rows, strict=True):
        assert built.tokenizer.convert_ids_to_tokens(item.completion) == [*row.completion.split(), "<|end|>"]


def test_a_prompt_of_plain_text_needs_no_template(built: Built):
    [item] = Generate().encode([Completion(id="a", prompt="open the file", completion="yes")], built).items
    assert built.tokenizer.decode(item.prompt) == "open the file"
    assert built.tokenizer.convert_ids_to_tokens(item.completion) == ["yes", "<|end|>"]


def test_a_chat_without_a_template_is_refused(folder: Path):
    tokenizer = load_tokenizer("plain", folder)
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="has no chat template; use a chat model, or prompts of plain text"):
        prompt_ids([[Message(role="user", content="yes")]], tokenizer)


def test_rows_that_are_too_long_are_left_out_and_counted(built: Built):
    rows = tiny.completions(12)
    longest = max(item.tokens for item in Generate().encode(rows, built).items)
    task = Generate(max_tokens=longest - 1)
    encoded = task.encode(rows, built)
    left = encoded.notes[f"rows of more than {longest - 1} tokens left out"]
    assert left + len(encoded.items) == 12
    assert left > 0
    assert all(item.tokens < longest for item in encoded.items)


def test_the_audit_shows_the_trained_tokens_of_three_rows(built: Built):
    rows = tiny.completions(5)
    lines = Generate().audit(Generate().encode(rows, built).items, built)
    assert len(lines) == 3
    for line, row in zip(lines, rows, strict=False):
        assert line.endswith(f"⟶ trained: '{row.completion} <|end|>'")
        assert "assistant" in line.split("⟶")[0]


def test_a_template_that_renders_training_and_writing_differently_is_refused(tmp_path: Path):
    built = Generate().build(str(tiny.tiny_llama(tmp_path, template=UNLIKE)))
    with pytest.raises(DataError, match=r"row 'row0': .*renders the prompt one way for training and another"):
        Generate().encode(tiny.completions(3), built)


def test_an_end_of_turn_that_the_template_leaves_out_is_trained_all_the_same(tmp_path: Path):
    built = Generate().build(str(tiny.tiny_llama(tmp_path, template=UNENDED)))
    items = Generate().encode(tiny.completions(3), built).items
    Generate().audit(items, built)
    assert all(item.completion[-1] == built.tokenizer.eos_token_id for item in items)


def test_a_row_without_a_prompt_is_refused(built: Built):
    with pytest.raises(DataError, match=r"row 'lone': the prompt has no tokens"):
        Generate().encode([Completion(id="lone", prompt="", completion="yes")], built)


def test_an_answer_that_holds_the_end_of_the_turn_is_refused(built: Built):
    end = built.tokenizer.eos_token
    with pytest.raises(DataError, match=r"row 'early': the completion holds '.*', which ends the model's turn"):
        Generate().encode([Completion(id="early", prompt="who", completion=f"yes {end} no")], built)


def test_the_dev_score_is_the_mean_log_likelihood_of_a_trained_token(built: Built):
    task, rows = Generate(loss=CrossEntropy(label_smoothing=0.5)), tiny.completions(9)
    batch = task.collate(task.encode(rows, built).items)
    with torch.no_grad():
        expected = -Generate().total_loss(built.model, batch).item() / task.count(batch)
        assert task.dev_score(built.model, built, rows) == pytest.approx(expected, rel=1e-5)


def test_dev_rows_that_are_all_too_long_are_an_error_that_says_so(built: Built):
    with pytest.raises(DataError, match="no dev row is left"), torch.no_grad():
        Generate(max_tokens=2).dev_score(built.model, built, tiny.completions(2))


def test_a_tokenizer_without_an_end_token_is_refused(folder: Path):
    tokenizer = load_tokenizer("tiny", folder)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="its tokenizer has no end token, which tells where an answer ends"):
        render(tiny.completions(1), tokenizer)


def test_plain_and_chat_prompts_of_one_table_are_each_read_in_their_own_way(tmp_path: Path):
    tokenizer = load_tokenizer("m", tiny.tiny_llama(tmp_path))
    chat = (Message(role="user", content="red cat"),)
    mixed = prompt_ids(["red cat", chat, "dog"], tokenizer)
    assert mixed == [prompt_ids([prompt], tokenizer)[0] for prompt in ("red cat", chat, "dog")]


@pytest.mark.parametrize("method", [Full(), Lora()])
def test_a_run_without_padding_is_the_run_with_it(
    method: Method, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def losses(name: str) -> list[float]:
        task, parts = Generate(), Generate().build(str(folder))
        items = task.encode(tiny.completions(24), parts).items
        torch.manual_seed(0)
        model = method.apply(parts.model)
        assert segments.is_packed(model) == (name == "packed")
        return fit_items(task, model, items, tmp_path / name, method=method, fresh=(), epochs=2, batch=8)

    packed = losses("packed")
    monkeypatch.setattr(segments, "can_cut", lambda _: False)
    assert packed == pytest.approx(losses("padded"), rel=1e-5)


def conversation(*, answers_from: int | None = 0) -> Completion:
    turns = (("user", "how ?"), ("assistant", "one two"), ("user", "sort"), ("assistant", "red"), ("user", "last ?"))
    prompt = tuple(Message.model_validate({"role": role, "content": content}) for role, content in turns)
    return Completion(id="c", prompt=prompt, completion="four", answers_from=answers_from)


def test_every_answer_of_a_conversation_is_trained_with_its_end(built: Built):
    rows = [conversation(), *tiny.completions(3)]
    [item, *_] = items = Generate().encode(rows, built).items
    words = built.tokenizer.convert_ids_to_tokens
    assert [words(answer) for answer in item.answers] == [
        ["one", "two", "<|end|>"],
        ["red", "<|end|>"],
        ["four", "<|end|>"],
    ]
    assert Generate().count(Generate().collate([item])) == 7
    [line, *_] = Generate().audit(items, built)
    assert line.endswith("trained: 'one two <|end|>' … 'red <|end|>' … 'four <|end|>'")


def test_a_conversations_loss_is_that_of_its_answers_one_by_one(built: Built):
    row, task = conversation(), Generate()
    ends = [place for place, turn in enumerate(row.prompt) if isinstance(turn, Message) and turn.role == "assistant"]
    alone = [
        Completion(id=str(end), prompt=row.prompt[:end], completion=row.prompt[end].content)  # type: ignore[union-attr]
        for end in ends
    ]
    others = tiny.completions(2)
    with torch.no_grad():
        whole = task.total_loss(built.model, task.collate(task.encode([row, *others], built).items))
        apart = [row.model_copy(update={"answers_from": None}), *alone, *others]
        single = task.total_loss(built.model, task.collate(task.encode(apart, built).items))
    torch.testing.assert_close(whole, single)


def test_the_last_answer_alone_is_trained_where_that_is_asked_for_or_the_row_is_a_prompt(built: Built):
    for task, row in ((Generate(turns="last"), conversation()), (Generate(), conversation(answers_from=None))):
        [item] = task.encode([row], built).items
        assert [built.tokenizer.decode(answer) for answer in item.answers] == ["four <|end|>"]


def test_an_answer_to_be_trained_answers_something():
    with pytest.raises(ValueError, match="message 2 of the prompt is an answer to be trained, and answers nothing"):
        Completion(
            id="a",
            prompt=(
                Message(role="system", content="a"),
                Message(role="assistant", content="b"),
                Message(role="user", content="c"),
            ),
            completion="d",
            answers_from=0,
        )


def test_a_template_that_shows_earlier_answers_otherwise_is_refused(tmp_path: Path):
    shortened = tiny.CHAT_TEMPLATE.replace(
        "{{ message['content'] }}",
        "{{ 'and' if message['role'] == 'assistant' and not loop.last else message['content'] }}",
    )
    other = Generate().build(str(tiny.tiny_llama(tmp_path, template=shortened)))
    with pytest.raises(DataError, match="row 'c': the model's chat template shows answer 1 otherwise once the conv"):
        Generate().encode([conversation()], other)
    assert Generate(turns="last").encode([conversation()], other).items


def test_an_encoder_decoder_learns_the_last_answer_and_says_so(tmp_path: Path):
    writer = Generate().build(str(tiny.tiny_t5(tmp_path)))
    found = Generate().encode([conversation()], writer)
    assert found.notes == {"conversations of which an encoder-decoder learns the last answer alone": 1}
    assert len(found.items[0].answers) == 1
