"""Somebody who may do anything to a database: what no role of the product is."""

import re

from infra.local.postgres import SUPERUSER
from infra.local.template import Database


def superuser_url(database: Database) -> str:
    return re.sub(r"//[^:]+:", f"//{SUPERUSER}:", database.owner_url)
