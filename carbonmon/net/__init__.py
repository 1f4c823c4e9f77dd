"""The one HTTP client, and its limits: what leaves this process and the machine goes through here.

It imports the core and the standard library; `http.client` and `ssl` only once something is asked.
"""
