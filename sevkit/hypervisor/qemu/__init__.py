"""Guests in QEMU: on hardware, under plain TCG, or in the emulator."""
