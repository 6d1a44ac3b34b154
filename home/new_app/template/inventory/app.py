"""What the inventory brings to the application. Delete what you do not need."""

from audit.apps import App
from audit.sentences import Words
from inventory.settings import InventorySettings

APP = App(
    settings=InventorySettings,
    sentences={"inventory_items_price_check": "A price is not negative."},
    words=Words(
        {"inventory_items.insert": "bought {}", "inventory_items.returned": "noted that {} is back"}
    ),
    tables="inventory.admin:tables",
    forms="inventory.admin:forms",
    operations="inventory.api:operations",
    pages="inventory.pages:pages",
    panels="inventory.pages:panels",
    jobs="inventory.jobs:jobs",
    notices="inventory.notices:notices",
    lifespan="inventory.jobs:lifespan",
)
