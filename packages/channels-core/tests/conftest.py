"""What all tests of the package share."""

from hypothesis import HealthCheck, settings

# An example that takes long tells of a busy machine, not of a defect.
settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")
