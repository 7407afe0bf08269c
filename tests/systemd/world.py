"""Inside the box: a broker and a stand-in for Slack, told what to do by lines of JSON on stdin, answering on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

from monitor.demo.standins.slack import SlackStandIn
from monitor.demo.world import ID, PREDICTION, SCORE, TIME, table
from monitor.sources.embedded import PARTITIONS, EmbeddedBroker


def record(row: dict[str, Any]) -> bytes:
    """A row of the demo's log as a service would log it."""
    own = {ID, TIME, PREDICTION, SCORE}
    features = {name: value for name, value in row.items() if name not in own}
    at = int(row[TIME].timestamp() * 1000)
    return json.dumps({name: row[name] for name in own} | {TIME: at, "features": features}).encode()


def main(topic: str, token: str) -> None:
    values = [record(row) for row in table("log").to_dict("records")]
    with EmbeddedBroker() as broker, SlackStandIn(token) as slack:
        broker.create_topic(topic)
        producer = broker.producer()
        print(json.dumps({"servers": broker.bootstrap_servers, "slack": slack.api_url}), flush=True)
        n_sent = 0
        for line in sys.stdin:
            order = json.loads(line)
            begin, end = order.get("produce", (0, 0))
            for i in range(begin, min(end, len(values))):
                producer.produce(topic, values[i], partition=i % PARTITIONS)
                n_sent += 1
            producer.flush(10)
            tests = [message for message in slack.messages.values() if "TEST" in message.text]
            told = {"sent": n_sent, "tests": len(tests), "pictures": len(slack.uploads)}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
