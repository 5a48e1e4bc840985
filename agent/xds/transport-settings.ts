/**
 * Receive window of a stream and of its connection, on both sides, in bytes. 1 MiB is what the stock agent uses;
 * 64 KB costs a third of the throughput of large pushes and 16 MB gains nothing.
 */
export const windowBytes = 1024 * 1024;

/**
 * Node counts what a session buffers, frames not yet taken by the socket included, and refuses streams over this
 * (default 10). Our own bounds are tighter; this only must not come first. In MB.
 */
export const maxSessionMemoryMb = 1024;
