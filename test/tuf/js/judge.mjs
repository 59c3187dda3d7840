// Reads cases as JSON from standard input, and prints for each whether tuf-js takes the last repository of it: an error
// in words, or an empty string.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { BaseFetcher, Updater } from 'tuf-js'
import { createRequire } from 'node:module'

const { DownloadHTTPError } = createRequire(import.meta.url)('./node_modules/tuf-js/dist/error.js')

// Served is a repository in memory. Whatever version of a role is asked for, it is told its one file: a client must not
// rely on names.
class Served extends BaseFetcher {
  constructor(told) {
    super()
    this.told = told
  }

  find(url) {
    const [, version, role] = url.match(/\/(?:(\d+)\.)?([^/]+)\.json$/)
    switch (role) {
      case 'root': return this.told.roots[version]
      case 'timestamp': return this.told.timestamp
      case 'snapshot': return this.told.snapshot
    }
    return this.told.roles[decodeURIComponent(role)]
  }

  async fetch(url) {
    const file = this.find(url)
    if (file === undefined || file === null) {
      throw new DownloadHTTPError('not found', 404)
    }
    return new Blob([Buffer.from(file, 'base64')]).stream()
  }
}

async function judge(c) {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-tuf-'))
  try {
    writeFileSync(join(dir, 'root.json'), Buffer.from(c.root, 'base64'))
    let verdict = ''
    for (const told of c.told) {
      verdict = await take(dir, told, c.targets)
    }
    return verdict
  } finally {
    rmSync(dir, { recursive: true })
  }
}

async function take(dir, told, targets) {
  try {
    const client = new Updater({ metadataDir: dir, metadataBaseUrl: 'https://tuf.invalid/metadata', fetcher: new Served(told) })
    await client.refresh()
    const digests = new Set()
    for (const name of targets) {
      const found = await client.getTargetInfo(name)
      if (!found) return `there is no target ${name}`
      digests.add(found.hashes.sha256)
    }
    return digests.size === 1 ? '' : 'the targets differ'
  } catch (error) {
    return String(error) || 'an error without words'
  }
}

const verdicts = []
for (const c of JSON.parse(await text(process.stdin))) {
  verdicts.push(await judge(c))
}
process.stdout.write(JSON.stringify(verdicts))
