/** GPT-2's alphabet: each byte has a printable character. */
const characterOf: string[] = [];
const byteOf = new Map<string, number>();
{
  let extra = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    const character = String.fromCharCode(printable ? byte : extra++);
    characterOf.push(character);
    byteOf.set(character, byte);
  }
}

/** The text's UTF-8 bytes in that alphabet. */
export function bytesToText(text: string): string {
  let plain = true;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x21 || c > 0x7e) {
      plain = false;
      break;
    }
  }
  if (plain) return text;
  let out = '';
  for (const byte of Buffer.from(text, 'utf8')) out += characterOf[byte]!;
  return out;
}

/** A token's bytes; one with a character outside the alphabet (an added token) stands for itself. */
export function textToBytes(token: string): number[] {
  const bytes: number[] = [];
  for (const c of token) {
    const byte = byteOf.get(c);
    if (byte === undefined) return [...Buffer.from(token, 'utf8')];
    bytes.push(byte);
  }
  return bytes;
}
