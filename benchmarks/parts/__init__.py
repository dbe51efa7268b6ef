"""The parts: each module declares one as ``PART``."""
