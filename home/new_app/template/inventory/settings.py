"""What can be set for the inventory, in the environment or `.env`."""

from typing import Annotated

from pydantic import BaseModel, Field


class InventorySettings(BaseModel):
    """Settings and their defaults."""

    inventory_loan_days: Annotated[int, Field(ge=1, le=365)] = 14
