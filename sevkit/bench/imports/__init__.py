"""Results of other programs, read into sevkit's records."""
