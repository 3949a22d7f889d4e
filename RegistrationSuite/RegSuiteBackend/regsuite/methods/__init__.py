"""Published methods: one file each under methods/<area>/, one row each in methods/registry.py."""
