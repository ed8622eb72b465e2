"""The web app: `app.py` at the top of the repository puts these parts together."""
