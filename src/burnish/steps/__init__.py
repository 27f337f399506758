"""Steps: one verb a file, recipe in, folder out."""
