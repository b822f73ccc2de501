"""A page for one person on this machine: ask a collection, judge what comes, look at what is in there.

It stands above the facade and uses the public surface alone. It reads the collection and changes nothing in it.
"""
