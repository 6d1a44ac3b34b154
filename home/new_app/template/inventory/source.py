"""Items from elsewhere. With SYNC_SOURCES=inventory.source they come every hour."""

from datetime import timedelta

from inventory.tables import Item
from sync_history.sources import Run, source

SUPPLIER = {"Ladder": 9_900, "Drill": 12_500, "Hole": -1}


@source("inventory", every=timedelta(hours=1))
async def inventory(run: Run) -> None:
    """Add what the supplier has and we have not."""
    run.total(len(SUPPLIER))
    for name, price in SUPPLIER.items():
        if price < 0:
            run.failed(name, "its price is negative")
        elif run.dry_run:
            run.note(f"{name} would be added")
        else:
            if not await Item.exists().where(Item.name == name):
                await Item(name=name, price=price).save()
            run.synced()
