"""The page of the inventory, and its part of the overview."""

from starlette.requests import Request
from starlette.responses import Response

from home.database.engine import Engine
from home.pages.panels import Figure, Panel, PanelSource
from home.services import Services
from home.web.pages import Page
from home.web.people import Who, services_of
from home.web.redirects import redirect
from home.web.rendering import render
from inventory.settings import InventorySettings
from inventory.tables import Item

FIGURES = "SELECT count(*) AS items, count(borrowed_by) AS lent FROM inventory_items"


def pages(services: Services) -> list[Page]:
    """Return the pages; the one with a title is in the navigation."""
    return [
        Page("/inventory", show_items, Who.MEMBERS, "Inventory"),
        Page("/inventory/{id:int}/borrow", borrow, Who.MEMBERS, methods=["POST"]),
    ]


def panels(services: Services) -> list[PanelSource]:
    """Return what the overview shows."""
    return [items_panel]


async def show_items(request: Request) -> Response:
    """Show all items, with a button for those that nobody has."""
    settings = services_of(request).settings_of(InventorySettings)
    items = await Item.select(
        Item.id, Item.name, Item.price, Item.borrowed_by.email.as_alias("borrower")
    ).order_by(Item.name)
    days = settings.inventory_loan_days
    return render(request, "inventory/items.html", items=items, days=days)


async def borrow(request: Request) -> Response:
    """Lend an item to who asks, unless somebody was faster: the condition is in the statement."""
    person = request.state.person
    lent = (
        await Item.update({Item.borrowed_by: person.id})
        .where(Item.id == request.path_params["id"], Item.borrowed_by.is_null())
        .returning(Item.id)
    )
    if not lent:
        return redirect("/inventory", "It is lent already, or there is no such item.", failed=True)
    return redirect("/inventory", "It is yours for now.")


async def items_panel(db: Engine) -> Panel:
    """Count the items, and those that are lent."""
    [row] = await db.fetch(FIGURES)
    figures = [Figure("items", str(row["items"]), "/inventory"), Figure("lent", str(row["lent"]))]
    return Panel("Inventory", figures)
