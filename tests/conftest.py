"""What every test stands on: no `make` that it starts is part of the one around it, and what it starts hears signals."""

import os
import signal

for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(name, None)
# Programs inherit that a signal is ignored: Ctrl-C by the background jobs of a shell, the hang-up under nohup.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
