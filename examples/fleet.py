"""The demo's fleet: 48 keys, as in OpenRouter's account of running agents (one key for tests that spends most, one for development,
46 with a job each), and the calls they make: real arrivals and token counts, drawn to keys by a seed. Pure and repeatable."""

import csv
import random
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from examples.prices import cost_usd

DATA = Path(__file__).parent / "data" / "azure_llm_conv_2023_sample.csv"
ORG = "acme"
RUNAWAY = "crawler"
_JOBS = {
    "research": ["crawler", "summarizer", "citation-checker", "paper-scout", "trend-watch", "dataset-cleaner", "translator", "outline-writer", "fact-finder", "patent-scan", "benchmark-reader", "glossary"],
    "support": ["triage", "inbox-sorter", "refund-helper", "faq-writer", "escalation-spotter", "sentiment", "tone-editor", "ticket-linker", "onboarding-guide", "churn-watch", "callback-planner", "survey-reader"],
    "engineering": ["testing", "development", "code-review", "changelog", "flaky-finder", "log-reader", "incident-scribe", "dependency-bump", "doc-writer", "schema-diff", "query-tuner", "release-notes"],
    "growth": ["seo-writer", "ad-copy", "lead-scorer", "crm-cleaner", "newsletter", "event-planner", "price-watch", "deck-writer", "webinar-notes", "social-drafts", "persona-builder", "partner-finder"],
}  # fmt: skip
_MODELS = ("deepseek/deepseek-v4-flash", "openai/gpt-5-mini", "openai/gpt-5")


class Agent(NamedTuple):
    """One autonomous behaviour. `weight`: its share of the calls."""

    workspace: str
    name: str
    secret: str
    model: str
    weight: float


class Call(NamedTuple):
    """One request: when (microseconds after the first), whose, and what it uses."""

    offset_us: int
    agent: Agent
    input_tokens: int
    output_tokens: int
    session: str

    @property
    def nanos(self) -> int:
        """What it costs, nano-dollars."""
        return int(cost_usd(self.agent.model, self.input_tokens, self.output_tokens).scaleb(9))


def fleet() -> list[Agent]:
    """The 48 agents."""
    agents: list[Agent] = []
    for workspace, jobs in _JOBS.items():
        for job in jobs:
            model, weight = _MODELS[len(agents) % 3], 1.0 / (1 + len(agents) % 12)
            if job == "testing":
                model, weight = "anthropic/claude-sonnet-5", 2.0
            elif job == "development":
                model, weight = "anthropic/claude-sonnet-5", 0.8
            agents.append(Agent(workspace, job, f"sk-demo-{job}-000000000000", model, weight))
    return agents


def trace(seed: int = 7) -> list[Call]:
    """The trace's requests, each given to an agent."""
    draw, agents = random.Random(seed), fleet()
    with DATA.open() as file:
        rows = [(datetime.fromisoformat(at[:26]), int(i), int(o)) for at, i, o in list(csv.reader(file))[1:]]
    first = rows[0][0]
    owners = draw.choices(agents, [agent.weight for agent in agents], k=len(rows))
    return [
        Call(round((at - first).total_seconds() * 1_000_000), agent, tokens_in, tokens_out, f"run-{agent.name}")
        for (at, tokens_in, tokens_out), agent in zip(rows, owners, strict=True)
    ]


def runaway(start_us: int, every_us: int, count: int) -> list[Call]:
    """A loop: one agent asks the same long question again and again."""
    agent = next(agent for agent in fleet() if agent.name == RUNAWAY)
    return [Call(start_us + n * every_us, agent, 24_000, 900, "run-loop") for n in range(count)]
