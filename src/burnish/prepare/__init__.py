"""Preparation: from raw rows to clean, split, leak-checked ones."""
