"""Find mistakes in launches of guests: QEMU command lines, libvirt domains, running VMMs; explain QEMU's errors."""
