"""Which published attacks apply to a host, a guest and its policy: a table with sources, and what is known."""
