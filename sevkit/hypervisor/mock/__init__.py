"""Guests in the software model, with the interfaces of real ones."""
