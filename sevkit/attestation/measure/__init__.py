"""Launch measurement: the digest a guest will report, its trace, ID blocks, IGVM files, and why a digest differs."""
