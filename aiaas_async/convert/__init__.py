"""Models of other projects, turned into what is served here."""
