"""Frozen settings, and families of them whose members are chosen by file name."""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from inspect import isclass
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema
from pydantic_core.core_schema import (
    no_info_before_validator_function,
    plain_serializer_function_ser_schema,
)

from burnish.errors import RecipeError, near_miss


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
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, str | dict):
            raise RecipeError(f"a {cls.__name__.lower()} is a name or `{{kind: name, …}}`")
        settings = {"kind": value} if isinstance(value, str) else dict(value)
        if "kind" not in settings:
            raise RecipeError(f"say which {cls.__name__.lower()} with `kind:`. There are: {', '.join(cls.names())}")
        return cls.named(settings.pop("kind"))(**settings)

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
        """The name a recipe calls this part by: the name of its file."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring: what `burnish list` prints."""
        return (cls.__doc__ or "").strip().split("\n")[0]


def dump_part(part: Part) -> dict[str, Any]:
    """Return the part as a recipe would hold it: its kind, then its settings."""
    return {"kind": part.kind, **part.model_dump(mode="json")}


def faults(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """Yield one line for each fault that pydantic found: place, what is wrong, what stood there, the near miss."""
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            hint = near_miss(str(fault["loc"][-1]), _keys_at(model, fault["loc"][:-1]))
            yield f"{place}: there is no such key.{hint}"
        elif fault["type"] == "missing":
            yield f"{place}: this key is needed and missing"
        else:
            message = fault["msg"].removeprefix("Value error, ")
            found = repr(fault["input"])
            yield f"{place}: {message} (found {found if len(found) <= 80 else found[:77] + '…'})"


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed at a place inside `model`, as far as its types tell."""
    for step in place:
        field = model.model_fields.get(str(step))
        if field is None:
            continue  # an index, a dictionary's key or a union's tag
        inner = [c for c in (field.annotation, *get_args(field.annotation)) if isclass(c) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


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
