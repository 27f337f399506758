"""Parts that are added to frozen networks, in formats of our own."""
