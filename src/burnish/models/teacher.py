"""A larger model whose every next-token distribution a smaller one learns: loaded beside it, frozen, never saved."""

from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.models.completions import CompletionBatch, completion_logits
from burnish.models.divergence import divergence, jensen_shannon, reverse_divergence
from burnish.models.load import is_encoder_decoder, load_tokenizer, load_writer, resolve
from burnish.spec import Spec

_OF = {"forward": divergence, "reverse": reverse_divergence, "jensen_shannon": jensen_shannon}
_teachers: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()  # by student: nothing of them is saved


class Teacher(Spec):
    """Distillation on logits: at each trained token, (1 - weight) · loss + weight · T² · D(teacher, student).

    Both distributions are at temperature T, whose square keeps the gradient's size (Hinton et al. 2015, arXiv
    1503.02531). divergence: forward KL(teacher‖student), which covers all that the teacher may say; reverse
    KL(student‖teacher), which seeks what it says most (MiniLLM, Gu et al. 2024, arXiv 2306.08543); or Jensen-Shannon's,
    between them and bounded (GKD, Agarwal et al. 2024, arXiv 2306.13649, at β = ½). The teacher reads each batch in the
    same step, without gradients or dropout.
    """

    model: str
    divergence: Literal["forward", "reverse", "jensen_shannon"] = "forward"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    weight: float = Field(default=0.5, gt=0, le=1)

    def require_same_tokens(self, student: Any, tokenizer: Any) -> None:
        """Check that teacher and student mean the same by the same numbers.

        Raises:
            ModelError: their tokenizers differ, or one is an encoder-decoder and the other is not.
        """
        folder = resolve(self.model)
        if is_encoder_decoder(self.model) != student.config.is_encoder_decoder:
            raise ModelError(
                f"task.teacher {self.model}: of teacher and student one is an encoder-decoder and the other a decoder; "
                f"they read prompts in different ways. {_INSTEAD}"
            )
        theirs = load_tokenizer(self.model, folder)
        ours, known = tokenizer.get_vocab(), theirs.get_vocab()
        if ours != known:
            other = sum(known.get(token) != number for token, number in ours.items())
            raise ModelError(
                f"task.teacher {self.model}: its tokenizer is another one than the student's: {other:,} of the "
                f"student's {len(ours):,} tokens have another number there or none, so that its predictions are of "
                f"other tokens. {_INSTEAD}"
            )
        sample = "A naïve test, of 12 tokens;\n\n  and one line more."
        if tokenizer(sample)["input_ids"] != theirs(sample)["input_ids"]:
            raise ModelError(
                f"task.teacher {self.model}: its tokenizer has the student's tokens and cuts text otherwise. {_INSTEAD}"
            )

    def begin(self, student: nn.Module) -> None:
        """Load the teacher in the student's number format, beside it."""
        weight = next(student.parameters())
        network, _ = load_writer(self.model, dtype=weight.dtype)
        _teachers[student] = network.to(weight.device).eval().requires_grad_(False)

    def pull(self, student: nn.Module, batch: CompletionBatch, logits: Tensor) -> Tensor:
        """Return T² · D summed over the trained tokens, a scalar.

        logits: the student's, (trained tokens, vocabulary). Where one of the two has more rows of padding behind the
        tokens, the columns that both have are compared.
        """
        with torch.no_grad():
            right = completion_logits(_teachers[student], batch)
        width = min(right.shape[1], logits.shape[1])
        return distance(right[:, :width], logits[:, :width], self)


_INSTEAD = "Distil on its answers instead: `burnish distill` writes them, and any model may be the teacher"


def distance(right: Tensor, found: Tensor, settings: Teacher) -> Tensor:
    """Return T² · D of two sets of logits, (rows, classes), summed over the rows."""
    warm = settings.temperature
    return _OF[settings.divergence](right / warm, found / warm) * warm**2
