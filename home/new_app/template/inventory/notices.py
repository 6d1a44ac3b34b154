"""What people should hear of by mail, and programs by webhook."""

from collections.abc import Sequence

from audit.database import Database
from home.outbox.notices import Look, Notice
from home.services import Services
from inventory.settings import InventorySettings

OVERDUE = """
    SELECT item.id, name, email
    FROM inventory_items AS item JOIN users ON users.id = borrowed_by
    WHERE item.created_at < now() - make_interval(days => $1)
"""


def notices(services: Services) -> list[Look]:
    """Return what is looked for every 15 seconds; each matter is told once."""
    days = services.settings_of(InventorySettings).inventory_loan_days

    async def overdue(db: Database) -> Sequence[Notice]:
        return [
            Notice(
                kind="inventory.overdue",
                matter=f"overdue:{row['id']}:{row['email']}",
                title="Something is overdue",
                text=f"Please bring back: {row['name']}.",
                path="/inventory",
                to=row["email"],
            )
            for row in await db.fetch(OVERDUE, days)
        ]

    return [overdue]
