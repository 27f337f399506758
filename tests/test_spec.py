import importlib.metadata
import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from burnish.errors import RecipeError
from burnish.methods import Method
from burnish.methods.full import Full
from burnish.methods.head import Head
from burnish.metrics import Metric
from burnish.metrics.ndcg import Ndcg
from burnish.spec import Spec, dump_part, faults


class Stage(Spec):
    """A section of the recipe below."""

    metric: Metric | Literal["best"] = "best"
    steps: int = Field(default=1, ge=1)


class Plan(Spec):
    """A small recipe with each way in which parts and sections can stand in one."""

    name: str = "plan"
    method: Method = Full()
    metrics: tuple[Metric, ...] = ()
    stages: tuple[Stage, ...] = ()
    note: str | tuple[str, ...] = ""


def faults_of(value: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Plan.model_validate(value)
    return list(faults(caught.value, Plan))


def test_a_part_is_chosen_by_the_name_of_its_file():
    assert Method.named("head") is Head
    assert Method.read("head") == Head()
    assert Method.read({"kind": "head", "learning_rate": 0.5}) == Head(learning_rate=0.5)


def test_names_are_those_of_the_files_without_private_ones():
    assert {"full", "head", "lora"} <= set(Method.names())
    assert Method.names() == sorted(Method.names())
    assert not [name for name in Method.names() if name.startswith("_")]


def test_names_are_listed_without_importing_their_files(monkeypatch):
    monkeypatch.delitem(sys.modules, "burnish.methods.lora", raising=False)
    Method.names()
    assert "burnish.methods.lora" not in sys.modules


def test_a_part_that_is_one_already_stays_itself():
    part = Full()
    assert Method.read(part) is part
    assert Plan(method=part).method is part


def test_an_unknown_name_is_refused_with_the_near_miss_and_the_list():
    with pytest.raises(
        RecipeError, match=r"no method is called 'haed'\. Did you mean 'head'\? There are: .*full, head"
    ):
        Method.named("haed")


@pytest.mark.parametrize("value", ["../full", "_private", "", "full.Full", "os"])
def test_only_names_of_the_family_are_names(value):
    with pytest.raises(RecipeError, match="no method is called"):
        Method.read(value)


@pytest.mark.parametrize("value", [3, None, ["full"], 0.5, True])
def test_what_is_no_name_is_refused_in_words(value):
    assert faults_of({"method": value}) == [f"method: a method is a name or `{{kind: name, …}}` (found {value!r})"]


@pytest.mark.parametrize("kind", [3, None, ["full"], {"full": 1}])
def test_a_kind_that_is_no_name_is_refused_in_words(kind):
    [fault] = faults_of({"method": {"kind": kind}})
    assert fault.startswith("method: `kind` is the name of a method. There are: ")


def test_settings_without_a_kind_are_refused():
    [fault] = faults_of({"method": {"learning_rate": 1}})
    assert fault.startswith("method: say which method with `kind:`. There are: ")


def test_all_faults_are_listed_at_once_with_their_places():
    found = faults_of(
        {
            "nmae": "x",
            "method": "fulll",
            "metrics": ["nDCG@0"],
            "stages": [{"steps": 0}, {"stpes": 2}],
        }
    )
    assert [fault.split(":")[0] for fault in found] == [
        "method",
        "metrics.0.k",
        "stages.0.steps",
        "stages.1.stpes",
        "nmae",
    ]
    assert found[0].startswith("method: no method is called 'fulll'. Did you mean 'full'?")
    assert found[2] == "stages.0.steps: Input should be greater than or equal to 1 (found 0)"
    assert found[3] == "stages.1.stpes: there is no such key. Did you mean 'steps'?"
    assert found[4] == "nmae: there is no such key. Did you mean 'name'?"


def test_all_faults_of_one_part_are_listed_with_the_near_miss_among_its_own_keys():
    assert faults_of({"metrics": ["nDCG@5", {"kind": "ndcg", "kk": 5, "k": 0}]}) == [
        "metrics.1.k: Input should be greater than or equal to 1 (found 0)",
        "metrics.1.kk: there is no such key. Did you mean 'k'?",
    ]
    assert faults_of({"method": {"kind": "full", "learning_rat": 1}}) == [
        "method.learning_rat: there is no such key. Did you mean 'learning_rate'?"
    ]


def test_a_key_that_is_no_text_is_a_fault():
    assert faults_of({"method": {"kind": "full", 3: 4}}) == ["method.3: Keys should be strings (found 3)"]


def test_places_do_not_name_the_branches_of_a_union():
    first, second = faults_of({"stages": [{"metric": "bset"}]})
    assert first.startswith("stages.0.metric: no metric is called 'bset'. There are: ")
    assert second == "stages.0.metric: Input should be 'best' (found 'bset')"
    assert faults_of({"stages": [{"metric": {"kind": "ndcg", "kk": 5}}]}) == [
        "stages.0.metric.kk: there is no such key. Did you mean 'k'?"
    ]
    assert faults_of({"note": ["a", 1]}) == ["note.1: Input should be a valid string (found 1)"]


def test_an_unknown_key_named_like_a_type_keeps_its_place():
    assert faults_of({"stages": [{"str": 1}]}) == ["stages.0.str: there is no such key."]


def test_a_section_that_may_be_absent_still_knows_its_keys():
    class Outer(Spec):
        stages: tuple[Stage, ...] | None = None

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"stages": [{"stps": 1}]})
    assert list(faults(caught.value, Outer)) == ["stages.0.stps: there is no such key. Did you mean 'steps'?"]


def test_a_missing_key_is_named():
    class Needs(Spec):
        path: str

    with pytest.raises(ValidationError) as caught:
        Needs.model_validate({})
    assert list(faults(caught.value, Needs)) == ["path: this key is needed and missing"]


def test_a_value_that_is_no_section_has_no_empty_place():
    assert faults_of([1]) == ["keys and values are needed here (found [1])"]
    assert faults_of({"stages": [7]}) == ["stages.0: keys and values are needed here (found 7)"]


def test_what_was_found_is_cut_to_a_readable_length():
    [fault] = faults_of({"name": ["x" * 1000]})
    assert len(fault) < 150
    assert fault.endswith("…)")


def test_settings_never_change():
    with pytest.raises(ValidationError, match="frozen"):
        Full().learning_rate = 1.0  # type: ignore[misc]


def test_a_dumped_part_is_read_back_as_itself():
    for part in (Head(learning_rate=0.25), Full(), Ndcg(k=3)):
        family = Metric if isinstance(part, Metric) else Method
        assert family.read(dump_part(part)) == part
    assert dump_part(Ndcg(k=3)) == {"kind": "ndcg", "k": 3}


def test_a_recipe_with_parts_is_read_back_as_itself():
    plan = Plan.model_validate(
        {"method": "head", "metrics": ["nDCG@3", "accuracy"], "stages": [{"metric": "mrr@7"}, {}]}
    )
    dumped = plan.model_dump(mode="json")
    assert dumped["method"]["kind"] == "head"
    assert dumped["metrics"][0] == {"kind": "ndcg", "k": 3}
    assert dumped["stages"][0]["metric"] == {"kind": "mrr", "k": 7}
    assert Plan.model_validate(dumped) == plan
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_part_says_what_it_is_in_its_first_line():
    assert Full.summary() == (Full.__doc__ or "").split("\n")[0]


@pytest.fixture
def plugin(monkeypatch) -> type[Method]:
    """Return a method that another package adds under the name `thinned`."""
    module = ModuleType("elsewhere.thin")

    class Thinned(Method):
        """Train every other weight."""

        learning_rate: float = 0.1
        every: int = 2

        def apply(self, model, *, fresh=()):
            return model

    Thinned.__module__ = module.__name__
    Thinned.__qualname__ = "Thinned"
    module.Thinned = Thinned  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere", ModuleType("elsewhere"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    point = EntryPoint(name="thinned", value="elsewhere.thin:Thinned", group="burnish.methods")

    def entry_points(**wanted: str) -> EntryPoints:
        return EntryPoints([*importlib.metadata.entry_points(**wanted), *EntryPoints([point]).select(**wanted)])

    monkeypatch.setattr("burnish.spec.entry_points", entry_points)
    return Thinned


def test_another_package_adds_a_part_by_an_entry_point(plugin):
    assert "thinned" in Method.names()
    assert "thinned" not in Metric.names()
    assert Method.named("thinned") is plugin
    assert Plan.model_validate({"method": {"kind": "thinned", "every": 3}}).method == plugin(every=3)


def test_an_added_part_goes_by_the_name_of_its_entry_point(plugin):
    part = plugin(every=3)
    assert dump_part(part) == {"kind": "thinned", "learning_rate": 0.1, "every": 3}
    assert Method.read(dump_part(part)) == part


def test_an_added_parts_unknown_key_gets_its_near_miss(plugin):
    assert faults_of({"method": {"kind": "thinned", "evry": 3}}) == [
        "method.evry: there is no such key. Did you mean 'every'?"
    ]
