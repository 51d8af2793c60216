"""Batch norm and what can stand in its place: BN groups, frozen statistics, group and layer norm, for any model."""
