"""Guests: what they are made of (spec, image), how QEMU is asked for them (argv), and how to talk to them (channel)."""
