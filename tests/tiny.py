"""Models small enough to make in memory: random weights, two layers, one word a token."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from burnish.models.quiet import quiet
from burnish.records import Completion, Labelled, Message, Pair

_ENGLISH = (
    "a an the is not and or of in to from what which who how where when it file list of text open close read write "
    "add remove sort cat dog bird fish red green blue left right first last one two three four five six seven "
    "eight nine ten question answer passage yes no true false system user assistant"
)
WORDS = [*_ENGLISH.split(), *(f"w{number}" for number in range(20))]
PIECES = r"<\|\w+\|>|\w+|[^\w\s]|\n"  # a special token, a word, a sign, a line end
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def tiny_bert(folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS, head: bool = False) -> Path:
    """Write a random BERT and its tokenizer; with its masked-language-model head instead of a pooler if `head`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = _words([*special, *words], unknown="[UNK]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.2,  # far enough apart that texts differ
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForMaskedLM(config) if head else BertModel(config)
    return _saved(model, fast, folder)


def tiny_llama(
    folder: Path,
    *,
    seed: int = 0,
    words: Sequence[str] = WORDS,
    tied: bool = True,
    template: str = CHAT_TEMPLATE,
    width: int = 32,
) -> Path:
    """Write a random Llama, its output layer tied to the embeddings or not, with a word tokenizer and a template."""
    tokenizer = _words(["<|pad|>", "<|unk|>", "<|start|>", "<|end|>", "\n", *words], unknown="<|unk|>")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        unk_token="<|unk|>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=128,
        initializer_range=0.4,  # far enough from zero that a frozen output layer can be sure of a token
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return _saved(model, fast, folder)


def tiny_t5(folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS) -> Path:
    """Write a random T5 and a word tokenizer that ends every text with its eos token."""
    tokenizer = _words(["<pad>", "</s>", "<unk>", *words], unknown="<unk>")
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=128,
    )
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
    return _saved(model, fast, folder)


def completions(count: int, *, seed: int = 0, longest: int = 12) -> list[Completion]:
    """Return chats of one question and an answer, of different lengths."""
    draw = random.Random(seed)
    return [
        Completion(
            id=f"row{number}",
            prompt=(Message(role="user", content=sentence(draw, 1 + number % longest)),),
            completion=sentence(draw, 1 + number % 4),
        )
        for number in range(count)
    ]


def labelled(count: int, *, seed: int = 0, longest: int = 8) -> list[Labelled]:
    """Return texts of different lengths about a cat or a dog, labelled by which."""
    draw = random.Random(seed)
    return [
        Labelled(
            id=f"row{n}", text=f"{('cat', 'dog')[n % 2]} {sentence(draw, 1 + n % (longest - 1))}", label="ab"[n % 2]
        )
        for n in range(count)
    ]


def pairs(count: int, *, seed: int = 0, longest: int = 12) -> list[Pair]:
    """Return queries of different lengths, each with one positive and one negative."""
    draw = random.Random(seed)
    return [
        Pair(
            id=f"row{number}",
            query=sentence(draw, 2 + number % 5),
            positives=(sentence(draw, 3 + number % longest),),
            negatives=(sentence(draw, 3 + number % longest),),
        )
        for number in range(count)
    ]


def sentence(draw: random.Random, length: int) -> str:
    """Return random words."""
    return " ".join(draw.choice(WORDS) for _ in range(length))


def _words(vocabulary: Sequence[str], *, unknown: str) -> Tokenizer:
    """Return a tokenizer with one token a word."""
    places = {word: place for place, word in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(WordLevel(places, unk_token=unknown))
    tokenizer.pre_tokenizer = Split(Regex(PIECES), behavior="removed", invert=True)
    return tokenizer


def _saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, to: Path) -> Path:
    with quiet():
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)
    return to
