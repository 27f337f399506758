"""What names a model as it is now: its name where that is enough, the bytes of its files where it is a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.run import checksum
from burnish.spec import Part, dump_part
from burnish.text import fingerprint


def model_fingerprint(name: str) -> str:
    """Return 16 hexadecimal digits that name the files of a model's folder, or the model's name where it is none."""
    if not Path(name).is_dir():
        return fingerprint(name)
    files = sorted(path for path in Path(name).rglob("*") if path.is_file())
    return fingerprint(*(part for path in files for part in (path.relative_to(name).as_posix(), checksum(path))))


def part_fingerprint(part: Part) -> str:
    """Return what names a part with its settings, and with the files of every folder that they name."""
    settings = dump_part(part)
    folders = [text for text in _texts(settings) if Path(text).is_dir()]
    return fingerprint(repr(settings), *map(model_fingerprint, folders))


def _texts(value: Any) -> Iterator[str]:
    """Yield every text among settings, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
