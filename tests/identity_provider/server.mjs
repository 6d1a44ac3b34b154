// A certified OpenID provider, as its users run it: people are who they type, with the claims that
// a JSON file has of them. Arguments: port, redirect addresses with commas between, the file.
import { readFileSync } from "node:fs";
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, redirects, people] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const [callback] = redirects.split(",");
const base = callback.replace(/\/sign-in\/.*/, "");

function key(kid) {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" };
}

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "groundwork",
      client_secret: "a secret of the client: + & %",
      redirect_uris: redirects.split(","),
      post_logout_redirect_uris: [`${base}/sign-in`],
      backchannel_logout_uri: callback.replace(/callback$/, "logout"),
      backchannel_logout_session_required: true,
    },
  ],
  jwks: { keys: [key(`key ${process.pid}`)] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
  cookies: { keys: ["only for tests"] },
  ttl: { Session: 3600, Interaction: 600, Grant: 3600, AccessToken: 600, IdToken: 600 },
  features: {
    devInteractions: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  fetch: (url, { signal, headers, body, method }) =>
    globalThis.fetch(url, { signal, headers, body, method }), // else it asks nobody on this machine
  async findAccount(_, id) {
    const known = JSON.parse(readFileSync(people))[id] ?? {};
    return { accountId: id, claims: async () => ({ sub: id, ...known }) };
  },
});
provider.on("backchannel.error", (_, error) => console.log("backchannel", error));
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
