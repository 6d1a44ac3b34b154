"""`/api/inventory`: what programs do with the inventory."""

from typing import Annotated

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from home.services import Services
from home.web.bodies import Body, answer, body_of
from home.web.openapi import Operation
from home.web.people import Who, person_of
from inventory.tables import Item


class NewInventoryItem(Body):
    """A name, and a price in cents."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    price: int = 0


class InventoryItem(BaseModel):
    """One item."""

    id: int
    name: str
    price: int


class InventoryItems(BaseModel):
    """All there are."""

    items: list[InventoryItem]


def operations(services: Services) -> list[Operation]:
    """Return what the API can do."""
    path = "/api/inventory"
    return [
        Operation("GET", path, list_items, "All items.", answer=InventoryItems),
        Operation("POST", path, add_item, "Add an item.", NewInventoryItem, InventoryItem, 201, errors=(409,)),
    ]


async def list_items(request: Request) -> Response:
    """Answer with all items; for everybody who is signed in."""
    await person_of(request)
    return answer({"items": await Item.select(Item.id, Item.name, Item.price).order_by(Item.id)})


async def add_item(request: Request) -> Response:
    """Add an item; for administrators."""
    body = await body_of(request, NewInventoryItem)
    await person_of(request, Who.ADMINISTRATORS)
    item = Item(**body.model_dump())
    await item.save()
    return answer({"id": item.id, **body.model_dump()}, 201)
