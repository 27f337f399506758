"""A run whose lower layers are frozen is resumed bit for bit, though they read each text once in each process."""

from pathlib import Path

import tiny
import worker
from burnish.records import dump_jsonl


def test_a_head_trained_in_two_parts_is_the_head_trained_in_one(tmp_path: Path) -> None:
    tiny.tiny_bert(tmp_path / "bert")
    (tmp_path / "train.jsonl").write_text(dump_jsonl(tiny.labelled(24)))
    (tmp_path / "recipe.yaml").write_text(
        f"""\
task: classify
model: {tmp_path / "bert"}
method: head
data: {{train: {tmp_path / "train.jsonl"}}}
training: {{epochs: 6, batch: 8, precision: fp32, dropout: 0, evaluations: 0, checkpoint_every: 2}}
"""
    )
    whole, killed = worker.killed_and_resumed(tmp_path / "recipe.yaml", tmp_path, seed="head")
    for name in ("log.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
