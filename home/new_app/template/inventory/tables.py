"""Things that people borrow."""

from piccolo.columns import ForeignKey, Integer, OnDelete, Serial, Timestamptz, Varchar
from piccolo.constraints import Check
from piccolo.table import Table

from home.tables import User


class Item(Table, tablename="inventory_items"):
    """One thing, and who has it."""

    id: Serial
    name = Varchar(length=100, default=None)
    price = Integer(default=0, help_text="In cents.")
    code = Varchar(length=20, null=True, default=None, help_text="Opens its cupboard.")
    borrowed_by = ForeignKey(User, null=True, default=None, on_delete=OnDelete.set_null)
    created_at = Timestamptz()

    # What people are told when they violate it stands in app.py.
    inventory_items_price_check = Check("price >= 0")
