"""langchain-ollama: langchain_python.py URL; prints one JSON document for each call."""

import asyncio
import sys

from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from tests.lab.conformance.clients.steps import say


def plain(url: str) -> None:
    chat = ChatOllama(model="sky", base_url=url, validate_model_on_init=True, seed=1)
    say("invoke", chat.invoke("why?"))
    say("stream", list(chat.stream([("system", "be brief"), ("human", "why?")])))
    say("batch", [answer.content for answer in chat.batch(["a", "b"])])
    model = OllamaLLM(model="sky", base_url=url)
    say("llm", [model.invoke("why?"), list(model.stream("why?"))])
    embeddings = OllamaEmbeddings(model="sky", base_url=url)
    say("embed", [embeddings.embed_query("a"), embeddings.embed_documents(["a", "b c"])])
    try:
        ChatOllama(model="nope", base_url=url).invoke("why?")
    except Exception as error:  # noqa: BLE001  whatever it is, it is compared
        say("missing", [type(error).__name__, str(error)])
    try:
        ChatOllama(model="nope", base_url=url, validate_model_on_init=True)
    except ValueError as error:
        say("missing", str(error))


async def asynchronous(url: str) -> None:
    chat = ChatOllama(model="sky", base_url=url, num_predict=4)
    say("ainvoke", await chat.ainvoke("why?"))
    say("astream", [each async for each in chat.astream("why?")])
    say("aembed", await OllamaEmbeddings(model="sky", base_url=url).aembed_query("a"))


if __name__ == "__main__":
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(sys.argv[2]))
    else:
        plain(sys.argv[2])
