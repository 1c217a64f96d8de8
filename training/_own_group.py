"""Imported first by the server that loaders are forked from: it leaves the trainer's process group, they with it.

Whoever stops a run signals its group (torchrun, batch systems, a terminal). The trainer then writes a checkpoint, for
which it needs its loaders for a few steps more; they end when it does. This module must do nothing else.
"""

from __future__ import annotations

import os
import sys

if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    os.setpgrp()
