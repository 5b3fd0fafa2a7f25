"""Measurements that take too long for tests; docs/benchmarks has what they found."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the command line does, before NumPy is loaded
