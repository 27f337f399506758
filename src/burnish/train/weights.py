"""The weights as the optimizer sees them: fp32 masters behind whatever the model computes in."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Weights:
    """The trainable weights as the optimizer sees them: fp32, whatever the model computes in.

    Where the model computes in fp32, these are its own parameters. In bf16 the model holds rounded copies; gradients of
    all micro-batches are added up in fp32, and each step writes the rounded result back.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, *, keep_start: bool = False) -> None:
        """Take the fp32 weights of the model, then cast the whole model once.

        keep_start: remember them, for `pull` and `interpolate`.
        """
        trainable = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        self._rounded = dtype != torch.float32
        self.names = [name for name, _ in trainable]
        self.masters = [
            nn.Parameter(weight.detach().float().clone()) if self._rounded else weight for _, weight in trainable
        ]
        numbers = [weight for weight in model.parameters() if weight.is_floating_point()]  # and not codes of four bits
        frozen = [weight for weight in numbers if not weight.requires_grad]
        self._frozen = [(weight, weight.detach()) for weight in frozen] if self._rounded else []
        for weight in numbers:  # not buffers: rotary frequencies would lose the places of far tokens
            weight.data = weight.data.to(dtype)
        self._working = [weight for _, weight in trainable]
        self.kept: Sequence[Tensor] = ()  # by the task beside them: a checkpoint holds it
        self.parts: Sequence[str] = ()  # of the model, first words of names: `clip` notes each one's norm in `norms`
        self.norms: dict[str, float] = {}
        self._start = [master.detach().clone() for master in self.masters] if keep_start else self.masters
        for master in self.masters:
            master.grad = torch.zeros_like(master)

    def open(self, moving: Sequence[bool]) -> None:
        """Let only these weights move: the others get no gradient, so that the backward pass ends above them."""
        for weight, master, moves in zip(self._working, self.masters, moving, strict=True):
            weight.requires_grad_(moves)
            if moves and master.grad is None:
                master.grad = torch.zeros_like(master)
            elif not moves:
                master.grad = None

    def collect(self) -> None:
        """Add the model's gradients to the masters' and clear them; call after each micro-batch."""
        if self._rounded:
            for master, weight in zip(self.masters, self._working, strict=True):
                if weight.grad is not None and master.grad is not None:
                    master.grad.add_(weight.grad)
                    weight.grad = None

    @torch.no_grad()
    def pull(self, strength: float) -> None:
        """Add the gradient of strength/2 · |w - start|² (L2-SP, Li et al. 2018, arXiv 1802.01483)."""
        if not strength:
            return
        for master, start in zip(self.masters, self._start, strict=True):
            if master.grad is not None:
                master.grad.add_(master - start, alpha=strength)

    def clip(self, limit: float) -> float:
        """Scale the gradients to the largest allowed norm; return the norm before."""
        gradients = self.gradients()
        each = torch.stack(torch._foreach_norm(gradients))
        norm = torch.linalg.vector_norm(each).item()
        owners = [
            name.split(".")[0] for name, master in zip(self.names, self.masters, strict=True) if master.grad is not None
        ]
        self.norms = {
            f"grad_norm {part}": torch.linalg.vector_norm(each[[owner == part for owner in owners]]).item()
            for part in self.parts
        }
        if norm > limit:
            torch._foreach_mul_(gradients, limit / norm)
        return float(norm)

    @torch.no_grad()
    def interpolate(self, share: float) -> None:
        """Go back towards the start, whose share is 1 - share (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903)."""
        if share < 1:
            self.load([start.lerp(master, share) for master, start in zip(self.masters, self._start, strict=True)])

    def clear(self) -> None:
        """Set the gradients to zero."""
        torch._foreach_zero_(self.gradients())

    def forget(self) -> None:
        """Forget what a pass that came to no end has left."""
        for weight in self._working if self._rounded else ():
            weight.grad = None
        self.clear()

    def gradients(self) -> list[Tensor]:
        """Return the masters' gradients."""
        return [master.grad for master in self.masters if master.grad is not None]

    @torch.no_grad()
    def publish(self) -> None:
        """Write the masters into the model, rounded."""
        if self._rounded:
            torch._foreach_copy_(list(self._working), list(self.masters))

    @torch.no_grad()
    def load(self, values: Iterable[Tensor]) -> None:
        """Set the masters, and the model with them."""
        for master, value in zip(self.masters, values, strict=True):
            master.copy_(value)
        self.publish()

    @property
    def stored(self) -> list[Tensor]:
        """What a checkpoint holds of them: the masters, and what the task keeps."""
        return [*self.masters, *self.kept]

    @torch.no_grad()
    def resume(self, values: Sequence[Tensor]) -> None:
        """Set all that a checkpoint holds, and the model with it."""
        self.load(values[: len(self.masters)])
        for kept, value in zip(self.kept, values[len(self.masters) :], strict=True):
            kept.copy_(value)

    @torch.no_grad()
    def restore(self) -> None:
        """Turn the model back to fp32: the masters exactly, the frozen weights as they were loaded."""
        if self._rounded:
            for weight, original in self._frozen:
                weight.data = original
            for weight, master in zip(self._working, self.masters, strict=True):
                weight.data = master.detach()
