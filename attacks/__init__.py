"""The attacks: one a file, each readable top to bottom as the experiment it is."""
