"""Run a campaign: plan, places where workloads run, records."""
