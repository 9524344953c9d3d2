"""The GPUs of this machine, asked before a run needs one."""

import importlib.util
import subprocess
import sys


def given_gpus(device: str) -> None:
    """End the run before its first job where the jobs run here, on a GPU that this machine does not have.

    Asked in a process of its own: torch takes seconds and, on a GPU, memory. Nothing is said where torch is not
    installed here.

    Raises:
        SystemExit: device is cuda, or cuda:N, and there is none.
    """
    if not device.startswith("cuda") or importlib.util.find_spec("torch") is None:
        return
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    count = int(subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout)
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        has = f"{count} GPU(s), counted from 0" if count else "no GPU that torch can use"
        raise SystemExit(f"config error: model.device = {device!r}: this machine has {has}; set another device, or cpu")
