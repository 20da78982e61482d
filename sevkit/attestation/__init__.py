"""Attestation: launch measurement, why a digest differs, report verification, and which bulletins apply."""
