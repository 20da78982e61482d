"""What experiments run on: the software model, or a real guest."""
