"""Search, one module per step: plan, shortlist (voting, fingerprint), searcher (align, rank), confidence, location.

`answers` turns the answer into plain values and a table.
"""
