// Package sops reads files that SOPS encrypted for age keys: YAML, JSON, and files of any content, which SOPS keeps as
// JSON.
//
// It reads the documented format itself, since SOPS' own packages link the clients of several clouds, PGP and a
// database. A test reads what SOPS 3.13 wrote: see testdata/README.md.
//
// What always holds: a value is returned only if all of the file's values, in their order, are what was encrypted (the
// file's MAC). The package encrypts nothing, asks no key service and reads no file. Its functions are pure, and may be
// called at once.
package sops
