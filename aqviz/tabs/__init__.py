"""One tab a module: its layout and wiring to plain functions."""
