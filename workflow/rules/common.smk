import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "lib"))
from code_digest import code_digest
from study import Study

ROOT = Path(workflow.basedir)
study = Study(config)
R = f"results/{config['study']}"
P = f"{R}/private"  # harmful text stays below this folder
SEED = f"{R}/seed{{seed}}"
PSEED = f"{P}/seed{{seed}}"
BASE = f"{R}/models/base"
PYTHON = "python workflow/scripts"

shell.prefix("set -euo pipefail; export PYTHONPATH=src TOKENIZERS_PARALLELISM=false; unset PYTHONDONTWRITEBYTECODE; ")


wildcard_constraints:
    seed=r"\d+",
    step=r"\d+",
    regime=r"[a-z][a-z0-9_]*",
    source=r"[a-z][a-z0-9_]*",


def code(script):
    """Digest of a rule script and of all project code that it imports: the rule's code trigger."""
    return code_digest(ROOT, f"workflow/scripts/{script}.py")


def settings(**values):
    """What a script gets as --params."""
    return json.dumps(values)  # in the order of the configuration: roles are served in it


def role(name):
    return f"{P}/prompts/{name}.jsonl"
