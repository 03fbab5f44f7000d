"""Locust as an open-loop generator. Only this package may import Locust or gevent."""
