"""The memory of processes and guests: capture, read, search, classify, place."""
