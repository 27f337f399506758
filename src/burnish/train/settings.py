"""The settings of a training run."""

from typing import Literal

from pydantic import Field

from burnish.spec import Spec


class Training(Spec):
    """How the weights move. What a method or a task knows better is not asked here."""

    epochs: float = Field(default=3.0, gt=0)
    batch: int = Field(default=32, ge=1)  # rows a step, over all processes: what the optimizer sees
    micro_tokens: int = Field(default=8192, ge=1)  # padded tokens a pass, halved where memory ends; numbers stay
    gradient_checkpointing: bool = False  # layers keep their input alone, and are computed again: memory for time
    learning_rate: float | None = Field(default=None, gt=0)  # None: the method's own
    head_learning_rate: float | None = Field(default=None, gt=0)  # new parts; None: 10 × the rate, at most 1e-2
    layer_decay: float = Field(default=1.0, gt=0, le=1)  # the rate of each layer below is multiplied by this
    optimizer: Literal["adamw", "adafactor", "adamw_8bit"] = "adamw"  # the others keep less for each weight
    weight_decay: float = Field(default=0.01, ge=0)  # not on norms and biases
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float | None = Field(default=None, ge=0, le=1)  # share of the steps; None: the method's own
    l2_start: float = Field(default=0.0, ge=0)  # pull of each weight to where it started (L2-SP), against forgetting
    interpolate: float = Field(default=1.0, gt=0, le=1)  # at the end: start + share · (trained - start) (WiSE-FT)
    clip: float = Field(default=1.0, gt=0)  # largest norm of the gradient
    dropout: float | None = Field(default=None, ge=0, lt=1)  # None: as the model says
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: what a timing of this chip's GEMM favours
    evaluations: int = Field(default=3, ge=0)  # times the dev set is scored, evenly spread, the last step included
    patience: int = Field(default=0, ge=0)  # stop after so many evaluations without a better one; 0: never
    keep: Literal["best", "last"] = "best"  # which weights are saved, where there are evaluations
    checkpoint_every: int = Field(default=50, ge=0)  # steps; 0: only when a signal asks for one
