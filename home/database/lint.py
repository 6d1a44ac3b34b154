"""What squawk says of the statements of a migration, if it is installed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from home.config.processes import ended
from home.config.settings import ROOT
from home.database.lock_watch import Step

SECONDS = 20
# These break the last release, which runs beside this schema for a while, however small the table.
BREAKING = frozenset({"ban-drop-column", "ban-drop-table", "renaming-column", "renaming-table"})
# These are about writing a table anew, which the rehearsal knows: not each change of a type does.
REWRITING = frozenset({"changing-column-type", "adding-field-with-default"})

# So does this, about reading a table.
SCANNING = "adding-not-nullable-field"


def find_squawk() -> str | None:
    """Return the path of squawk: beside this Python, or on the PATH."""
    beside = Path(sys.executable).parent / "squawk"
    return str(beside) if beside.exists() else shutil.which("squawk")


async def lint(steps: Sequence[Step], version: str) -> bool:
    """Add what squawk finds to each step; which rules count is in .squawk.toml.

    Args:
        version: of PostgreSQL, such as 15.0.

    Returns:
        Whether it is installed and gave an answer.
    """
    program = find_squawk()
    if program is None:
        return False
    texts = [each.sql.rstrip().rstrip(";") + "\n;\n" for each in steps]
    starts = list(accumulate((text.count("\n") for text in texts), initial=0))
    process = await asyncio.create_subprocess_exec(
        program, "--config", str(ROOT / ".squawk.toml"), "--reporter", "json",
        "--pg-version", version, "--assume-in-transaction",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with ended(process), asyncio.timeout(SECONDS):
            answer, _ = await process.communicate("".join(texts).encode())
        findings = json.loads(answer or "[]")
    except (TimeoutError, ValueError):
        return False
    for finding in findings:
        step = steps[bisect_right(starts, finding["line"]) - 1]
        rule = finding["rule_name"]
        if rule in REWRITING and not step.rewrites:
            continue
        if rule != SCANNING or not step.is_checked:
            advice = " ".join(filter(None, (finding["message"], finding.get("help"))))
            step.lint.append(f"{rule}: {advice}")
    return True
