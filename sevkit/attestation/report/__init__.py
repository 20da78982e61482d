"""Attestation reports: their layout, the files they come in, and the verdict on them."""
