"""Results as text, JSON, HTML and the formats of other programs. One file per format."""
