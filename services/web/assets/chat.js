// A question to an endpoint, answered as a stream of tokens with the trace of every node at its end.

import { headers, Problem, raw } from "./api.js";

/**
 * Ask an endpoint; of nodes with `messages` these are taken, and they are not asked.
 *
 * `onText(piece)` gets the answer's text as it comes; `onEnd({reason, extras, usage, seconds, first})` why it ended,
 * what NeuroMAS adds (the trace), the tokens, the seconds of the whole and of the first token.
 */
export async function ask({ model, text, temperature, seed, messages = {} }, { signal, onText, onEnd }) {
  const started = performance.now();
  const body = { model, messages: [{ role: "user", content: text }], temperature, stream: true,
    stream_options: { include_usage: true }, neuromas: { trace: true, messages }, ...(seed === null ? {} : { seed }) };
  const answer = await raw("/v1/chat/completions", { method: "POST", signal, headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) });
  const end = { reason: null, extras: null, usage: null, seconds: 0, first: null };
  const since = () => (performance.now() - started) / 1000;
  let isDone = false;
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") { isDone = true; continue; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Problem(500, chunk.error);
    end.usage = chunk.usage || end.usage;
    end.extras = chunk.neuromas || end.extras;
    for (const choice of chunk.choices || []) {
      end.reason = choice.finish_reason || end.reason;
      if (choice.delta && choice.delta.content) {
        end.first ??= since();
        onText(choice.delta.content);
      }
    }
  }
  if (!isDone) throw new Problem(0, { code: "broken", message: "the answer broke off; ask again" });
  end.seconds = since();
  onEnd(end);
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const line = block.split("\n").find((one) => one.startsWith("data: "));
      if (line) yield line.slice(6);
    }
  }
}
