"""Guest RAM inside a VMM: layout, page classes, pictures, extraction."""
