// ollama-js: ollama_js.mjs URL; reads the steps as JSON from stdin, prints one JSON document for each call.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const { Ollama } = createRequire(process.env.CLIENTS + '/')('ollama')
const client = new Ollama({ host: process.argv[2] })
const say = (call, result) => console.log(JSON.stringify([call, result]))

for (const [method, given] of JSON.parse(readFileSync(0, 'utf8'))) {
  const { from_: from, ...rest } = given
  const request = from === undefined ? rest : { ...rest, from }
  try {
    const result = await client[method](request)
    if (!given.stream) {
      say(method, result)
      continue
    }
    const parts = []
    for await (const part of result) parts.push(part)
    say(method, parts)
  } catch (error) {
    say(method, { error: error.name, text: error.message, status: error.status_code ?? null })
  }
}
