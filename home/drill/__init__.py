"""`piccolo home drill`: is a backup one that can be restored, and does it hold what was sealed?"""
