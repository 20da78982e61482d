"""Test vectors for any verifier: valid and subtly wrong reports under sevkit's own root."""
