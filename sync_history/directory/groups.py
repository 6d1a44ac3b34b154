"""Who left the directory, for the page of people."""

from home.accounts.people import Group
from home.services import Services

IS_GONE = """
    EXISTS (SELECT FROM directory_people AS listed
            WHERE listed.user_id = users.id AND listed.left_at IS NOT NULL)
"""
LEFT = Group("left", "Left the directory", IS_GONE)


def groups(services: Services) -> list[Group]:
    """Return the people whom the directory listed, and lists no longer."""
    return [LEFT]
