"""The running Python's standard library: functions as passages, their docstrings as questions."""

import ast
import re
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from burnish.errors import DataError
from burnish.readers import Reader, Source
from burnish.records import Chunk, Question, Rejected
from burnish.text import normal

_SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"})
_WORDS_NEEDED = 5
_REPEATS = ("duplicate passage", "same description as another passage")
_BLANK_LINE = re.compile(r"\n\s*\n")
_REST_OF_LINE = re.compile(r"[ \t]*(\n|$)")

_Function = ast.FunctionDef | ast.AsyncFunctionDef
# what a module or class may hold its functions in; `ast.iter_child_nodes` of these also yields their expressions
_BLOCKS = (ast.If, ast.Try, ast.TryStar, ast.ExceptHandler, ast.With, ast.For, ast.While)


class Stdlib(Reader):
    """The functions of the running Python's standard library, each to be found from its docstring.

    A passage is a function or method, without its docstring, that has a docstring whose first paragraph holds at
    least five words, and at least one more statement. Functions inside functions belong to the one around them. The
    first paragraph is the question, unless the function's name stands in it. Of functions with equal code (in normal
    form) or an equal first paragraph the first stays, so every question has one right answer. The group is the module.
    On CPython 3.11: about 5,210 such functions, 4,810 passages, 3,830 questions.
    """

    root: Path | None = None  # the folder to read; by default where the running Python keeps its library

    def load(self) -> Source:
        """Return the functions in the order of their paths and lines.

        Raises:
            DataError: the folder is not there, or holds no documented function.
        """
        root = self.root or Path(sysconfig.get_path("stdlib"))
        if not root.is_dir():
            raise DataError(f"{root}: there is no such folder; the Python files of a library are needed")
        found = _Collector()
        for path in _modules(root):
            found.add_file(path, root)
        if not found.chunks:
            raise DataError(f"{root}: no function here has a docstring of at least {_WORDS_NEEDED} words")
        return Source(chunks=found.chunks, questions=found.questions, rejected=found.rejected)


class _Collector:
    """Gathers passages and questions file by file, and what is left out."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.questions: list[Question] = []
        self.rejected: list[Rejected] = []
        self._names: Counter[str] = Counter()
        self._first_with_code: dict[str, str] = {}
        self._first_with_words: dict[str, str] = {}

    def add_file(self, path: Path, root: Path) -> None:
        """Add every function of one file; a file that Python cannot read is rejected as a whole."""
        source = path.relative_to(root).as_posix()
        try:
            with tokenize.open(path) as file:  # heeds the coding line
                text = file.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own odd escapes are not the user's business
                tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self.rejected.append(Rejected(reason="unreadable file", id=source, detail=str(error)))
            return
        code = _Code(text)
        module = _module_name(path.relative_to(root))
        for name, function in _functions(tree, module):
            self._add(name, function, code, source, module)

    def _add(self, name: str, function: _Function, code: "_Code", source: str, group: str) -> None:
        """Add one function as a passage, and as a question where its docstring serves."""
        self._names[name] += 1
        key = name if self._names[name] == 1 else f"{name}#{self._names[name]}"
        docstring = (ast.get_docstring(function) or "").encode(errors="replace").decode()  # no escaped half characters
        description = " ".join(_BLANK_LINE.split(docstring.strip())[0].split())
        fault = _fault(function, docstring, description)
        if fault:
            self.rejected.append(Rejected(reason=fault, id=key))
            return
        text = code.without_docstring(function)
        forms = (normal(text), normal(description) or description)
        for form, seen, reason in zip(forms, (self._first_with_code, self._first_with_words), _REPEATS, strict=True):
            if form in seen:
                self.rejected.append(Rejected(reason=reason, id=key, detail=seen[form]))
                return
        self._first_with_code[forms[0]] = self._first_with_words[forms[1]] = key
        start, end = code.span(function)
        self.chunks.append(Chunk(id=key, group=group, title=name, text=text, source=source, start=start, end=end))
        if _names_itself(function.name, description):
            self.rejected.append(Rejected(reason="names itself", id=f"q:{key}", detail=description))
            return
        question = Question(id=f"q:{key}", group=group, question=description, answers=(name,), gold=(key,))
        self.questions.append(question)


class _Code:
    """The text of one file, addressed as `ast` does: lines from 1, columns in UTF-8 bytes."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")  # `str.splitlines` would also cut at form feeds, which `ast` does not
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]

    def span(self, function: _Function) -> tuple[int, int]:
        """Return the offsets of a function, its decorators included, in characters of the file."""
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        indent = len(self._lines[first - 1]) - len(self._lines[first - 1].lstrip())
        return self._starts[first - 1] + indent, self._offset(function.end_lineno, function.end_col_offset)

    def without_docstring(self, function: _Function) -> str:
        """Return the function as it is written, less its docstring and its common indentation."""
        start, end = self.span(function)
        text = "\n".join(self._lines)
        docstring = function.body[0]
        cut_from = self._offset(docstring.lineno, docstring.col_offset)
        cut_to = self._offset(docstring.end_lineno, docstring.end_col_offset)
        head, rest = text[start:cut_from], text[cut_to:end]
        alone = _REST_OF_LINE.match(rest)
        if alone and head.rpartition("\n")[2].strip() == "":  # the docstring has its lines for itself
            head, rest = head.rpartition("\n")[0] + "\n", rest[alone.end() :]
        else:
            rest = rest.lstrip(" \t;")
        indent = start - text.rfind("\n", 0, start) - 1
        return re.sub(rf"^[ \t]{{{indent}}}", "", head + rest, flags=re.MULTILINE) if indent else head + rest

    def _offset(self, line: int | None, column: int | None) -> int:
        """Return the place of a line and a byte column, in characters of the file."""
        assert line is not None and column is not None, "parsed code has positions"
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def _modules(root: Path) -> Iterator[Path]:
    """Yield the importable Python files under a folder, in the order of their paths' parts."""
    for path in sorted(root.rglob("*.py"), key=lambda found: found.relative_to(root).parts):
        parts = path.relative_to(root).with_suffix("").parts
        if path.is_file() and not _SKIPPED.intersection(parts) and all(part.isidentifier() for part in parts):
            yield path


def _module_name(relative: Path) -> str:
    """Return the name a file is imported by."""
    parts = relative.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    """Yield the functions and methods under a node with their qualified names, in the order of the file."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield f"{prefix}.{child.name}", child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}.{child.name}")
        elif isinstance(child, _BLOCKS):
            yield from _functions(child, prefix)


def _fault(function: _Function, docstring: str, description: str) -> str:
    """Return why a function is no passage, or an empty string."""
    if not docstring.strip():
        return "no docstring"
    if len(function.body) == 1:
        return "nothing but a docstring"
    if len(description.split()) < _WORDS_NEEDED:
        return f"docstring of fewer than {_WORDS_NEEDED} words"
    return ""


def _names_itself(name: str, description: str) -> bool:
    """Tell whether a function's name, in normal form, stands in its description as words in a row."""
    own = normal(name)
    return bool(own) and f" {own} " in f" {normal(description)} "
