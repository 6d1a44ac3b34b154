from piccolo.columns import Boolean, Serial, Timestamptz, Varchar
from piccolo.table import Table


class Person(Table):
    id: Serial
    email = Varchar(length=255, unique=True)
    display_name = Varchar(length=255, null=True)
    is_admin = Boolean(default=False)
    created_at = Timestamptz()
