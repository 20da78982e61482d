"""Valid and subtly wrong reports under a root of sevkit's own: what any verifier can be tested with."""
