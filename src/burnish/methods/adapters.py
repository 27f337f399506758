"""Bottleneck adapters: small new layers between the frozen ones, in a format of our own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from burnish.additions.form import Form, Settings
from burnish.errors import ModelError
from burnish.methods import Method

NAME = "bottleneck"  # of the new module inside the linear layer that it follows

Variant = Literal["houlsby", "pfeiffer", "parallel"]


class Adapters(Method):
    """Train bottlenecks between the frozen blocks (Houlsby et al. 2019, arXiv 1902.00751): h + scale·up(f(down(h))).

    houlsby: one behind each attention and one behind each feed-forward block; swish.
    pfeiffer: behind the feed-forward blocks alone, on a par with half the weights (Pfeiffer et al. 2021, arXiv
    2005.00247); relu.
    parallel: beside the feed-forward blocks, from their input to their output, four times as strong (He et al. 2022,
    arXiv 2110.04366); relu.

    Each stands before the residual sum, and `up` starts at zero, so that the model starts as itself. 2e-3 lies
    below T-Few's 3e-3 and above AdapterHub's 1e-4: after 40 steps of a small task, 1e-3 and 3e-4 still guessed among
    the answers, 2e-3 knew most and 3e-3 all (SmolLM2-135M, one seed); a long run may want less. No other library has
    this format: what is saved is read back by `FORM.load`, and cannot be merged into the network, as f is not
    linear.
    """

    _REDUCTION: ClassVar[dict[Variant, int]] = {"houlsby": 16, "pfeiffer": 16, "parallel": 2}

    learning_rate: float = 2e-3
    variant: Variant = "pfeiffer"
    reduction: int | None = Field(default=None, ge=1)  # width of the network over the bottleneck's; None: the paper's

    def apply(self, model: nn.Module, *, fresh: tuple[str, ...] = ()) -> nn.Module:
        """Put the adapters into the network; they and the new parts train, and are all that is saved.

        Raises:
            ModelError: the network is saved in a form that has no place for them, or its blocks cannot be told apart.
        """
        if not isinstance(model, PreTrainedModel):
            raise ModelError(
                f"method adapters: {type(model).__name__} is saved for other libraries, which know no such layers, "
                "and they cannot be merged. Use lora or full"
            )
        reduction = self.reduction or self._REDUCTION[self.variant]
        settings = BottleneckConfig(variant=self.variant, reduction=reduction, fresh=fresh, base=model.name_or_path)
        FORM.inject(model, settings)
        FORM.train_alone(model, fresh)
        return model


class BottleneckConfig(Settings):
    """What adapters are made of."""

    variant: Variant
    reduction: int = Field(ge=1)


class Bottleneck(nn.Module):
    """What is added to a block's output: scale·up(f(down(x))), nothing at first."""

    def __init__(self, width: int, config: BottleneckConfig) -> None:
        """Draw `down` at random, and set `up` to zero."""
        super().__init__()
        inner = max(1, width // config.reduction)
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.activation = functional.silu if config.variant == "houlsby" else functional.relu
        self.scale = 4.0 if config.variant == "parallel" else 1.0
        self.on = True
        self.input: Tensor | None = None  # of the feed-forward block, until its output is there

    def forward(self, values: Tensor) -> Tensor:
        """Return what is added; values: (…, width)."""
        added: Tensor = self.up(self.activation(self.down(values)))
        return added * self.scale


class _Block(NamedTuple):
    """The linear layers that a block of the network begins and ends with."""

    first: nn.Module
    last: nn.Module
    name: str  # of the last


def _put(network: nn.Module, config: BottleneckConfig) -> None:
    """Put new adapters into the network, in place.

    Raises:
        ModelError: its blocks cannot be told apart.
    """
    attention, feedforward = _blocks(network, config.fresh)
    outer: Any = network
    device, training = next(network.parameters()).device, network.training
    for block in [*(attention if config.variant == "houlsby" else []), *feedforward]:
        bottleneck = Bottleneck(outer.config.hidden_size, config).to(device).train(training)
        block.last.add_module(NAME, bottleneck)
        if config.variant == "parallel":
            block.first.register_forward_pre_hook(partial(_note_input, bottleneck))
            block.last.register_forward_hook(_add_from_input)
        else:
            block.last.register_forward_hook(_add_from_output)


FORM = Form(name=NAME, method="adapters", what="adapters", settings=BottleneckConfig, put=_put)


@contextmanager
def switched_off(network: nn.Module) -> Iterator[None]:
    """Let the network compute as if it had no adapters; its new parts stay as they are."""
    bottlenecks = _bottlenecks(network)
    for bottleneck in bottlenecks:
        bottleneck.on = False
    try:
        yield
    finally:
        for bottleneck in bottlenecks:
            bottleneck.on = True


def _note_input(bottleneck: Bottleneck, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    bottleneck.input = inputs[0]


def _add_from_input(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    bottleneck = _bottleneck_of(layer)
    values, bottleneck.input = bottleneck.input, None
    assert values is not None  # the block's first layer comes before its last
    return output + bottleneck(values) if bottleneck.on else output


def _add_from_output(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    bottleneck = _bottleneck_of(layer)
    return output + bottleneck(output) if bottleneck.on else output


def _bottleneck_of(layer: nn.Module) -> Bottleneck:
    bottleneck = layer.get_submodule(NAME)
    assert isinstance(bottleneck, Bottleneck)
    return bottleneck


def _bottlenecks(network: nn.Module) -> list[Bottleneck]:
    return [module for module in network.modules() if isinstance(module, Bottleneck)]


def _blocks(network: nn.Module, fresh: tuple[str, ...]) -> tuple[list[_Block], list[_Block]]:
    """Return the attention blocks and the feed-forward blocks, each in the network's order.

    An attention is what its class is called so, from the outermost; of the linear layers of a numbered layer that
    stand in no attention, the feed-forward block is made. A block ends with its last linear layer.

    Raises:
        ModelError: they cannot be told apart, or do not end at the network's own width.
    """
    attentions: list[str] = []
    for name, module in network.named_modules():
        if "attention" in type(module).__name__.lower() and not f"{name}.".startswith(tuple(attentions)):
            attentions.append(f"{name}.")
    inside: dict[str, list[str]] = {name: [] for name in attentions}
    beside: dict[str, list[str]] = {}
    layers = _linear_layers(network)
    for name in layers:
        owner = next((prefix for prefix in attentions if name.startswith(prefix)), None)
        if owner is not None:
            inside[owner].append(name)
        elif _numbered(name) and not f"{name}.".startswith(fresh):
            beside.setdefault(_numbered(name), []).append(name)
    attention, feedforward = (
        [_Block(layers[group[0]], layers[group[-1]], group[-1]) for group in groups.values() if group]
        for groups in (inside, beside)
    )
    _check_blocks(network, attention, feedforward)
    return attention, feedforward


def _linear_layers(network: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear | Conv1D)}


def _numbered(name: str) -> str:
    """Return a name up to its last number, or an empty string: `h.0.mlp.c_fc` stands in `h.0`."""
    parts = name.split(".")
    last = max((place for place, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])


def _check_blocks(network: nn.Module, attention: Sequence[_Block], feedforward: Sequence[_Block]) -> None:
    """Check that what was found can be the blocks of a transformer.

    Raises:
        ModelError: it cannot.
    """
    outer: Any = network
    name, width = type(network).__name__, outer.config.hidden_size
    experts = [module for module, _ in network.named_modules() if "expert" in module.lower()]
    wrong = [block.name for block in [*attention, *feedforward] if _outputs(block.last) != width]
    reason = ""
    if experts:
        reason = f"its feed-forward blocks are several experts ({experts[0]})"
    elif not feedforward or len(attention) < len(feedforward):
        reason = f"{len(attention)} attention and {len(feedforward)} feed-forward blocks were found"
    elif wrong:
        reason = f"{wrong[0]}, the last of its block, does not end at the network's width of {width}"
    if reason:
        linear = sorted({layer.rpartition(".")[2] for layer in _linear_layers(network)})
        raise ModelError(
            f"method adapters cannot tell the blocks of {name} apart: {reason}. Its linear layers are called "
            f"{', '.join(linear) or '(there are none)'}. Use lora or full"
        )


def _outputs(layer: nn.Module) -> int:
    """Return how many numbers a linear layer gives."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[1 if isinstance(layer, Conv1D) else 0])
