"""Imported first by the server that loaders are forked from: it outlives a SIGTERM.

Whoever stops a run may signal its process group, its control group, or every process of a job. The trainer then writes
a checkpoint, for which it needs its loaders for a few steps more; they and their server end when it does. This module
must do nothing else.
"""

from __future__ import annotations

import signal
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
