"""A software model of an SEV platform. Pure: values in, values out."""
