// Requests to the server; the token, where one is needed, is kept for this tab only.

const KEY = "ftrl-token";

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

/** The JSON of an answer; Refused where the server says no, TypeError where it cannot be reached. */
export async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token !== null) headers.authorization = `Bearer ${token}`;
  const how = { headers, cache: "no-store", signal: AbortSignal.timeout(10000) };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    Object.assign(how, { method: "POST", body });
  }
  const answer = await fetch(path, how);
  let data = null;
  try {
    data = await answer.json();
  } catch {
    throw new Refused(answer.status, `the answer to ${path} is no JSON`);
  }
  if (!answer.ok) throw new Refused(answer.status, data.error ?? `status ${answer.status}`);
  return data;
}
