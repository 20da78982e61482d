"""QEMU for the other layers: its command line, its capabilities, its monitor."""
