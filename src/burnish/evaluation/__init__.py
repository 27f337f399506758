"""Evaluation: scores with intervals, paired comparisons, the report."""
