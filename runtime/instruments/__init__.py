"""What is measured inside a network: every module here is one instrument, `catalogue.py` lists them in their order."""
