"""How the inventory appears in the back office, and a form."""

from piccolo_admin.endpoints import FormConfig, TableConfig
from pydantic import BaseModel, Field
from starlette.requests import Request

from audit.errors import GroundworkError
from audit.record import record
from home.database.engine import Engine
from home.services import Services
from inventory.tables import Item

GROUP = "Inventory"


class NotBorrowed(GroundworkError):
    """Nobody has borrowed this item."""


class ReturnForm(BaseModel):
    """An item that comes back."""

    item: int = Field(description="The item's number, as in the list")


async def take_back(db: Engine, form: ReturnForm) -> str:
    """Note that an item came back. Both steps are stored, or neither."""
    async with db.transaction():
        returned = (
            await Item.update({Item.borrowed_by: None}, force=True)
            .where(Item.id == form.item, Item.borrowed_by.is_not_null())
            .returning(Item.name)
        )
        if not returned:
            raise NotBorrowed
        await record(db, "inventory_items.returned", "inventory_items", form.item)
    return f"{returned[0]['name']} is back."


def tables(services: Services) -> list[TableConfig]:
    """Return the tables of the back office."""
    return [
        TableConfig(
            Item,
            menu_group=GROUP,
            visible_columns=[Item.id, Item.name, Item.price, Item.borrowed_by, Item.created_at],
            visible_filters=[Item.name, Item.borrowed_by],
        )
    ]


def forms(services: Services) -> list[FormConfig]:
    """Return the forms of the back office; they are for administrators."""

    async def endpoint(request: Request, form: ReturnForm) -> str:
        return await take_back(services.db, form)

    return [FormConfig("Return to the inventory", ReturnForm, endpoint, "It is back.", GROUP)]
