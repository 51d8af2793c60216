"""A section of the page: a heading, a sentence, charts, tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from mbtrain.analysis.charts import Panel
from mbtrain.analysis.table import Table


@dataclass(frozen=True)
class Section:
    """What stands under one heading; `is_folded` sections open at a click."""

    title: str
    text: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    is_folded: bool = False
