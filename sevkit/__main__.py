"""``python -m sevkit``."""

from sevkit.cli import main

if __name__ == "__main__":
    main()
