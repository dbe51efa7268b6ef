"""What the sessions of ``noxfile.py`` and ``.ci/run`` are made of; nothing here is shipped."""
