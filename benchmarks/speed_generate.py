"""Writing the answers that an evaluation reads, for benchmarks/speed.py: burnish beside transformers' `generate`."""

from pathlib import Path
from typing import Any

import torch
from generate_data import pubmedqa
from speed_work import OURS, Asked, System, Told, Work, clock

from burnish.models.decode import write
from burnish.models.load import load_writer
from burnish.models.precision import chosen_dtype
from burnish.models.render import prompt_ids
from burnish.records import Completion, dump_jsonl, read_jsonl
from burnish.run import write_text


def _begin(folder: Path, asked: Asked) -> Asked:
    """Write questions with their passages; the first ones warm up."""
    rows = read_jsonl(Path(pubmedqa(folder, quick=False).files["test"]), Completion)[: asked["steps"] * asked["batch"]]
    write_text(folder / "rows.jsonl", dump_jsonl(rows))
    return {"rows": str(folder / "rows.jsonl")}


def _turn(asked: Asked) -> Told:
    rows = read_jsonl(Path(asked["rows"]), Completion)
    ours = asked["system"].startswith("burnish")
    dtype = chosen_dtype(asked["precision"])
    network, tokenizer = load_writer(asked["writer"], dtype=dtype)
    network.eval()
    prompts = prompt_ids([row.prompt for row in rows], tokenizer, apart=False)
    seconds, tokens, texts = [], [], []
    for some in (prompts[: asked["batch"]], prompts[asked["batch"] :]):
        began = clock()
        written = (_ours if ours else _theirs)(network, tokenizer, some, asked)
        seconds.append(clock() - began)
        tokens.append(sum(map(len, some)) + sum(map(len, written)))
        texts += written
    return {
        "seconds": seconds,
        "before": 0.0,
        "tokens": tokens,
        "units": [asked["batch"], len(prompts) - asked["batch"]],
        "losses": [],
        "dtype": str(dtype).removeprefix("torch."),
        "written": texts,
    }


def _ours(network: Any, tokenizer: Any, prompts: list[list[int]], asked: Asked) -> list[list[int]]:
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    return write(network, prompts, end=end, pad=pad, max_new_tokens=asked["new_tokens"])


@torch.inference_mode()
def _theirs(network: Any, tokenizer: Any, prompts: list[list[int]], asked: Asked) -> list[list[int]]:
    """Write greedily, padded on the left, a batch at a time; the best settings sort by length first."""
    best = asked["system"] == "transformers-best"
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row])) if best else [*range(len(prompts))]
    size = 32 if best else 8
    found: dict[int, list[int]] = {}
    tokenizer.padding_side = "left"
    for first in range(0, len(order), size):
        places = order[first : first + size]
        batch = tokenizer.pad({"input_ids": [prompts[place] for place in places]}, return_tensors="pt")
        out = network.generate(
            **batch, do_sample=False, max_new_tokens=asked["new_tokens"], pad_token_id=tokenizer.pad_token_id
        )
        for place, row in zip(places, out[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            found[place] = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
    return [found[place] for place in range(len(prompts))]


WORK = Work(
    label="Writing answers, SmolLM2-135M",
    unit="answers",
    systems={
        **OURS,
        "transformers": System("transformers generate", "8 at a time", "fp32"),
        "transformers-best": System("transformers generate", "by length, 32 at a time", "bf16"),
    },
    size={"steps": 5, "batch": 8, "new_tokens": 48},
    quick={"steps": 2, "batch": 2, "new_tokens": 8},
    begin=_begin,
    turn=_turn,
    note="PubMedQA's test questions with four passages, greedily; tokens are read and written ones.",
)
