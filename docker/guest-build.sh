#!/bin/bash
# Fetch the package lists, which an image must not keep, and run a command that builds from packages.
set -euo pipefail
apt-get update -q >&2
exec "$@"
