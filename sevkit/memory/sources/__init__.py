"""Where memory is read from: running processes, core files, their mappings and page tables."""
