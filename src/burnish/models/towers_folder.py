"""The folder of two encoders, sentence-transformers' Router: what is read of it, and what is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from burnish.errors import ModelError
from burnish.models.safety import is_router, read_modules, read_settings
from burnish.models.sentence_folder import (
    MODULES,
    Reading,
    how_texts_are_read,
    module_list,
    module_type,
    read_parts,
    write_files,
    written_modules,
)
from burnish.text import TextFormat

ROUTES = {"queries": "query", "passages": "document"}  # a tower → what sentence-transformers calls its texts
_FILE = "router_config.json"


class Tower(NamedTuple):
    """An encoder inside a folder: where its network stands, and how it makes one vector of a text."""

    network: Path
    reading: Reading


def read_towers(folder: Path) -> dict[str, Tower] | None:
    """Return the two encoders by name, `queries` and `passages`; None where the folder is another model's.

    Raises:
        ModelError: they are not one for queries and one for documents, or one of them does something that burnish would
            leave out.
    """
    listed = read_modules(folder / MODULES) if (folder / MODULES).is_file() else []
    if not any(is_router(module) for module in listed):
        return None
    if not is_router(listed[0]):
        raise ModelError(f"{folder / MODULES}: a Router is known as the first module alone, and here another is before")
    place = folder / listed[0]["path"]
    structure, types = _routes(folder, place / _FILE)
    found = {}
    for name, route in ROUTES.items():
        own = [{"type": types[key], "path": str(Path(listed[0]["path"], key))} for key in structure[route]]
        parts = [*own, *listed[1:]]
        networks = [part["path"] for part in parts if part["type"].endswith(".Transformer")]
        if len(networks) != 1 or parts[0]["path"] != networks[0]:
            raise ModelError(f"{place / _FILE}: route {route!r} does not begin with a Transformer, its only one")
        found[name] = Tower(folder / networks[0], read_parts(folder, parts, said_in=place / _FILE))
    if found["queries"].network == found["passages"].network:
        raise ModelError(f"{place / _FILE}: both routes go through one network, and burnish trains each tower apart")
    return found


def write_towers_layout(folder: Path, form: TextFormat) -> None:
    """Write what joins two encoders that stand in the folder, each in a folder of its own name."""
    modules = written_modules()
    parts = {name: {f"{name}/{path}".rstrip("/"): kind for path, kind in modules.items()} for name in ROUTES}
    router = {
        "types": {path: kind for tower in parts.values() for path, kind in tower.items()},
        "structure": {route: list(parts[name]) for name, route in ROUTES.items()},
        "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
    }
    write_files(folder, {MODULES: module_list({"": module_type("Router")}), _FILE: router, **how_texts_are_read(form)})


def _routes(folder: Path, path: Path) -> tuple[Mapping[str, list[str]], Mapping[str, str]]:
    """Return the places of each route's modules, and their types.

    Raises:
        ModelError: there are other routes, or a module has no type, or its place is outside of the folder.
    """
    said: dict[str, Any] = read_settings(path)
    structure, types, parameters = (said.get(name) or {} for name in ("structure", "types", "parameters"))
    if not all(isinstance(part, dict) for part in (structure, types, parameters)):
        raise ModelError(f"{path}: structure, types and parameters are needed here, each by name")
    chosen = parameters.get("route_mappings")
    if {*structure} != {*ROUTES.values()} or chosen:
        raise ModelError(
            f"{path}: two encoders are known as routes for query and document, by nothing but the task, as "
            f"`Router.for_query_document` has them; these are {', '.join(map(str, structure)) or 'none'}"
            + (f", chosen by {', '.join(map(str, chosen))}" if chosen else "")
        )
    for key in (key for keys in structure.values() for key in keys):
        if key not in types or not (path.parent / str(key)).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{path}: the module {key!r} has no type, or its place leads out of the model's folder")
    return structure, types
