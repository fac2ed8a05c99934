"""Several networks trained and compared."""
