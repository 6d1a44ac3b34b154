"""`piccolo sync_history ...` in a hurry: what takes a minute takes seconds.

python -m tests.sync_history.worker <seconds of lease> work
"""

from __future__ import annotations

import sys

from piccolo.main import main

from sync_history import retries, runs, scheduler

lease = float(sys.argv.pop(1))
runs.LEASE_SECONDS = lease
runs.LOCKLESS_SECONDS = min(lease, runs.LOCKLESS_SECONDS)
retries.FIRST_PAUSE_SECONDS = 0.0
scheduler.LOOK_SECONDS = min(1, round(lease))
sys.argv.insert(1, "sync_history")
main()
