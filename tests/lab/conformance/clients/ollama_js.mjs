// ollama-js: ollama_js.mjs URL; reads the steps as JSON from stdin, prints one JSON document for each call.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const { Ollama } = createRequire(process.env.CLIENTS + '/')('ollama')
const client = new Ollama({ host: process.argv[2] })
const say = (call, result) => console.log(JSON.stringify([call, result]))

// Ollama unloads in the background, and lists what it is closing until that is over (server/sched.go).
const listed = async (model) => (await client.ps()).models.some((each) => each.model === `${model}:latest`)

for (const [method, given] of JSON.parse(readFileSync(0, 'utf8'))) {
  const { from_: from, ...rest } = given
  const request = from === undefined ? rest : { ...rest, from }
  try {
    const result = await client[method](request)
    if (!given.stream) {
      say(method, result)
      while (given.keep_alive === 0 && (await listed(given.model))) await new Promise((done) => setTimeout(done, 20))
      continue
    }
    const parts = []
    for await (const part of result) parts.push(part)
    say(method, parts)
  } catch (error) {
    say(method, { error: error.name, text: error.message, status: error.status_code ?? null })
  }
}
