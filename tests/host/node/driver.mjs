// Runs calls of the official client, read as JSON from standard input, one after another; prints what each gave.
import { Resend } from "resend";

let text = "";
for await (const part of process.stdin) text += part;
const resend = new Resend(process.env.RESEND_API_KEY);
const results = [];
for (const [path, ...given] of JSON.parse(text)) {
  const [group, verb] = path.split(".");
  const { data, error } = await resend[group][verb](...given);
  results.push({ data, error });
}
console.log(JSON.stringify(results));
