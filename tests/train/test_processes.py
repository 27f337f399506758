import random

import pytest
from accelerate import Accelerator

from burnish.train.processes import WINDOW, Recent, means


def test_sets_are_counted_in_a_step_and_over_the_last_ones():
    draw, accelerator = random.Random(0), Accelerator(cpu=True)
    steps = [[draw.randrange(40) for _ in range(draw.randint(1, 12))] for _ in range(2 * WINDOW)]
    recent: Recent = {}
    for number, members in enumerate(steps):
        facts = {"passages": (frozenset(members), len(members)), "loss": (3.0, 2), "nothing": (0.0, 0)}
        found, recent = means(accelerator, facts, recent)
        last = [one for step in steps[max(0, number + 1 - WINDOW) : number + 1] for one in step]
        assert found == {
            "passages": pytest.approx(len({*members}) / len(members)),
            f"passages, {WINDOW} steps": pytest.approx(len({*last}) / len(last)),
            "loss": 1.5,
        }
    assert len(recent["passages"]) == WINDOW
