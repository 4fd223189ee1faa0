"""Settings of the property tests."""

from hypothesis import settings

# A deadline would make the tests depend on how busy the machine is.
settings.register_profile("eventlog", deadline=None)
settings.load_profile("eventlog")
