"""Run sevkit in this process under a signal every 2 ms, so that every system call that can be interrupted is."""

import signal
import sys

from sevkit.cli import main

signal.signal(signal.SIGALRM, lambda number, frame: None)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
try:
    main(sys.argv[1:])
finally:
    signal.setitimer(signal.ITIMER_REAL, 0)  # the interpreter drops its handlers before it ends
