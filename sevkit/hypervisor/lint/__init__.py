"""What is wrong with how a guest is launched: QEMU command lines, libvirt domains, running VMMs; QEMU's own errors."""
