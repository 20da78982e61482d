"""Probe, launch, attack and benchmark AMD SEV guests: on hardware, in an emulator, or in a software model."""

__version__ = "0.2.0"
