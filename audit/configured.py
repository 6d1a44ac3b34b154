"""piccolo_conf as Piccolo finds it, without what Piccolo loads to find it: a code formatter.

That takes a tenth of a second: of each command, and of a server at its first query, for everybody.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from piccolo.engine.base import Engine
from piccolo.table import TABLE_REGISTRY


def piccolo_conf() -> Any:
    """Import the module that PICCOLO_CONF names, and bind the tables that are loaded to its `DB`.

    Returns:
        The module, with `APP_REGISTRY`, `DB` and `SETTINGS`.
    """
    conf = import_module(os.environ.get("PICCOLO_CONF", "piccolo_conf"))
    bind_tables(conf.DB)
    return conf


def bind_tables(db: Engine[Any]) -> None:
    """Let the tables that are loaded use a database. Others look for piccolo_conf by themselves."""
    for table in TABLE_REGISTRY:
        table._meta.db = db
