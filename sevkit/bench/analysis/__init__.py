"""From samples to comparisons: statistics, checks, tables, the published study."""
