"""Behind the door: in SQL readers could do nothing; and if all grants fell, policies would hold.

Each test opens more than is open, in a transaction that is rolled back.
"""

import psycopg
import pytest
from psycopg import sql

from tests.database import access
from tests.database.town import BEHIND_THE_DOOR, READERS, Town
from tests.harness.platform import Connection

_ROLES = "anon, authenticated, faregate_reader"
_OPEN_SCHEMA = f"grant usage on schema billing to {_ROLES}"
_OPEN_TABLES = f"grant all on all tables in schema billing to {_ROLES}"
_OPEN_FUNCTIONS = f"grant execute on all functions in schema billing to {_ROLES}"
_READ = sql.SQL("select from {table}")
_WRITES = [
    sql.SQL("insert into {table} default values"),
    sql.SQL("update {table} set {column} = {column}"),
    sql.SQL("delete from {table}"),
    sql.SQL("truncate {table}"),
]
_TABLES = [table for table in access.TABLES if table not in ("draws", "usage_limits")]  # views


def _expect_refusal(connection: Connection, statement: sql.Composed) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(statement)


def _columns(town: Town, schema: str, table: str) -> list[str]:
    found = town.platform.fetch(
        "select a.attname from pg_attribute as a where a.attrelid = %s::regclass"
        " and a.attnum > 0 and not a.attisdropped",
        f"{schema}.{table}",
    )
    return [str(column) for (column,) in found]


def _rows(
    connection: Connection,
    table: str,
    columns: list[str],
    condition: sql.Composable = sql.SQL("true"),  # noqa: B008  it never changes
) -> list[str]:
    query = sql.SQL("select {} from billing.{} where {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table), condition
    )
    return sorted(map(repr, connection.execute(query)))


def _visible(town: Town, reader: str, table: str, columns: list[str]) -> list[str]:
    """Give what a reader may see of some columns, as the owner of the database sees it."""
    roles = town.readers[reader].roles.items()
    organizations = [its for its, role in roles if role in access.TABLES[table]]
    if not organizations:
        return []
    condition = sql.SQL("{} and {}").format(
        town.whose(table, *organizations), sql.SQL(access.ROWS.get(table, "true"))
    )
    return _rows(town.platform.owner, table, columns, condition)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("schema", "table"), BEHIND_THE_DOOR)
def test_readers_reach_no_table(town: Town, schema: str, table: str, reader: str) -> None:
    names = {
        "table": sql.Identifier(schema, table),
        "column": sql.Identifier(_columns(town, schema, table)[0]),
    }
    with town.being(reader) as connection:
        for statement in (_READ, *_WRITES):
            _expect_refusal(connection, statement.format(**names))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", _TABLES)
def test_were_the_schema_open_columns_and_policies_would_hold(
    town: Town, table: str, reader: str
) -> None:
    columns = _columns(town, "billing", table)
    name = sql.Identifier("billing", table)
    with town.being(reader, _OPEN_SCHEMA) as connection:
        granted = [column for column in columns if _is_granted(connection, table, column)]
        assert bool(granted) == bool(access.TABLES[table] and town.readers[reader].token)
        if granted:
            shown = _rows(connection, table, granted)
            assert shown == _visible(town, reader, table, granted)
        for column in map(sql.Identifier, sorted({*columns} - {*granted})):
            _expect_refusal(connection, sql.SQL("select {} from {}").format(column, name))
        for write in _WRITES:
            _expect_refusal(connection, write.format(table=name, column=sql.Identifier(columns[0])))


def _is_granted(connection: Connection, table: str, column: str) -> bool:
    ((is_granted,),) = connection.execute(
        "select has_column_privilege(%s, %s, 'select')", [f"billing.{table}", column]
    )
    return bool(is_granted)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", _TABLES)
def test_were_every_table_open_policies_would_hold(town: Town, table: str, reader: str) -> None:
    columns = _columns(town, "billing", table)
    names = {
        "table": sql.Identifier("billing", table),
        "column": sql.Identifier(columns[0]),
    }
    with town.being(reader, _OPEN_SCHEMA, _OPEN_TABLES, _OPEN_FUNCTIONS) as connection:
        shown = _rows(connection, table, columns)
        assert shown == _visible(town, reader, table, columns)
        insert, update, delete, _ = (write.format(**names) for write in _WRITES)
        assert connection.execute(update).rowcount == 0
        assert connection.execute(delete).rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute(insert)
