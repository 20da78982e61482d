"""sevkit's own container: read-only but for /tmp, from which nothing can be run (docker/Dockerfile)."""

import os

import pytest


def not_in_the_container(reason: str) -> pytest.MarkDecorator:
    """Skip where the suite runs inside the image; its cache is recognised, so that other containers are not."""
    return pytest.mark.skipif(os.environ.get("SEVKIT_CACHE_DIR") == "/var/cache/sevkit", reason=reason)
