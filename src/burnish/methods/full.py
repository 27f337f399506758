"""Full fine-tuning."""

from torch import nn

from burnish.methods import Method


class Full(Method):
    """Train every weight."""

    learning_rate: float = 5e-5

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:  # noqa: ARG002
        """Let every weight move."""
        for weight in model.parameters():
            weight.requires_grad = True
        return model
