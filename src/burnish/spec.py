"""Frozen settings, and families of them whose members are chosen by file name."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from inspect import isclass
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import (
    no_info_before_validator_function,
    plain_serializer_function_ser_schema,
)

from burnish.errors import RecipeError, near_miss

_TAG = re.compile(r"[\w-]+\[.*\]|str|int|float|bool", re.DOTALL)  # how pydantic calls a union's branch in a place


class Spec(BaseModel):
    """Settings that never change once read; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Part(Spec):
    """A Spec chosen by name: one class a file, `kind` is the file's name."""

    folder: ClassVar[str]  # where the family lives, e.g. "burnish.methods"; set by the family class only

    @classmethod
    def names(cls) -> list[str]:
        """Return every name a recipe may use, without importing any of them."""
        family = importlib.import_module(cls.folder)
        files = (found.name for found in pkgutil.iter_modules(family.__path__) if found.name[0] != "_")
        return sorted({*files, *entry_points(group=cls.folder).names})

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return the class called `name`.

        Raises:
            RecipeError: nothing is called so; the message names the nearest that exists.
        """
        names = cls.names()
        if name not in names:
            hint = near_miss(name, names)
            raise RecipeError(f"no {cls.__name__.lower()} is called {name!r}.{hint} There are: {', '.join(names)}")
        for plugin in entry_points(group=cls.folder, name=name):
            member: type[Self] = plugin.load()
            return member
        module = importlib.import_module(f"{cls.folder}.{name}")
        found: type[Self]
        [found] = (c for c in vars(module).values() if _defined_here(c, cls, module.__name__))
        return found

    @classmethod
    def read(cls, value: Any) -> Any:
        """Build a member from what a recipe holds: `lora`, or `{kind: lora, rank: 8}`.

        Raises:
            RecipeError: no `kind`, or a name that does not exist.
            ValidationError: settings have faults; each unknown key comes with its near miss.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, str | dict):
            raise RecipeError(f"a {cls.__name__.lower()} is a name or `{{kind: name, …}}`")
        settings = {"kind": value} if isinstance(value, str) else dict(value)
        if "kind" not in settings:
            raise RecipeError(f"say which {cls.__name__.lower()} with `kind:`. There are: {', '.join(cls.names())}")
        if not isinstance(settings["kind"], str):
            raise RecipeError(f"`kind` is the name of a {cls.__name__.lower()}. There are: {', '.join(cls.names())}")
        member = cls.named(settings.pop("kind"))
        try:
            return member.model_validate(settings)
        except ValidationError as error:
            # Here the member is known; the recipe's types name its family alone, which has not the member's keys.
            details = [_detail(fault, member) for fault in error.errors(include_url=False)]
            again = ValidationError.from_exception_data(member.__name__, details)
            raise again from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read a field of a family's type by name, and write it with its name."""
        schema = handler(source)
        if "folder" not in vars(cls):  # one member, not a family
            return schema
        return no_info_before_validator_function(
            cls.read, schema, serialization=plain_serializer_function_ser_schema(_dump)
        )

    @property
    def kind(self) -> str:
        """The name a recipe calls this part by: the name of its file, or of the entry point that adds it."""
        module = type(self).__module__
        if module.startswith(f"{self.folder}."):
            return module.rsplit(".", 1)[-1]
        place = f"{module}:{type(self).__qualname__}"
        added = [point.name for point in entry_points(group=self.folder) if point.value == place]
        return added[0] if added else module.rsplit(".", 1)[-1]

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring: what `burnish list` prints."""
        return (cls.__doc__ or "").strip().split("\n")[0]


def dump_part(part: Part) -> dict[str, Any]:
    """Return the part as a recipe would hold it: its kind, then its settings."""
    return {"kind": part.kind, **part.model_dump(mode="json")}


def faults(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """Yield one line for each fault that pydantic found: place, what is wrong, what stood there, the near miss."""
    found = error.errors(include_url=False)
    places = [fault["loc"] for fault in found]
    for fault in found:
        if not _is_outdone(fault["loc"], places):
            place = _place(fault)
            yield f"{place}: {_message(fault, model)}" if place else _message(fault, model)


def _message(fault: ErrorDetails, model: type[BaseModel]) -> str:
    """Return what is wrong, in our words where pydantic's speak of its own affairs."""
    if fault["type"] == "unknown_key":
        return fault["msg"]
    if fault["type"] == "extra_forbidden":
        return f"there is no such key.{near_miss(str(fault['loc'][-1]), _keys_at(model, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return "this key is needed and missing"
    what = "keys and values are needed here" if fault["type"] == "model_type" else fault["msg"]
    found = repr(fault["input"])
    return f"{what.removeprefix('Value error, ')} (found {found if len(found) <= 80 else found[:77] + '…'})"


def _place(fault: ErrorDetails) -> str:
    """Return where a fault stands, as the recipe's keys; the branches of a union are not among them."""
    *above, last = fault["loc"] or ("",)
    unknown = fault["type"] in ("extra_forbidden", "unknown_key")  # whose key may be called anything
    return ".".join(
        [*(str(step) for step in above if not _is_tag(step)), *([str(last)] if unknown or not _is_tag(last) else [])]
    )


def _is_outdone(place: tuple[int | str, ...], places: Sequence[tuple[int | str, ...]]) -> bool:
    """Tell whether one branch of a union did not fit at all, and another fits but for a fault further inside."""
    inside = [other for other in places if len(other) > len(place)]
    return bool(place) and _is_tag(place[-1]) and any(other[: len(place) - 1] == place[:-1] for other in inside)


def _is_tag(step: int | str) -> bool:
    """Tell whether pydantic put this step into a place to name the branch of a union."""
    return isinstance(step, str) and _TAG.fullmatch(step) is not None


def _detail(fault: ErrorDetails, model: type[BaseModel]) -> InitErrorDetails:
    """Return a fault as one that can be raised again, an unknown key with its near miss among the model's keys."""
    kind: Any = "unknown_key" if fault["type"] == "extra_forbidden" else fault["type"]
    message: Any = _message(fault, model) if kind == "unknown_key" else fault["msg"]
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=fault["loc"], input=fault["input"])


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed at a place inside `model`, as far as its types tell."""
    for step in place:
        field = model.model_fields.get(str(step))
        if field is None:
            continue  # an index, a dictionary's key or a union's tag
        inner = [found for found in _nested(field.annotation) if isclass(found) and issubclass(found, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _nested(annotation: object) -> Iterator[object]:
    """Yield a type and those it is made of: `tuple[Rung, ...] | None` holds Rung."""
    yield annotation
    for inner in get_args(annotation):
        yield from _nested(inner)


def _dump(part: Any) -> Any:
    """Serialize a field whose type is a family."""
    return dump_part(part) if isinstance(part, Part) else part


def _defined_here(candidate: object, family: type, module: str) -> bool:
    """Tell whether this is the one public member of the family that the module defines."""
    return (
        isclass(candidate)
        and issubclass(candidate, family)
        and candidate.__module__ == module
        and not candidate.__name__.startswith("_")
    )
