"""Uses the daemon with the official OpenAI client: the list of models, the policy (at once and streamed), the agent, and refused requests."""

import json
import os
import socket
import sys
import time
import urllib.request

import openai
from openai import OpenAI

client = OpenAI(base_url=os.environ["DAEMON_URL"] + "/v1", api_key=os.environ["DAEMON_TOKEN"], max_retries=0)
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]


def check_models():
    """Checks the list of models, and returns the name of the policy that includes its generation."""
    names = [model.id for model in client.models.list()]
    pinned = [name for name in names if name.startswith("milepost/policy@")]
    assert sorted(names) == sorted(["milepost/policy", "milepost/agent", *pinned]) and len(pinned) == 1, names
    assert client.models.retrieve(pinned[0]).id == pinned[0]
    return pinned[0]


def check_policy(pinned):
    """Checks an answer of the policy at once and streamed: text, usage, seeds and stop texts."""
    request = dict(messages=HELLO, max_tokens=12, temperature=1.0, seed=7, user="somebody", top_p=0.9, presence_penalty=0)
    whole = client.chat.completions.create(model=pinned, **request)
    choice = whole.choices[0]
    assert whole.model == pinned and whole.object == "chat.completion" and pinned.endswith(whole.system_fingerprint), whole
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length"), whole
    usage = whole.usage
    assert usage.prompt_tokens > 4 and 1 <= usage.completion_tokens <= 12, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert (choice.finish_reason == "length") == (usage.completion_tokens == 12), whole

    request["max_completion_tokens"] = request.pop("max_tokens")
    chunks = list(client.chat.completions.create(model="milepost/policy", stream=True, stream_options={"include_usage": True}, **request))
    assert all(chunk.object == "chat.completion.chunk" and chunk.id == chunks[0].id for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == choice.message.content, (text, choice.message.content)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == choice.finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == usage, chunks[-1]

    other = client.chat.completions.create(model="milepost/policy", **{**request, "seed": 8})
    assert other.choices[0].message.content != text, "two seeds gave the same answer"
    if len(text) > 2:
        stop = text[1:3]
        cut = client.chat.completions.create(model="milepost/policy", stop=[stop], **request)
        assert cut.choices[0].message.content == text[: text.index(stop)] and cut.choices[0].finish_reason == "stop", cut


def check_formats():
    """Checks that an answer follows its JSON schema, and that the descriptions of tools are in the prompt."""
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"], "additionalProperties": False}
    response_format = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    answer = client.chat.completions.create(model="milepost/policy", messages=HELLO, response_format=response_format, max_tokens=40)
    assert answer.choices[0].message.content in ('{"colour":"red"}', '{"colour":"blue"}'), answer
    assert answer.choices[0].finish_reason == "stop", answer
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with_tool = client.chat.completions.create(model="milepost/policy", messages=HELLO, tools=[tool], tool_choice="auto", max_tokens=4)
    plain = client.chat.completions.create(model="milepost/policy", messages=HELLO, max_tokens=4)
    assert with_tool.usage.prompt_tokens > plain.usage.prompt_tokens, "the tool is not in the prompt"


def check_agent():
    """Runs a task as a chat completion, streamed and at once, and returns the id of the second one."""
    task = {"url": os.environ["SITE"], "check": 'text visible "About"', "limits": {"max_steps": 20}}
    request = dict(model="milepost/agent", messages=[{"role": "user", "content": os.environ["GOAL"]}])
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, extra_body={"milepost": task}, **request))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    ending = chunks[-2]
    ran = ending.milepost
    assert ran["state"] == "done" and ran["success"] is True and ending.choices[0].finish_reason == "stop", (ran, text)
    progress, answer = text.rsplit("\n\n", 1)
    assert progress.startswith("Plan 1:\n> 1. ") and "\n- click " in progress and answer, text
    assert chunks[-1].usage.completion_tokens > 10, chunks[-1]

    del task["url"]
    whole = client.chat.completions.create(metadata={"url": os.environ["SITE"]}, extra_body={"milepost": task}, **request)
    assert whole.choices[0].message.content == answer and whole.milepost["state"] == "done", whole
    return whole.milepost["task"]


def check_disconnect():
    """Checks that a task is cancelled when its caller closes the connection, for a streamed answer and for one at once."""
    silent = socket.create_server(("127.0.0.1", 0))
    address = "http://127.0.0.1:%d/" % silent.getsockname()[1]
    request = dict(model="milepost/agent", messages=[{"role": "user", "content": f"Wait for ever at {address}."}])
    with client.chat.completions.create(stream=True, **request) as stream:
        next(iter(stream))
    try:
        client.with_options(timeout=0.5).chat.completions.create(**request)
        raise AssertionError("a task within half a second?")
    except openai.APITimeoutError:
        pass
    # The site keeps running until the tasks have ended; otherwise they would fail before they are cancelled.
    await_end(2)
    silent.close()


def await_end(count):
    """Waits until the latest `count` tasks have ended."""
    url = os.environ["DAEMON_URL"] + f"/v1/tasks?limit={count}"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + os.environ["DAEMON_TOKEN"]})
    for _ in range(1200):
        with urllib.request.urlopen(request) as answer:
            states = [task["state"] for task in json.load(answer)["tasks"]]
        if not {"queued", "running"} & set(states):
            return
        time.sleep(0.05)
    raise AssertionError(f"after a minute: {states}")


def check_refused(kind, status, param, request, client=client, expected=""):
    """Sends a request that must be refused with this exception, status and parameter, and with this text in the message."""
    try:
        client.chat.completions.create(**{"model": "milepost/policy", "messages": HELLO, "max_tokens": 4, **request})
    except openai.APIStatusError as error:
        assert type(error) is kind and error.status_code == status, (error, request)
        assert isinstance(error.body, dict) and error.body["message"] and error.body["param"] == param, error.body
        assert expected in error.body["message"], error.body
        return
    raise AssertionError(f"accepted: {request}")


def check_refusals(pinned):
    bad = openai.BadRequestError
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "patternProperties": 7}}}
    check_refused(openai.NotFoundError, 404, "model", {"model": "gpt-4o"}, expected=pinned)
    check_refused(openai.NotFoundError, 404, "model", {"model": "milepost/policy@0123456789ab"}, expected=pinned)
    check_refused(bad, 400, "n", {"n": 2})
    check_refused(bad, 400, None, {"temperature": 9})
    check_refused(bad, 400, None, {"messages": []})
    check_refused(bad, 400, "messages", {"messages": [{"role": "user", "content": "word " * 20_000}]})
    check_refused(bad, 400, "messages", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]})
    check_refused(bad, 400, "response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}})
    check_refused(bad, 400, "response_format", {"response_format": wrong})
    check_refused(bad, 400, "messages", {"model": "milepost/agent"}, expected="where")
    check_refused(bad, 400, None, {"model": "milepost/agent", "extra_body": {"milepost": {"url": "http://127.0.0.1:1/", "planer": "x"}}}, expected="planer")
    check_refused(openai.PermissionDeniedError, 403, None, {"model": "milepost/agent", "extra_body": {"milepost": {"url": "http://127.0.0.1:1/", "secrets": ["x"]}}})
    check_refused(openai.AuthenticationError, 401, None, {}, client.with_options(api_key="mp_wrong"))
    reader = client.with_options(api_key=os.environ["DAEMON_READER"])
    assert reader.models.list().data
    check_refused(openai.PermissionDeniedError, 403, None, {}, reader, expected="run")


if __name__ == "__main__":
    pinned = check_models()
    check_policy(pinned)
    check_formats()
    check_refusals(pinned)
    print(check_agent())
    check_disconnect()
    sys.exit(0)
