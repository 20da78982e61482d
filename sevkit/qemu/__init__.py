"""What the other layers ask of QEMU: its command line, its capabilities, its monitor."""
