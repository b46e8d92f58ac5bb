"""A LangChain agent with two tools. Its model is scripted and ships with the function, so that it needs no network; all else is the real thing."""

import json
import os

from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from forkbench import fork_times

RATES = {("EUR", "USD"): 1.25, ("USD", "EUR"): 0.8}
PRICES = {"lamp": 40.0, "chair": 85.0, "desk": 240.0}


@tool
def order_total(items: list[str]) -> float:
    """Add up the prices in euro of the items of an order."""
    return sum(PRICES[item] for item in items)


@tool
def convert(amount: float, source: str, target: str) -> float:
    """Convert an amount of money from one currency to another."""
    return amount * RATES[(source, target)]


class ScriptedModel(BaseChatModel):
    """Decides by what it has been told so far: first the total, then its conversion, then the answer."""

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        results = [message for message in messages if isinstance(message, ToolMessage)]
        if not results:
            question = json.loads(messages[-1].content)
            reply = self._call("order_total", {"items": question["items"]}, 1)
        elif len(results) == 1:
            amount = float(results[0].content)
            reply = self._call("convert", {"amount": amount, "source": "EUR", "target": "USD"}, 2)
        else:
            reply = AIMessage(content=f"The order costs {float(results[1].content):.2f} USD.")
        return ChatResult(generations=[ChatGeneration(message=reply)])

    @staticmethod
    def _call(name, arguments, number):
        call = {"name": name, "args": arguments, "id": f"call-{number}", "type": "tool_call"}
        return AIMessage(content="", tool_calls=[call])


AGENT = create_agent(ScriptedModel(), tools=[order_total, convert])


def work(event):
    items = event.get("items", ["lamp", "desk"])
    state = AGENT.invoke({"messages": [{"role": "user", "content": json.dumps({"items": items})}]})
    return {
        "answer": state["messages"][-1].content,
        "steps": len(state["messages"]),
        "x": event.get("x"),
        "pid": os.getpid(),
    }


def handler(event, context):
    if event.get("op") == "fork":
        return {"fork_us": fork_times(work, event.get("n", 30))}
    return work(event)


# Warmed while the version is initialised: the snapshot holds what the first call would have to build.
work({})
