"""Rows of similar length together: little padding, bounded memory."""

from collections.abc import Sequence


def micro_batches(rows: Sequence[int], tokens: Sequence[int], *, budget: int) -> list[list[int]]:
    """Cut a step's rows into groups of similar length whose padded size stays within the budget.

    A row longer than the budget stands alone.
    """
    groups: list[list[int]] = []
    for row in sorted(rows, key=lambda r: (-tokens[r], r)):
        if groups and (len(groups[-1]) + 1) * tokens[groups[-1][0]] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
