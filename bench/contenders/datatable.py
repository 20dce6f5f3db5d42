"""datatable: ``fread`` and its ``Ftrl`` model, float32 and lock-free threads, as it comes."""

from __future__ import annotations

import importlib
import time

from bench.contenders.base import ALPHA, BETA, L1, L2, Job, Measures

NEEDS = "datatable"


def learn_file(job: Job) -> Measures:
    """From a tab separated file to a model in memory (counts are values of their own)."""
    started = time.perf_counter()
    datatable = importlib.import_module("datatable")
    models = importlib.import_module("datatable.models")
    frame = datatable.fread(job["criteo"], sep="\t", header=False)
    settings = {"alpha": ALPHA, "beta": BETA, "lambda1": L1, "lambda2": L2, "nbins": 1 << job["bits"]}
    model = models.Ftrl(**settings, nepochs=1, model_type="binomial")
    model.fit(frame[:, 1:], frame[:, 0])
    return {"rows": frame.nrows, "seconds": time.perf_counter() - started}
