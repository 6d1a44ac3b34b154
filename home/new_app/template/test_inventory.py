"""The inventory: each thing that it brings, used as people and programs use it."""

import httpx
import pytest

from audit.tables import AuditLog
from home.database.engine import Engine
from home.services import Services
from home.tables import User
from inventory.notices import notices
from inventory.tables import Item
from tests.conftest import enter

pytestmark = pytest.mark.any_version


async def test_programs_add_items_and_the_trail_says_who(
    client: httpx.AsyncClient, administrator: User
) -> None:
    await enter(client, "ada@example.com")
    answer = await client.post("/api/inventory", json={"name": "Ladder", "price": 100})
    assert answer.status_code == 201, answer.text
    assert (await client.get("/api/inventory")).json()["items"] == [answer.json()]
    [row] = await AuditLog.objects().where(AuditLog.resource == "inventory_items")
    assert (row.action, row.actor) == ("inventory_items.insert", "ada@example.com")
    assert "bought" in (await client.get(f"/trail/{row.id}")).text


async def test_who_keeps_an_item_too_long_is_told(db: Engine, member: User) -> None:
    await Item(name="Ladder", borrowed_by=member.id).save()
    await Item(name="Drill").save()
    [overdue] = notices(Services(db, db.settings))
    assert await overdue(db) == []
    await db.execute("UPDATE inventory_items SET created_at = now() - interval '15 days'")
    [notice] = await overdue(db)
    assert (notice.to, notice.text) == ("mel@example.com", "Please bring back: Ladder.")


async def test_a_refusal_has_its_sentence(client: httpx.AsyncClient, administrator: User) -> None:
    await enter(client, "ada@example.com")
    answer = await client.post("/api/inventory", json={"name": "Hole", "price": -1})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "A price is not negative."


async def test_members_borrow_on_the_page_and_add_nothing(
    client: httpx.AsyncClient, member: User
) -> None:
    item = Item(name="Ladder")
    await item.save()
    await enter(client, "mel@example.com")
    assert (await client.post("/api/inventory", json={"name": "x"})).status_code == 403
    page = (await client.get("/inventory")).text
    token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
    path = f"/inventory/{item.id}/borrow"
    assert (await client.post(path, data={"csrf_token": "forged"})).status_code == 403
    assert (await client.post(path, data={"csrf_token": token})).status_code == 303
    assert "It is yours for now." in (await client.get("/inventory")).text
    await client.post(path, data={"csrf_token": token})
    page = (await client.get("/inventory")).text
    assert "It is lent already" in page
    assert page.count("<td>Ladder</td>") == 1
    await item.refresh()
    assert item.borrowed_by == member.id
