"""Which published attacks apply to a host, a guest and its policy: a table of bulletins with sources."""
