"""piccolo_conf for the tests, also under `piccolo tester run`: without the settings of anybody."""

import os
import sys

from dotenv import dotenv_values

from home.config.settings import ROOT, Settings
from home.config.sources import TWINS

POOLED = os.environ.get("TEST_THROUGH") == "pgbouncer"

Settings.model_config["env_file"] = None  # no .env of a developer, no embedded server by accident
for name in [*dotenv_values(ROOT / ".env.example"), *(name.upper() for name in TWINS.values())]:
    os.environ.pop(name, None)
os.environ["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
if POOLED:
    os.environ["DB_POOLER"] = "transaction"
os.environ["PICCOLO_CONF"] = "piccolo_conf"  # for the processes that tests start
sys.modules.pop("piccolo_conf", None)  # which `piccolo` has loaded with other settings

from piccolo_conf import APP_REGISTRY, DB, SETTINGS  # noqa: E402

__all__ = ["APP_REGISTRY", "DB", "POOLED", "SETTINGS"]
