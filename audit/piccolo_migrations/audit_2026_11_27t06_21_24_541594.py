"""A foreign key that is emptied because the person who acts is deleted is recorded."""

from pathlib import Path

from audit.ddl import AppMigration, sql_file

ID = "2026-11-27T06:21:24:541594"
VERSION = "1.38.0"
DESCRIPTION = "A foreign key that is emptied because the person who acts is deleted is recorded."

SQL = Path(__file__).parent.parent / "sql"


async def forwards():
    manager = AppMigration(
        migration_id=ID, app_name="audit", description=DESCRIPTION
    )
    # Going backwards leaves the corrected functions, which fit the tables of before as well.
    manager.add_raw_after_tables(sql_file(SQL / "row_changes_v2.sql"))
    return manager
