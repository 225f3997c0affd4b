// `v1a` of the Standard Webhooks specification, which its own library does not verify: Ed25519.

import { createPublicKey, verify } from "node:crypto";

const toleranceSeconds = 300;

// `whpk_…`; used as the library's Webhook is. Throws where it is not signed.
export class PublicKey {
  constructor(text) {
    const x = Buffer.from(text.replace(/^whpk_/, ""), "base64").toString("base64url");
    this.key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  }

  verify(body, headers, { jsonParse = true } = {}) {
    const [id, timestamp, signatures] = ["id", "timestamp", "signature"].map((name) => headers[`webhook-${name}`] ?? "");
    const age = Math.abs(Date.now() / 1000 - Number.parseInt(timestamp, 10));
    if (!(age <= toleranceSeconds)) throw new Error("too old, too new, or no time");
    const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
    if (!signatures.split(" ").some((each) => this.#signed(signed, each))) throw new Error("no signature by this key");
    return jsonParse ? JSON.parse(body) : undefined;
  }

  #signed(signed, each) {
    const [version, signature = ""] = each.split(",");
    return version === "v1a" && verify(null, signed, this.key, Buffer.from(signature, "base64"));
  }
}
