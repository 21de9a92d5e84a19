"""The use cases. Command line, HTTP API and web page are skins on these functions."""
