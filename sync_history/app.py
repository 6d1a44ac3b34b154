"""What sync runs bring to the application."""

from audit.apps import App
from sync_history.in_the_trail import WORDS
from sync_history.settings import SyncSettings

APP = App(
    settings=SyncSettings,
    sentences={
        "sync_history_over": "A sync run that is over does not change any more.",
        "sync_history_transition": "A sync run cannot go from this state to that one.",
    },
    tables="sync_history.admin:tables",
    forms="sync_history.admin:forms",
    operations="sync_history.api:operations",
    pages="sync_history.pages:pages",
    groups="sync_history.directory.groups:groups",
    panels="sync_history.panel:panels",
    jobs="sync_history.scheduler:jobs",
    notices="sync_history.notices:notices",
    erasers="sync_history.erasing:erasers",
    lifespan="sync_history.runner:lifespan",
    words=WORDS,
)
