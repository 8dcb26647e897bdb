from hypothesis import settings

# No timed assertions: a busy machine fails none of these tests.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
