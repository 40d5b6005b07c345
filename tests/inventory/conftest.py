from hypothesis import settings

# A machine under load must not fail a property; a test as a whole has its timeout.
settings.register_profile("olladist", deadline=None)
settings.load_profile("olladist")
