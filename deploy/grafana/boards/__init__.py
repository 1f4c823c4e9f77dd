"""The dashboards as code: what `python -m deploy.grafana.boards` writes to deploy/grafana/dashboards.

Needs the development group (grafana-foundation-sdk) and Python 3.11; a Grafana needs the JSON alone.
"""
