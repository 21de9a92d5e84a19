"""Bringing existing pictures into the catalog, by what their files say of themselves."""
