from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context

from burnish.errors import DataError
from burnish.evaluation.folder import Training, read_finished
from burnish.evaluation.plots import smoothed, training_panel
from burnish.evaluation.report import ladder_picture


def test_a_hostile_name_cannot_break_the_picture(example: Any, tmp_path: Path) -> None:
    picture = ladder_picture(example.write_hostile(tmp_path / "run"))
    root = ElementTree.fromstring(picture.encode())
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "rect", "g", "defs", "path", "use", "text", "clipPath", "tspan")
    }


def test_the_picture_stands_alone_on_white_and_names_every_rung(example: Any, run: Path) -> None:
    root = ElementTree.fromstring(ladder_picture(run).encode())
    assert root[0].attrib == {"width": "100%", "height": "100%", "fill": "#ffffff"}
    words = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {name for name, *_ in example.rungs_made} <= words
    assert {"0.641", "0.553", "fine-tuned"} <= words
    assert root.get("width") == root.get("viewBox", "").split()[2]


def test_the_users_matplotlib_settings_do_not_change_the_picture(run: Path) -> None:
    ours = ladder_picture(run)
    with rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path", "text.color": "red"}):
        assert ladder_picture(run) == ours


def test_a_ladder_without_rungs_has_no_picture(example: Any, tmp_path: Path) -> None:
    run = example.write(tmp_path / "run", told=example.ladder() | {"rungs": []})
    with pytest.raises(DataError, match="holds no rung"):
        ladder_picture(run)


def test_a_smoothed_constant_is_the_constant_and_a_spike_is_spread() -> None:
    assert smoothed([2.0] * 50) == pytest.approx([2.0] * 50)
    assert smoothed([0.0, 0.0, 3.0, 0.0, 0.0]) == pytest.approx([0.0, 1.0, 1.0, 1.0, 0.0])
    assert smoothed([]) == []


def test_a_long_training_is_drawn_with_few_points(run: Path) -> None:
    short = read_finished(run).trainings[1]
    long = Training("long", short.log * 200, short.dev)
    assert len(training_panel(long)) < 3 * len(training_panel(short))
