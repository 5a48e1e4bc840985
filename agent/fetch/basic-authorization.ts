/** The user info of a URL as the value of an `authorization` header; undefined when there is none. A secret. */
export function basicAuthorization(url: URL): string | undefined {
  if (url.username === '' && url.password === '') return undefined;
  return basicValue(decodePercent(url.username), decodePercent(url.password));
}

/** The value of an `authorization` header for a user and password (RFC 7617). A secret. */
export function basicValue(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A lone "%" is meant as it stands.
    return text;
  }
}
