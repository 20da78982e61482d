"""The checks of a host: tables of conditions over facts."""
