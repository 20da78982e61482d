"""Hypervisors: QEMU on hardware, QEMU with the emulator's engine, and the software model."""
