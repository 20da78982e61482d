"""What experiments stand on: the software model, or a real guest."""
