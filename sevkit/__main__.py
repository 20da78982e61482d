#!/usr/bin/env python3
"""``python -m sevkit``, and the command ``sevkit``.

What an installer makes of an entry point may import re first, which takes a third of the time that our start takes.
"""

from sevkit.cli import main

if __name__ == "__main__":
    main()
