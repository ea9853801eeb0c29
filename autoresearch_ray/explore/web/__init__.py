"""The web page over one run: read only, offline, nothing of it leaves the machine."""
