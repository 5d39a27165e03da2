"""Discovery: which versions fit a query, ranked, and why the others do not."""
