// Reads sources for the architecture test: what is code, what is comment, who imports whom.
//
// TypeScript 7 has no JavaScript API, so this is a lexer of our own, just deep enough to tell code from comments,
// strings, templates and regular expressions. Lines and columns stay where they were.

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface SourceFile {
  /** Relative to the checkout, with forward slashes. */
  path: string;
  text: string;
  /** The text with comments and the contents of strings, templates and regular expressions blanked out. */
  code: string;
  comments: Comment[];
  imports: Import[];
}

export interface Comment {
  line: number;
  text: string;
}

export interface Import {
  line: number;
  specifier: string;
  /** `type` is gone at run time; `static` and `dynamic` are not. */
  kind: 'type' | 'static' | 'dynamic';
  /** The imported file of the checkout, for relative specifiers. */
  target?: string;
}

const SOURCE_NAME = /\.(ts|tsx|mts|mjs|js)$/;
const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', 'build', '.git']);

/** Every source file under the given folders of the checkout. */
export function readSources(root: string, folders: readonly string[]): SourceFile[] {
  return folders
    .flatMap((folder) => listFiles(root, folder))
    .filter((file) => SOURCE_NAME.test(file))
    .map((file) => parseSource(file, readFileSync(path.join(root, file), 'utf8')));
}

/** Every file under a folder, relative to the checkout; nothing when the folder does not exist. */
export function listFiles(root: string, folder: string): string[] {
  const files: string[] = [];
  let entries: import('node:fs').Dirent[];
  try {
    entries = readdirSync(path.join(root, folder), { withFileTypes: true });
  } catch {
    return files;
  }
  for (const entry of entries) {
    const where = path.posix.join(folder, entry.name);
    if (entry.isFile()) files.push(where);
    else if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name)) files.push(...listFiles(root, where));
  }
  return files.sort();
}

/** Also the suite that every store engine has to pass: it is run by tests only, and left out of what is shipped. */
export function isTest(file: string): boolean {
  return /\.test\.[a-z]+$/.test(file) || /^src\/store\/conformance(\.ts|\/)/.test(file);
}

export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at !== -1 && at < offset; at = text.indexOf('\n', at + 1)) line += 1;
  return line;
}

export function parseSource(file: string, text: string): SourceFile {
  const { code, comments } = separate(text);
  return { path: file, text, code, comments, imports: findImports(file, text, code) };
}

const STATIC_IMPORT = /\b(?:import|export)\b(\s+type\b(?!\s+from\b))?(?:[\w$*{},\s]*?\bfrom\b)?\s*(['"])/g;
const DYNAMIC_IMPORT = /\bimport\s*\(\s*(['"`])/g;

function findImports(file: string, text: string, code: string): Import[] {
  const found: Import[] = [];
  const add = (match: RegExpExecArray, quote: string, kind: Import['kind']) => {
    const start = match.index + match[0].length;
    const specifier = text.slice(start, text.indexOf(quote, start));
    const line = lineAt(text, match.index);
    const target = specifier.startsWith('.')
      ? path.posix.join(path.posix.dirname(file), specifier)
      : undefined;
    found.push({ line, specifier, kind, ...(target === undefined ? {} : { target }) });
  };
  for (const match of code.matchAll(STATIC_IMPORT)) add(match, match[2] ?? "'", match[1] ? 'type' : 'static');
  for (const match of code.matchAll(DYNAMIC_IMPORT)) add(match, match[1] ?? "'", 'dynamic');
  return found;
}

/** After one of these, a slash begins a regular expression; after anything else it divides. */
const BEFORE_REGEX =
  /(^|[(,=:[!&|?{};+\-*%~^<>]|\b(return|typeof|case|in|of|do|else|void|delete|instanceof|new|throw|yield|await))$/;

function separate(text: string): { code: string; comments: Comment[] } {
  const out = text.split('');
  const comments: Comment[] = [];
  /** Depth of open braces inside each `${` that we are in. */
  const templates: number[] = [];
  let at = 0;

  const blank = (from: number, to: number) => {
    for (let i = from; i < to; i += 1) if (out[i] !== '\n') out[i] = ' ';
  };
  const skipTo = (end: number) => {
    blank(at + 1, end - 1);
    at = end;
  };
  const comment = (end: number) => {
    comments.push({ line: lineAt(text, at), text: text.slice(at, end) });
    blank(at, end);
    at = end;
  };
  /** From just after a backtick or the brace that ends a `${}`: to the closing backtick or the next `${`. */
  const template = (from: number) => {
    let end = from;
    while (end < text.length && text[end] !== '`' && !text.startsWith('${', end))
      end += text[end] === '\\' ? 2 : 1;
    blank(from, end);
    if (text.startsWith('${', end)) {
      templates.push(0);
      at = end + 2;
    } else at = end + 1;
  };

  while (at < text.length) {
    const char = text[at] as string;
    const depth = templates.at(-1);
    if (text.startsWith('//', at)) comment(indexOrEnd(text, '\n', at));
    else if (text.startsWith('/*', at)) comment(indexOrEnd(text, '*/', at + 2) + 2);
    else if (char === "'" || char === '"') skipTo(stringEnd(text, at));
    else if (char === '`') template(at + 1);
    else if (char === '/' && BEFORE_REGEX.test(text.slice(Math.max(0, at - 40), at).trimEnd()))
      skipTo(regexEnd(text, at));
    else if (char === '}' && depth === 0) {
      templates.pop();
      template(at + 1);
    } else {
      if (depth !== undefined && char === '{') templates[templates.length - 1] = depth + 1;
      if (depth !== undefined && char === '}') templates[templates.length - 1] = depth - 1;
      at += 1;
    }
  }
  return { code: out.join(''), comments };
}

function indexOrEnd(text: string, what: string, from: number): number {
  const at = text.indexOf(what, from);
  return at === -1 ? text.length : at;
}

function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== text[start] && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function regexEnd(text: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < text.length; at += 1) {
    const char = text[at];
    if (char === '\\') at += 1;
    else if (char === '\n') return start + 2;
    else if (char === '[') inClass = true;
    else if (char === ']') inClass = false;
    else if (char === '/' && !inClass) return at + 1;
  }
  return text.length;
}
