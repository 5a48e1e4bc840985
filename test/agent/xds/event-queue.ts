/** Events in the order they came, for a test that waits for the next one. */
export class EventQueue<Event> {
  readonly #events: Event[] = [];
  readonly #waiting: ((event: Event) => void)[] = [];

  push(event: Event): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#events.push(event);
    else waiter(event);
  }

  async next(): Promise<Event> {
    const event = this.#events.shift();
    if (event !== undefined) return event;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  /** Events that nobody has waited for. */
  get pendingCount(): number {
    return this.#events.length;
  }
}
