"""What is measured: each function runs in a process of its own and returns its figures.

A subject imports what it measures, so that each process loads one library only.
"""
