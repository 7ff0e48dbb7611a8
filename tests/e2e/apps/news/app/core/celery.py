"""The tasks; broker and results are Redis."""

import os

from celery import Celery

celery = Celery("news", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app = celery


@celery.task(name="analyse")
def analyse(text: str) -> int:
    return len(text.split())
