// What the page asks of the API: the models, and one streamed answer. Knows no document.

export class ApiError extends Error {
  /** A failure told in words. `kind` is one of: key, forbidden, limit, busy, request, missing, unreachable, broken, server. */
  constructor(kind, words) { super(words); this.kind = kind; }
}

const WORDS = {
  key: "The API key was not accepted. Enter a valid key and try again.",
  forbidden: "This key may not use this model. Choose another model or another key.",
  limit: "Too many requests for this key.",
  busy: "No model server can take the question right now. Try again in a moment.",
  missing: "This model is not served here any more. Choose another one.",
  unreachable: "The server cannot be reached. Check the connection and try again.",
  broken: "The answer broke off: the model server stopped before it was finished.",
  server: "The server failed while it handled the question.",
};

function kindOf(status) {
  if (status === 401) return "key";
  if (status === 403) return "forbidden";
  if (status === 404) return "missing";
  if (status === 429) return "limit";
  if (status === 502 || status === 503 || status === 504) return "busy";
  return status >= 500 ? "server" : "request";
}

async function refusal(response) {
  const kind = kindOf(response.status);
  let said = "";
  try { said = (await response.json()).error?.message ?? ""; } catch { /* no body worth showing */ }
  const wait = response.headers.get("retry-after");
  const words = kind === "request" ? said || "The question was not accepted." : WORDS[kind];
  return new ApiError(kind, kind === "limit" && wait ? `${words} Try again in ${wait} s.` : words);
}

function headers(key) {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function ask(url, options) {
  let response;
  try { response = await fetch(url, { cache: "no-store", credentials: "omit", ...options }); }
  catch (error) { if (error.name === "AbortError") throw error; throw new ApiError("unreachable", WORDS.unreachable); }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Return the ids of the models that can chat. */
export async function models(base, key) {
  const response = await ask(`${base}/v1/models`, { headers: headers(key) });
  return (await response.json()).data.map((model) => model.id);
}

/** Yield {text} for each piece of the answer and {usage} when it comes; throw ApiError when it ends badly. */
export async function* answer(base, key, model, messages, signal) {
  const response = await ask(`${base}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers(key) },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let isDone = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") { isDone = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError("broken", WORDS.broken);
      const text = chunk.choices?.[0]?.delta?.content;
      if (text) yield { text };
      if (chunk.usage) yield { usage: chunk.usage };
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("broken", WORDS.broken);
  }
  if (!isDone) throw new ApiError("broken", WORDS.broken);
}

/** Yield the data of each server-sent event of a byte stream. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally { reader.cancel().catch(() => {}); }
}
