"""What logs show: statistics, tables, figures and the report; it reads logs only and imports no torch."""
