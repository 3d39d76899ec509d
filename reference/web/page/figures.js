// The figures beside an answer: tokens, TTFT and TPOT as this browser saw them.

export class Figures {
  #sent = performance.now();
  #first = null;
  #last = null;
  #pieces = 0;
  #usage = null;

  piece() {
    this.#last = performance.now();
    this.#first ??= this.#last;
    this.#pieces += 1;
  }

  usage(usage) { this.#usage = usage; }

  /** Return [name, value, what it means] rows; without usage the pieces of the stream stand for tokens and it is said. */
  rows() {
    const tokens = this.#usage?.completion_tokens ?? this.#pieces;
    const rows = [["tokens", this.#usage ? `${tokens}` : `about ${tokens}`, "tokens of the answer"]];
    if (this.#first !== null) rows.push(["TTFT", milliseconds(this.#first - this.#sent), "time to the first token"]);
    if (tokens > 1 && this.#first !== null) {
      const each = (this.#last - this.#first) / (tokens - 1);
      rows.push(["TPOT", milliseconds(each), "time per output token after the first"]);
      if (each > 0) rows.push(["speed", `${(1000 / each).toFixed(0)} tokens/s`, "output tokens per second"]);
    }
    if (this.#usage?.prompt_tokens) rows.push(["prompt", `${this.#usage.prompt_tokens} tokens`, "tokens of the conversation so far"]);
    return rows;
  }
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${value.toFixed(0)} ms`;
}
