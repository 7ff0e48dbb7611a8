"""The database and the broker of the environment, and a consumer that begins again when one of them goes."""

import os
import time
from contextlib import closing

import pika
import psycopg2
from pika.exceptions import AMQPError

QUEUES = ("names", "dists", "candidates", "changes")
env = os.environ


def channel():
    credentials = pika.PlainCredentials(env["RABBITMQ_USERNAME"], env["RABBITMQ_PASSWORD"])
    where = pika.ConnectionParameters(
        env["RABBITMQ_HOST"],
        virtual_host=env["RABBITMQ_VHOST"],
        credentials=credentials,
        heartbeat=20,
        socket_timeout=5,
    )
    opened = pika.BlockingConnection(where).channel()
    for queue in QUEUES:
        opened.queue_declare(queue, durable=True)
    opened.confirm_delivery()
    return opened


def database():
    opened = psycopg2.connect(
        host=env["POSTGRES_HOST"],
        dbname=env["POSTGRES_DB"],
        user=env["POSTGRES_USER"],
        password=env["POSTGRES_PASSWORD"],
        connect_timeout=5,
    )
    opened.autocommit = True
    return opened


def publish(to, queue: str, body: bytes) -> None:
    to.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def run(work) -> None:
    """Have `work` done for ever."""
    while True:
        try:
            work()
        except (AMQPError, psycopg2.Error, OSError) as error:
            print("again:", repr(error), flush=True)
            time.sleep(0.5)


def consume(queue: str, handle) -> None:
    """`handle(cursor, channel, body)` for each message, acknowledged when it is done."""

    def work() -> None:
        with closing(database()) as connection, connection.cursor() as cursor:
            from_queue = channel()
            from_queue.basic_qos(prefetch_count=5)

            def on_message(_channel, method, _properties, body: bytes) -> None:
                handle(cursor, from_queue, body)
                from_queue.basic_ack(method.delivery_tag)

            tag = f"{env.get('RABBITMQ_CTAG_PREFIX', '')}{os.getpid()}"
            from_queue.basic_consume(queue, on_message, consumer_tag=tag)
            from_queue.start_consuming()

    run(work)
