/**
 * What a server that asks for MD5 is answered.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */

/** `md5` and the hex of md5(md5(password, user), salt). @throws where the runtime has no MD5. */
export async function md5Answer(user: string, password: string, salt: Uint8Array): Promise<string> {
  const inner = await md5Hex(new TextEncoder().encode(password + user));
  const hex = new TextEncoder().encode(inner);
  const salted = new Uint8Array(hex.length + salt.length);
  salted.set(hex);
  salted.set(salt, hex.length);
  return `md5${await md5Hex(salted)}`;
}

async function md5Hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  try {
    const { createHash } = await import("node:crypto");
    return createHash("md5").update(bytes).digest("hex");
  } catch {
    // Workers need not have `node:crypto`; of all WebCrypto, theirs alone knows MD5.
    const digest = await crypto.subtle.digest("MD5", bytes);
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join(
      "",
    );
  }
}
