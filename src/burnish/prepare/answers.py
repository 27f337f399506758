"""Whether a passage holds an answer: which answers can tell, and where they stand."""

from collections.abc import Iterable

from burnish.text import normal

_SHORTEST = 4  # characters in normal form: `7`, `no` or `set` stand in passages that answer nothing
_SAY_NOTHING = {
    *("true", "false", "none", "null", "neither", "both", "either", "maybe", "unknown", "other", "nothing"),
    *("always", "never", "sometimes", "correct", "incorrect", "right", "wrong", "neutral", "entailment"),
    *("contradiction", "supports", "refutes", "supported", "refuted", "unanswerable"),
}


def telling(answers: Iterable[str]) -> list[str]:
    """Return the normal forms of the answers by which a passage can be told to answer.

    Left out are those that stand anywhere by chance: fewer than four characters, and words such as `yes` or `false`.
    """
    forms = dict.fromkeys(normal(answer) for answer in answers)
    return [form for form in forms if len(form) >= _SHORTEST and form not in _SAY_NOTHING]


def holds(passage: str, answers: Iterable[str]) -> bool:
    """Tell whether one of the answers (normal forms) stands in the passage, as whole words next to each other."""
    text = f" {normal(passage)} "
    return any(f" {answer} " in text for answer in answers)
