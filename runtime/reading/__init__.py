"""How data sources read: pictures that may be broken, sets of the library `datasets`, streams."""
