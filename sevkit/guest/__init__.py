"""Guests: their definition (spec), their images, and how to communicate with them (channel)."""
