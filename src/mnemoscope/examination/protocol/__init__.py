"""The steps of an examination, each a file: calibrate, fit, test in looks, patch, probe, control, gather evidence.

May import: everything of the examination but its surface (session, planning, assertion).
"""
