"""Commands of launch measurement, reports and bulletins."""
