"""What this CPU and host can do for encrypted guests, and why not."""
