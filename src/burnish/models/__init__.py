"""Models: found, loaded, encoding texts, writing texts."""
