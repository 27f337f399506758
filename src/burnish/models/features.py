"""Vectors of texts as a model gives them untrained, kept on disk by model and by texts."""

from collections.abc import Callable, Sequence

import torch
from safetensors.torch import load_file, save_file

from burnish.cache import cache_folder
from burnish.models.encode import Encoder
from burnish.models.precision import chosen_dtype
from burnish.run import new_folder
from burnish.text import fingerprint

LONGEST = 256  # tokens of a text that are read


def features(model: str, texts: Sequence[str], *, progress: Callable[[str, int, int], None]) -> torch.Tensor:
    """Return (texts, width) vectors of unit length in fp32, by the model's own pooling: the mean where it has none.

    Raises:
        ModelError: the model cannot be found, or is no text encoder or decoder.
    """
    progress(f"loading {model}", 0, 1)
    encoder = Encoder.load(model, dtype=chosen_dtype())
    kept = cache_folder() / "features" / f"{encoder.fingerprint()}-{fingerprint(*texts)}"
    if not kept.is_dir():  # it got its name when it was whole
        found, _ = encoder.encode(
            [encoder.format.passage("", text) for text in texts],
            max_tokens=min(LONGEST, encoder.longest),
            progress=lambda done, total: progress(f"reading with {model}", done, total),
        )
        with new_folder(kept) as beside:
            save_file({"vectors": found}, beside / "vectors.safetensors")
    return load_file(kept / "vectors.safetensors")["vectors"]
