"""Lines of JSON, each with its number: what any reader of JSONL begins with."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.errors import DataError, near_miss


def json_value(line: bytes) -> Any:
    """Return what a line of JSON holds.

    Raises:
        DataError: it is not UTF-8 or not JSON, or holds what Python cannot.
    """
    try:
        text = line.decode()
        value = json.loads(text)
        if "\\ud" in text.lower():  # half of a character, escaped: it could be read, and never be written again
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise DataError(f"this row is not UTF-8 text ({error.reason} at byte {error.start + 1} of the line)") from error
    except UnicodeEncodeError as error:
        raise DataError(f"this row holds half of a character ({error.object[error.start]!r})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"this row is not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise DataError("this row is nested too deeply") from error
    except ValueError as error:  # Python reads no whole number of more than some thousand digits
        raise DataError("this row holds a number that is too long") from error
    return value


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a file that hold something, without a byte order mark.

    Raises:
        DataError: the file is not there, is a folder, or cannot be read.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path}: this is a folder, and a file is needed")
        if not path.is_file():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise DataError(f"{path}: there is no such file.{near_miss(path.name, siblings)}")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                content = line.removeprefix(BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield number, content
    except OSError as error:
        raise DataError(f"{path}: this file cannot be read: {error.strerror}") from error
