"""Imported by the server that forks learners (see ``tests/kafka_learner.py``)."""

from tests.kafka_learner import warm_up

warm_up()
