"""The graph behind the rules: what a configuration means, where files stand, what each stage is told, and what it
costs.

In: a checked configuration. Out: paths, settings and resources of jobs, and how a run is watched. Runs no model, and
imports nothing of the library that needs torch.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "src") not in sys.path:
    sys.path.append(str(ROOT / "src"))  # the library, without being installed
