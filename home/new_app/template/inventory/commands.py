"""`piccolo inventory ...`: what an administrator does at a terminal."""

from audit.cli import WrongOption, command
from home.services import Services
from inventory.tables import Item


@command
async def add(services: Services, name: str, price: int = 0) -> None:
    """Add an item.

    :param name: what it is called
    :param price: in cents

    """
    if price < 0:
        raise WrongOption("--price is not negative")
    await Item(name=name, price=price).save()
    print(f"added {name}")
