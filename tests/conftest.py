"""What every test stands on: a `make` that a test starts is not a part of the `make test` around it."""

import os

for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)
