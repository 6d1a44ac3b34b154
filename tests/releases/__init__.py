"""Databases as releases left them: `python -m tests.releases VERSION` keeps today's."""
